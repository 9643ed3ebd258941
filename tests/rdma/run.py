#!/usr/bin/env python3
"""Runs a program in a machine that has RDMA: Debian's stock kernel in QEMU, software emulation only, with soft-RoCE on
a virtual network interface and the real libibverbs. Takes the program and its arguments; with --folder the machine and
the packages are kept there. Exit codes: the program's; 77 when the machine could not be made, with the reason."""
import argparse
import gzip
import lzma
import os
import pathlib
import re
import select
import shlex
import shutil
import stat
import subprocess
import sys
import time

SKIPPED = 77
MODULES = ["crc32_generic", "veth", "rdma_rxe"]
TOOLS = ["/usr/sbin/ip", "/usr/bin/rdma"]
MERGED = ["bin", "sbin", "lib", "lib64"]  # as in Debian, links into /usr; libibverbs looks for its providers there
LAST_LINE = "the program in the machine ended with "

INIT = """#!/bin/busybox sh
export PATH=/bin
for folder in proc sys dev tmp run; do busybox mkdir -p /$folder; done
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
fail() { echo "cannot prepare the machine: $1"; busybox poweroff -f; }
for module in $(busybox cat /modules/order); do busybox insmod /modules/$module || fail "no module $module"; done
/usr/sbin/ip link set lo up
/usr/sbin/ip link add veth0 type veth peer name veth1 || fail "no veth"
/usr/sbin/ip address add 10.77.0.1/24 dev veth0
/usr/sbin/ip link set veth1 up
/usr/sbin/ip link set veth0 up
/usr/bin/rdma link add rxe0 type rxe netdev veth0 || fail "no soft-RoCE"
/usr/bin/rdma link show
ulimit -l unlimited
cd /work
COMMAND
echo "LAST_LINE$?"
busybox poweroff -f
"""


class Skip(Exception):
    pass


