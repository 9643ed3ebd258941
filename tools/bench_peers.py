"""`bench.py peers`: Shoal and llama.cpp on the same files in one run. Sides alternate, each turn is a process of its own that loads,
warms up and measures once; medians over the turns. Prints a table as it goes and keeps what it has if it is stopped; what either side
cannot run is a line that says so, and the rest goes on."""
import json
import os
import pathlib
import platform
import re
import shlex
import statistics
import subprocess
import time

from local_nodes import ROOT, Failed, shoal

COLUMNS = ("model", "isa", "threads", "measure", "shoal", "llama.cpp", "ratio", "of limit")


class PeerFailed(Exception):
    """llama.cpp's command exited with something else than 0."""


class Llama:
    """llama.cpp's tools behind a prefix; `models` is the folder in which they see the files."""

    def __init__(self, prefix, models):
        self.prefix, self.models = shlex.split(prefix), models
        self.cpu = None  # the library that it chose, once it ran

    def run(self, *words):
        command = [*self.prefix, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise PeerFailed(f"`{shlex.join(command)}` exited with {done.returncode}: {done.stderr.strip()[-500:]}")
        if loaded := re.search(r"libggml-cpu-(\w+)\.", done.stderr):
            self.cpu = loaded[1]
        return done.stdout

    def seen(self, model):
        return str(pathlib.Path(self.models) / model.name) if self.models else str(model)

    def measure(self, model, threads, wanted):
        """Tokens per second by measure, as ours() below."""
        common = ("llama-bench", "-m", self.seen(model), "-t", threads, "-r", 1, "-o", "json")
        listed = lambda numbers: ",".join(map(str, numbers))
        speeds = {}
        for row in json.loads(self.run(*common, "-p", listed(wanted.prompts), "-n", 0)):
            speeds["prefill", row["n_prompt"]] = row["avg_ts"]
        if 1 in wanted.batches:
            for row in json.loads(self.run(*common, "-p", 0, "-n", wanted.tokens, "-d", listed(wanted.contexts))):
                speeds["decode", 1, row["n_depth"]] = row["avg_ts"]
        batches = [b for b in wanted.batches if b > 1]
        for context in wanted.contexts if batches else ():
            prompt = max(1, context)  # it has no empty prompts
            words = ("llama-batched-bench", "-m", self.seen(model), "-t", threads, "-npp", prompt, "-ntg", wanted.tokens,
                     "-npl", listed(batches), "-c", max(batches) * (prompt + wanted.tokens), "--output-format", "jsonl")
            for line in self.run(*words).splitlines():
                if line.startswith("{"):
                    row = json.loads(line)
                    speeds["decode", row["pl"], context] = row["speed_tg"]
        return speeds


class Wanted:
    def __init__(self, arguments):
        numbers = lambda text: [int(word) for word in text.split(",")]
        self.prompts, self.contexts, self.batches = (numbers(t) for t in (arguments.prompt_tokens, arguments.contexts, arguments.batches))
        self.tokens = arguments.tokens


def ours(model, isa, threads, wanted, home):
    """Tokens per second and the share of the limit (peak or probe), by ("prefill", tokens) and ("decode", batch, context)."""
    listed = lambda numbers: ",".join(map(str, numbers))
    words = ["bench", model, "--json", "--quiet", "--repeat", 1, "-t", threads, "--prompt-tokens", listed(wanted.prompts), "--output-tokens",
             wanted.tokens, "--batch", listed(wanted.batches), "--context", listed(wanted.contexts)] + (["--isa", isa] if isa else [])
    report = json.loads(shoal(*words, home=home, timeout=None))
    speeds, shares = {}, {}
    for row in report["results"]:
        prefill, decode = ("prefill", row["prompt_tokens"]), ("decode", row["batch"], row["context"])
        speeds[prefill], speeds[decode] = row["prefill_tokens_per_s"], row["decode_tokens_per_s"]
        shares[prefill] = row["prefill_operations_per_s"] / row["peak_operations_per_s"]
        shares[decode] = row["decode_bytes_per_s"] / row["read_bytes_per_s"]
    return speeds, shares, report


def rows_of(model, isa, threads, wanted, llama, turns, home):
    mine, theirs, shares, reports = {}, {}, {}, []
    for turn in range(turns):
        def shoal_side():
            speeds, share, report = ours(model, isa, threads, wanted, home)
            reports.append(report)
            for key in speeds:
                mine.setdefault(key, []).append(speeds[key])
                shares.setdefault(key, []).append(share[key])

        def llama_side():
            for key, speed in llama.measure(model, threads, wanted).items():
                theirs.setdefault(key, []).append(speed)

        for side in (shoal_side, llama_side) if turn % 2 == 0 else (llama_side, shoal_side):
            side()
    case = {"model": model.name, "isa": reports[0]["results"][0]["isa"], "threads": threads, "llama_cpu": llama.cpu}
    yield case | {"measure": "load", "load_s": statistics.median(r["load_s"] for r in reports),
                  "load_bytes_per_s": statistics.median(r["load_bytes_per_s"] for r in reports)}
    for key in mine:
        row = case | {"measure": key[0]}
        row |= {"prompt_tokens": key[1]} if key[0] == "prefill" else {"batch": key[1], "context": key[2], "output_tokens": wanted.tokens}
        row |= {"tokens_per_s": statistics.median(mine[key]), "llama_tokens_per_s": statistics.median(theirs[key]),
                "of_limit": statistics.median(shares[key]), "tokens_per_s_of_turns": mine[key], "llama_tokens_per_s_of_turns": theirs[key]}
        yield row | {"ratio": row["tokens_per_s"] / row["llama_tokens_per_s"]}


def rows_or_why_not(model, isa, threads, *rest):
    try:
        yield from rows_of(model, isa, threads, *rest)
    except (Failed, PeerFailed) as failed:
        yield {"model": model.name, "isa": isa, "threads": threads, "measure": "failed", "why": str(failed)}


def line_of(row):
    if row["measure"] == "failed":
        return f"| {row['model'].removesuffix('.gguf')} | {row['isa']} | {row['threads']} | failed: {' '.join(row['why'].split())[-200:]} | | | | |"
    if row["measure"] == "load":
        return f"| {row['model'].removesuffix('.gguf')} | {row['isa']} | {row['threads']} | load | {row['load_bytes_per_s'] / 1e9:.2f} GB/s | | | |"
    what = f"prefill {row['prompt_tokens']}" if row["measure"] == "prefill" else "decode" + (
        f" x {row['batch']}" if row["batch"] > 1 else "") + (f" at {row['context']}" if row["context"] else "")
    isa = row["isa"] + (f" ({row['llama_cpu']})" if row["llama_cpu"] else "")
    cells = (row["model"].removesuffix(".gguf"), isa, row["threads"], what, f"{row['tokens_per_s']:.1f}", f"{row['llama_tokens_per_s']:.1f}",
             f"{row['ratio']:.2f}", f"{row['of_limit']:.1%}")
    return "| " + " | ".join(map(str, cells)) + " |"


def head(turns):
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    processor = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
                     platform.machine())
    return {"date": time.strftime("%Y-%m-%d"), "processor": processor, "cores": len(os.sched_getaffinity(0)), "commit": commit, "turns": turns}


def measure_peers(arguments, home):
    by_isa = dict(pair.split("=", 1) for pair in arguments.llama_isa)
    wanted = Wanted(arguments)
    facts = head(arguments.repeat)
    title = "{processor}, {cores} cores, {date}, commit {commit}: tokens per second, medians of {turns} turns".format(**facts)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    print(f"{title}\n\n" + "\n".join(lines), flush=True)
    rows = []
    for model in map(pathlib.Path, arguments.models):
        for isa in arguments.isas.split(","):
            for threads in map(int, arguments.threads.split(",")):
                llama = Llama(by_isa.get(isa, arguments.llama), arguments.llama_models)
                for row in rows_or_why_not(model, isa, threads, wanted, llama, arguments.repeat, home):
                    rows.append(row)
                    lines.append(line_of(row))
                    print(lines[-1], flush=True)
                if arguments.json:  # so that a run that is stopped leaves what it has
                    target = pathlib.Path(arguments.json)
                    target.write_text(json.dumps({"peers": {**facts, "results": rows}}, indent=2) + "\n")
                    target.with_suffix(".md").write_text(f"{title}\n\n" + "\n".join(lines) + "\n")
