"""Shoal daemons on this machine, each as if it had a machine to itself: its own home, address and, if asked, core.
Used by the demo and by the tests that run real processes."""
import json
import os
import pathlib
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHOAL = pathlib.Path(os.environ.get("SHOAL_BINARY", ROOT / "build" / "shoal"))


class Failed(Exception):
    """A command that exited with something else than 0."""

    def __init__(self, words, done):
        super().__init__(f"`shoal {' '.join(map(str, words))}` exited with {done.returncode}: {done.stdout}{done.stderr or ''}")
        self.code, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr or ""


def shoal(*words, home, show=False, stdin=subprocess.DEVNULL, timeout=300, environment=None):
    """Runs one command; its standard output."""
    done = subprocess.run([SHOAL, *map(str, words), "--home", home], stdout=subprocess.PIPE, stderr=None if show else subprocess.PIPE,
                          stdin=stdin, text=True, timeout=timeout, env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        raise Failed(words, done)
    return done.stdout


class Node:
    """`core` pins the node to one; `cgroup` is a folder of cgroups that it is to live in; `binary` is the daemon's program."""

    def __init__(self, home, address, name=None, core=None, arguments=(), cluster_port=0, environment=None, cgroup=None,
                 binary=SHOAL):
        self.home, self.address, self.name = pathlib.Path(home), address, name or pathlib.Path(home).name
        self.core, self.arguments, self.cluster_port, self.environment = core, list(arguments), cluster_port, environment
        self.cgroup, self.binary = cgroup, binary
        self.home.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self):
        def settle():
            if self.core is not None:
                os.sched_setaffinity(0, {self.core})
            if self.cgroup is not None:
                (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))

        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--home", self.home, "--name", self.name, "--listen", f"{self.address}:0",
                 "--cluster-listen", f"{self.address}:{self.cluster_port}", *self.arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=settle, start_new_session=True,
                env={**os.environ, **(self.environment or {})})
        self.status = self.wait_until_up()
        self.cluster_port = self.status["cluster_port"]  # the same after a restart

    @property
    def log_path(self):
        return self.home / "serve.log"

    @property
    def api(self):
        return f"http://{self.status['api_address']}"

    def wait_until_up(self):
        for _ in range(300):
            if self.process.poll() is not None:
                raise RuntimeError(f"node {self.name} ended at once:\n{self.log_path.read_text()[-2000:]}")
            try:
                return self.json("status")
            except Failed:
                time.sleep(0.1)
        raise RuntimeError(f"node {self.name} did not come up; see {self.log_path}")

    def shoal(self, *words, **options):
        return shoal(*words, home=self.home, **options)

    def json(self, *words, **options):
        return json.loads(self.shoal(*words, "--json", **options))

    def instance(self, model):
        return next((i for i in self.json("ps")["instances"] if i["model"] == model), None)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()


def until(condition, what, seconds=30):
    """Waits for a condition; its value. Fails loudly."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s for {what}")


def pair(inviter, joiner):
    joiner.shoal("cluster", "join", inviter.json("cluster", "invite")["code"])

    def hear_each_other(node):
        nodes = node.json("nodes")["nodes"]
        return all(n["state"] in ("alive", "this node") and "facts" in n for n in nodes) and len(nodes) >= 2

    until(lambda: hear_each_other(inviter) and hear_each_other(joiner), "the nodes to hear each other")
