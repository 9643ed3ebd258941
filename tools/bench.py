#!/usr/bin/env python3
"""Measurements of record, each a ratio within one run: bench.py [NAME...]. Names: decode, ranks, limit (all three by default), peers.

Models are files: --smollm2 FILE --big FILE (a 1.2 B llama shape in Q4_0), for `limit` --huge FILE (the same in F16, 2.5 GB). llama.cpp's tools run by --llama PREFIX, a command to
put before `llama-bench` and `llama-perplexity` ("" when they are on the path); --llama-models DIR is where those tools see the files.

`peers` measures `shoal bench` and llama.cpp side by side: --models FILE... --threads 1,2 --isas amx,avx512,avx2 (default: the best of each side).
Which of its CPU libraries llama.cpp takes it decides itself; --llama-isa avx2=PREFIX names a prefix that runs a copy without the newer ones. With
--json PATH the table is written beside it as .md."""
import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import tempfile
import time

from bench_peers import measure_peers
from local_nodes import Failed, Node, pair

PROMPT = "The history of the city begins with a small settlement on the river, and " * 8


def median(values):
    return statistics.median(values)


def decode_of(node, model, repeat, tokens):
    """Median decode and prefill tokens per second of greedy continuations."""
    runs = [node.json("run", model, PROMPT, "--raw", "--temperature", "0", "-n", str(tokens)) for _ in range(repeat)]
    return {name: median(r[name] for r in runs) for name in ("decode_tokens_per_s", "prefill_tokens_per_s")}


def llama_bench(model, threads, core=None):
    words = shlex.split(ARGS.llama) + ["llama-bench", "-m", seen_by_llama(model), "-t", str(threads), "-p", "128", "-n", str(ARGS.tokens), "-r", "3", "-o", "json"]
    pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
    rows = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, preexec_fn=pin).stdout)
    return {"prefill_tokens_per_s": next(r["avg_ts"] for r in rows if r["n_gen"] == 0),
            "decode_tokens_per_s": next(r["avg_ts"] for r in rows if r["n_gen"] > 0)}


def seen_by_llama(model):
    return str(pathlib.Path(ARGS.llama_models) / pathlib.Path(model).name) if ARGS.llama_models else model


def bench_decode(scratch):
    """One rank on two threads against llama.cpp on two threads; sides alternate, medians."""
    rows = []
    for model in (ARGS.smollm2, ARGS.big):
        ours, theirs = [], []
        for turn in range(ARGS.repeat):
            node = Node(scratch / f"one-{turn}", "127.0.0.2", arguments=["-t", "2"])
            try:
                node.shoal("place", model, "--nodes", "1", "--context", "1024")
                ours.append(decode_of(node, model, 2, ARGS.tokens))
            finally:
                node.stop()
            theirs.append(llama_bench(model, 2))
        row = {"model": pathlib.Path(model).name}
        for name in ("decode_tokens_per_s", "prefill_tokens_per_s"):
            row[name], row["llama_" + name] = median(o[name] for o in ours), median(t[name] for t in theirs)
            row[name.split("_")[0] + "_ratio"] = row[name] / row["llama_" + name]
        rows.append(row)
    return rows


def bench_ranks(scratch):
    """Two one-core ranks against one one-core rank."""
    a, b = Node(scratch / "a", "127.0.0.2", core=0), Node(scratch / "b", "127.0.0.3", core=1)
    rows = []
    try:
        pair(a, b)
        for model in (ARGS.smollm2, ARGS.big):
            speeds = {1: [], 2: []}
            for _ in range(ARGS.repeat):
                for ranks in (1, 2):
                    a.shoal("place", model, "--nodes", str(ranks), "--context", "1024")
                    speeds[ranks].append(decode_of(a, model, 2, ARGS.tokens))
                    a.shoal("stop", model)
            row = {"model": pathlib.Path(model).name}
            for name in ("decode_tokens_per_s", "prefill_tokens_per_s"):
                one, two = (median(s[name] for s in speeds[r]) for r in (1, 2))
                row |= {f"one_{name}": one, f"two_{name}": two, name.split("_")[0] + "_gain": two / one}
            rows.append(row)
    finally:
        a.stop()
        b.stop()
    return rows


class Cgroup:
    """A memory limit that the kernel holds, page cache included; cgroups of either version. Needs root."""

    def __init__(self, name, limit_bytes):
        first = pathlib.Path("/sys/fs/cgroup/memory")
        self.path = (first if first.is_dir() else first.parent) / f"shoal-bench-{os.getpid()}-{name}"
        self.path.mkdir()
        (self.path / ("memory.limit_in_bytes" if first.is_dir() else "memory.max")).write_text(str(limit_bytes))

    def peak_bytes(self):
        file = next(f for f in (self.path / "memory.max_usage_in_bytes", self.path / "memory.peak") if f.exists())
        return int(file.read_text())

    def remove(self):
        for _ in range(50):
            try:
                return self.path.rmdir()
            except OSError:
                time.sleep(0.1)