def output_of(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Skip(f"{shlex.join(map(str, command))}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


def unpack_kernel(folder):
    """Debian's kernel package, not installed: only its files are wanted."""
    described = output_of("apt-cache", "depends", "linux-image-amd64")
    found = re.search(r"Depends: (linux-image-\S+)", described)
    if not found:
        raise Skip("apt knows no package linux-image-amd64; this test needs Debian's kernel")
    name = found.group(1)
    root = folder / name
    if not root.is_dir():
        print(f"downloading {name}", file=sys.stderr)
        download = folder / "download"
        shutil.rmtree(download, ignore_errors=True)
        download.mkdir(parents=True)
        output_of("apt-get", "download", "-qq", name, cwd=download, timeout=900)
        (package,) = download.glob("*.deb")
        output_of("dpkg", "-x", str(package), str(folder / "unpacking"))
        (folder / "unpacking").rename(root)
        shutil.rmtree(download)
    return root


def module_bytes(path):
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    return gzip.decompress(data) if path.suffix == ".gz" else data


def modules_in_order(root):
    """(name, bytes) of the modules and of what they depend on, those first."""
    files = {path.name.split(".ko")[0].replace("-", "_"): path for path in root.rglob("*.ko*")}
    order = {}

    def add(name):
        if name in order:
            return
        if name not in files:
            raise Skip(f"the kernel {root.name} has no module {name}")
        data = module_bytes(files[name])
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in depends.group(1).decode().split(",") if depends else []:
            if other:
                add(other.replace("-", "_"))
        order[name] = data

    for name in MODULES:
        add(name)
    return order


def libraries_of(program):
    found = re.findall(r"(/\S+) \(0x", output_of("ldd", str(program)))
    return [pathlib.Path(path) for path in found]


class Archive:
    """An initramfs: a cpio archive in the "newc" form (cpio(5))."""

    def __init__(self):
        self.parts, self.names = [], set()
        for folder in MERGED:
            self.add(folder, f"usr/{folder}".encode(), stat.S_IFLNK | 0o777)

    def add(self, name, data, mode):
        name = str(name).lstrip("/")
        if name.split("/")[0] in MERGED and "/" in name:
            name = f"usr/{name}"
        if name in self.names:
            return
        parent = os.path.dirname(name)
        if parent:
            self.add(parent, b"", stat.S_IFDIR | 0o755)
        self.names.add(name)
        self._put(name, data, mode)

    def _put(self, name, data, mode):
        fields = [len(self.parts) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        head = "070701" + "".join(f"{field:08x}" for field in fields) + name + "\0"
        for piece in (head.encode(), data):
            self.parts.append(piece + bytes(-len(piece) % 4))

    def add_file(self, name, path):
        path = pathlib.Path(path)
        self.add(name, path.read_bytes(), stat.S_IFREG | (0o755 if os.access(path, os.X_OK) else 0o644))

    def add_program(self, name, path):
        self.add_file(name, path)
        for library in libraries_of(path):
            self.add_file(library, library)

    def finish(self):
        self._put("TRAILER!!!", b"", 0)
        return b"".join(self.parts)


def find_library(name):
    found = re.search(rf"{re.escape(name)} .*=> (\S+)", output_of("/sbin/ldconfig", "-p"))
    if not found:
        raise Skip(f"there is no {name}; install the packages libibverbs1 and ibverbs-providers")
    return pathlib.Path(found.group(1))


def make_machine(program, arguments, files, kernel):
    archive = Archive()
    busybox = shutil.which("busybox") or "/bin/busybox"
    if not os.path.exists(busybox):
        raise Skip("there is no busybox; install the package busybox-static")
    archive.add_file("bin/busybox", busybox)
    archive.add("bin/sh", b"busybox", stat.S_IFLNK | 0o777)
    for tool in TOOLS:
        if not os.path.exists(tool):
            raise Skip(f"there is no {tool}; install the package iproute2")
        archive.add_program(tool, tool)
    verbs = find_library("libibverbs.so.1")
    archive.add_program(verbs, verbs)
    provider = next((verbs.parent / "libibverbs").glob("librxe-*.so"), None)
    if provider is None or not os.path.exists("/etc/libibverbs.d/rxe.driver"):
        raise Skip("libibverbs has no provider rxe; install the package ibverbs-providers")
    archive.add_program(provider, provider)
    archive.add_file("etc/libibverbs.d/rxe.driver", "/etc/libibverbs.d/rxe.driver")
    modules = modules_in_order(kernel)
    for name, data in modules.items():
        archive.add(f"modules/{name}", data, stat.S_IFREG | 0o644)
    archive.add("modules/order", "\n".join(modules).encode(), stat.S_IFREG | 0o644)
    archive.add_program("work/program", program)
    for file in files:
        archive.add_file(file.resolve(), file)
    command = shlex.join(["/work/program", *arguments])
    init = INIT.replace("COMMAND", command).replace("LAST_LINE", LAST_LINE)
    archive.add("init", init.encode(), stat.S_IFREG | 0o755)
    return archive.finish()


def boot(kernel, initramfs, timeout_s):
    emulator = shutil.which("qemu-system-x86_64")
    if emulator is None:
        raise Skip("there is no qemu-system-x86_64; install the package qemu-system-x86")
    (image,) = (kernel / "boot").glob("vmlinuz-*")
    command = [emulator, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-nographic", "-no-reboot",
               "-nodefaults", "-serial", "stdio", "-kernel", str(image), "-initrd", str(initramfs),
               "-append", "console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check random.trust_cpu=on"]
    machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    deadline = time.monotonic() + timeout_s
    code, tail = None, ""
    try:
        while time.monotonic() < deadline:
            if not select.select([machine.stdout], [], [], 1)[0]:
                continue
            text = os.read(machine.stdout.fileno(), 65536).decode(errors="replace")
            if not text:
                break
            print(text, end="", flush=True)
            tail = (tail + text)[-4000:]
    finally:
        machine.kill()
        machine.wait()
    found = re.search(re.escape(LAST_LINE) + r"(\d+)", tail)
    if found:
        code = int(found.group(1))
    elif "cannot prepare the machine" in tail:
        raise Skip(tail[tail.index("cannot prepare the machine") :].splitlines()[0])
    else:
        print(f"the machine said nothing of an end within {timeout_s} seconds", file=sys.stderr)
    return 1 if code is None else code


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("build/rdma"))
    parser.add_argument("--timeout", type=int, default=300, metavar="SECONDS")
    parser.add_argument("--file", type=pathlib.Path, action="append", default=[], help="also there, under its own path")
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    wanted = parser.parse_args()
    try:
        wanted.folder.mkdir(parents=True, exist_ok=True)
        kernel = unpack_kernel(wanted.folder.resolve())
        initramfs = wanted.folder / "initramfs"
        initramfs.write_bytes(make_machine(wanted.program, wanted.arguments, wanted.file, kernel))
        return boot(kernel, initramfs, wanted.timeout)
    except (Skip, subprocess.TimeoutExpired) as why:
        print(f"\n*** SKIPPED: the test over RDMA did not run. {why}\n", file=sys.stderr)
        return SKIPPED


sys.exit(main())
