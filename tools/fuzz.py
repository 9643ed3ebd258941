#!/usr/bin/env python3
"""Runs the fuzzers of build-fuzz: fuzz.py [NAME [SECONDS]]. Exit 1 when one finds something."""
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    fuzzers = [f for f in sorted((ROOT / "build-fuzz" / "tests" / "fuzz").glob("*_fuzz")) if f.stem.startswith(name)]
    if not fuzzers:
        raise SystemExit(f"there is no fuzzer whose name begins with '{name}'")
    found = 0
    for fuzzer in fuzzers:
        corpus = ROOT / "build-fuzz" / "corpus" / fuzzer.stem
        corpus.mkdir(parents=True, exist_ok=True)
        seeds = [d for d in [ROOT / "tests" / "fuzz" / "seeds" / fuzzer.stem] if d.is_dir()]
        print(f"{fuzzer.stem}: {seconds} s", flush=True)
        done = subprocess.run([fuzzer, corpus, *seeds, f"-max_total_time={seconds}", "-rss_limit_mb=4096", "-timeout=20",
                               f"-artifact_prefix={corpus.parent}/"])
        found += done.returncode != 0
    return 1 if found else 0


sys.exit(main())