def forget_pages_of(path):
    """Pages that are cached already are counted in nobody's cgroup."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bench_limit(scratch):
    """A model of 2.5 GB on machines of 1.8 GB: one node, two nodes, and llama.cpp, each inside a cgroup of that size."""
    limit_bytes, rows = 1_800_000_000, []
    groups = [Cgroup(name, limit_bytes) for name in ("a", "b", "llama")]
    nodes = []
    try:
        for i, group in enumerate(groups[:2]):
            nodes.append(Node(scratch / f"n{i}", f"127.0.0.{2 + i}", core=i, arguments=["--memory", "1.8GB"], cgroup=group.path))
        pair(*nodes)
        try:
            nodes[0].shoal("place", ARGS.huge, "--nodes", "1", "--context", "1024", "--sequences", "1")
        except Failed as refused:
            rows.append({"what": "one node", "says": refused.stderr.strip().splitlines()[-1]})
        nodes[0].shoal("place", ARGS.huge, "--nodes", "2", "--context", "1024", "--sequences", "1")
        rows.append({"what": "two nodes", **decode_of(nodes[0], ARGS.huge, ARGS.repeat, ARGS.tokens),
                     "peak_resident_bytes": [r["stats"]["resident_peak_bytes"] for r in nodes[0].instance(ARGS.huge)["ranks"]]})
        for node in nodes:
            node.stop()
        for mode in ("mmap", "none"):
            words = shlex.split(ARGS.llama) + ["llama-bench", "-m", seen_by_llama(ARGS.huge), "-t", "2", "-lm", mode, "-p", "0", "-n", "8", "-r", "1", "-o", "json"]
            forget_pages_of(ARGS.huge)
            enter = lambda: (groups[2].path / "cgroup.procs").write_text(str(os.getpid()))
            row = {"what": "llama.cpp, load mode " + mode}
            try:
                done = subprocess.run(words, capture_output=True, text=True, preexec_fn=enter, timeout=300)
                row |= {"exit": done.returncode, "says": "killed for memory" if done.returncode == -9 else done.stderr.strip()[-100:]} if done.returncode else {}
                if done.returncode == 0:
                    row |= {"decode_tokens_per_s": json.loads(done.stdout)[0]["avg_ts"]}
            except subprocess.TimeoutExpired:
                row |= {"says": "8 tokens were not done after 300 s"}
            rows.append(row)
    finally:
        for node in nodes:
            node.stop()
        for group in groups:
            group.remove()
    return rows


BENCHES = {"decode": bench_decode, "ranks": bench_ranks, "limit": bench_limit}


def main():
    results = {}
    if "peers" in ARGS.names:
        with tempfile.TemporaryDirectory(prefix="shoal-bench-") as scratch:
            return measure_peers(ARGS, pathlib.Path(scratch))
    for name in ARGS.names or BENCHES:
        with tempfile.TemporaryDirectory(prefix="shoal-bench-") as scratch:
            results[name] = BENCHES[name](pathlib.Path(scratch))
        for row in results[name]:
            print(name, "  ".join(f"{k}={v:.2f}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
    if ARGS.json:
        pathlib.Path(ARGS.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, "peers", []])
    parser.add_argument("--smollm2")
    parser.add_argument("--big")
    parser.add_argument("--huge")
    parser.add_argument("--llama", default="")
    parser.add_argument("--llama-models", default="")
    parser.add_argument("--models", nargs="+", metavar="FILE", help="of peers")
    parser.add_argument("--threads", default=str(len(os.sched_getaffinity(0))), help="of peers: counts, with commas between")
    parser.add_argument("--isas", default="", help="of peers: names, with commas between")
    parser.add_argument("--llama-isa", action="append", default=[], metavar="ISA=PREFIX", help="of peers: llama.cpp limited to an instruction set")
    parser.add_argument("--prompt-tokens", default="512", help="of peers: lengths of prompts, with commas between")
    parser.add_argument("--batches", default="1", help="of peers: how many sequences decode at once, with commas between")
    parser.add_argument("--contexts", default="0", help="of peers: tokens in the cache before decoding, with commas between")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--json", help="write the results here too")
    ARGS = parser.parse_args()
    if "peers" in ARGS.names and len(ARGS.names) > 1:
        parser.error("peers is a run of its own")
    needed = {"limit": ["huge"], "peers": ["models"]}
    for name in ARGS.names or BENCHES:
        for option in needed.get(name, ["smollm2", "big"]):
            if getattr(ARGS, option) is None:
                parser.error(f"{name} needs --{option} FILE")
    main()
