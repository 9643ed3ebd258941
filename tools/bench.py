#!/usr/bin/env python3
"""Measurements of record, each a ratio within one run: bench.py [NAME...]. Names: decode, ranks, perplexity, memory.

Models are files: --smollm2 FILE --big FILE (a 1.2 B llama shape in Q4_0). llama.cpp's tools run by --llama PREFIX, a command to
put before `llama-bench` and `llama-perplexity` ("" when they are on the path); --llama-models DIR is where those tools see the files."""
import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import tempfile

from local_nodes import Node, pair

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


BENCHES = {"decode": bench_decode, "ranks": bench_ranks}


def main():
    results = {}
    for name in ARGS.names or BENCHES:
        with tempfile.TemporaryDirectory(prefix="shoal-bench-") as scratch:
            results[name] = BENCHES[name](pathlib.Path(scratch))
        for row in results[name]:
            print(name, "  ".join(f"{k}={v:.2f}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
    if ARGS.json:
        pathlib.Path(ARGS.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []])
    parser.add_argument("--smollm2", required=True)
    parser.add_argument("--big", required=True)
    parser.add_argument("--llama", default="")
    parser.add_argument("--llama-models", default="")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--json", help="write the results here too")
    ARGS = parser.parse_args()
    main()
