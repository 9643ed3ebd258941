#!/usr/bin/env python3
"""Runs the fuzzers of build-fuzz: fuzz.py [NAME [SECONDS]] [--runs INPUTS]. Exit 1 when one finds something."""
import argparse
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Files that serve other tests too and are first inputs where they lie.
SHARED_SEEDS = {"gguf_fuzz": "tests/golden/models/*.gguf"}


def run(fuzzer, limits):
    corpus = fuzzer.parents[2] / "corpus" / fuzzer.stem
    corpus.mkdir(parents=True, exist_ok=True)
    words = [fuzzer, corpus]
    words += [folder for folder in [ROOT / "tests" / "fuzz" / "seeds" / fuzzer.stem] if folder.is_dir()]
    if fuzzer.stem in SHARED_SEEDS:
        words.append("-seed_inputs=" + ",".join(map(str, sorted(ROOT.glob(SHARED_SEEDS[fuzzer.stem])))))
    # Leaks are looked for once, at the end: after every input that keeps something (a cache, say) it takes longer than
    # the input itself.
    words += ["-rss_limit_mb=4096", "-timeout=20", "-detect_leaks=0", f"-artifact_prefix={corpus.parent}/{fuzzer.stem}-"]
    return subprocess.run(words + limits).returncode == 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("name", nargs="?", default="", help="how the fuzzer's name begins")
    arguments.add_argument("seconds", nargs="?", type=int)
    arguments.add_argument("--runs", type=int, help="inputs to try; then SECONDS is a limit only if it is given")
    arguments.add_argument("--build", type=pathlib.Path, default=ROOT / "build-fuzz")
    asked = arguments.parse_args()
    seconds = asked.seconds if asked.seconds or asked.runs else 60
    limits = [f"-max_total_time={seconds}"] if seconds else []
    limits += [f"-runs={asked.runs}"] if asked.runs else []
    fuzzers = [f for f in sorted((asked.build.resolve() / "tests" / "fuzz").glob("*_fuzz")) if f.stem.startswith(asked.name)]
    if not fuzzers:
        raise SystemExit(f"there is no fuzzer whose name begins with '{asked.name}'")
    clean = True
    for fuzzer in fuzzers:
        print(f"{fuzzer.stem}: {' '.join(limits)}", flush=True)
        clean = run(fuzzer, limits) and clean
    return 0 if clean else 1


sys.exit(main())
