#!/usr/bin/env python3
"""Makes the fixtures of tests/golden/models: a small random model of every architecture and its logits.

    make_model_golden.py [--llama CMD] [--transformers CMD] [--out DIR] [NAME ...]

The logits are those of a numpy float64 forward pass (families/, written from the papers). Two other implementations must agree
with it at every position of every sequence, or nothing is written: transformers in float64, and llama.cpp with an F32 cache.
CMD starts a Python that has transformers 5, or one beside libllama 0.7 (judges/); without it that judge is left out, which the table
then says. Needs numpy and gguf. Only the named fixtures are made, or all; their rows in DIR/README.md are replaced.
"""
import argparse
import base64
import io
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import numpy as np

from families import deepseek, gemma, gemma4, glm, gguf_file, gpt_oss, llama, newer, phi, qwen

FAMILIES = [llama, qwen, gemma, gemma4, phi, gpt_oss, deepseek, glm, newer]
HERE = pathlib.Path(__file__).parent
# Number of tokens, and the positions whose logits are kept.
CASES = [(1, [0]), (8, [7]), (40, [15, 39]), (101, [64, 100])]
LIMIT = 1e-4         # of the largest logit
CLOSEST_CHOICE = 3e-5  # experts whose scores are closer than this may be chosen otherwise in float32


def choose_tokens(model):
    """Sequences for which no choice of experts is close, and their logits."""
    random = np.random.default_rng(1000 + model.seed)
    sequences, logits = [], []
    for count, _ in CASES:
        for _ in range(200):
            if model.router:
                model.router.closest = np.inf
            tokens = random.integers(0, model.vocab, count)
            result = model.forward(tokens)
            if not model.router or model.router.closest > CLOSEST_CHOICE:
                break
        else:
            sys.exit("every sequence has a close choice of experts")
        sequences.append(tokens.tolist())
        logits.append(result)
    return sequences, logits


def ask(command, script, requests):
    """One process answers for all models."""
    if not command:
        return [None] * len(requests)
    source = (HERE / "judges" / script).read_text()
    done = subprocess.run(shlex.split(command) + ["-c", source], input=json.dumps(requests).encode(), capture_output=True)
    if done.returncode:
        sys.exit(f"{script} failed:\n" + done.stderr.decode()[-3000:])
    for line in done.stderr.decode(errors="replace").splitlines():
        if "error" in line.lower():
            print(f"{script}: {line}", file=sys.stderr)
    return json.loads(done.stdout)


def llama_cpp_request(model, data, sequences):
    return {"gguf": base64.b64encode(data).decode(), "context": model.run_with_context or model.context, "sequences": sequences}


def transformers_request(model, sequences):
    if not model.transformers_class:
        return {"sequences": []}
    arrays = io.BytesIO()
    np.savez(arrays, **model.state())
    return {"class": model.transformers_class, "config_class": model.config_class, "config": model.config,
            "state": base64.b64encode(arrays.getvalue()).decode(), "sequences": sequences}


def differences(ours, theirs):
    """Largest difference as a part of the largest logit, and largest KL divergence in nats, over all rows."""
    worst = divergence = 0.0
    for a, b in zip(ours, theirs):
        b = np.array(b)
        worst = max(worst, np.abs(a - b).max() / np.abs(a).max())
        p, q = (x - x.max(-1, keepdims=True) for x in (a, b))
        p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (p, q))
        divergence = max(divergence, (np.exp(p) * (p - q)).sum(-1).max())
    return worst, divergence


def verdict(model, sequences, logits, theirs, llamas):
    """The table's cells; or None and a sentence."""
    cells = ["-", "-", "-"]
    largest = max(np.abs(x).max() for x in logits)
    if theirs and model.transformers_class:
        if "error" in theirs:
            return None, "transformers: " + theirs["error"]
        worst, divergence = differences(logits, theirs["sequences"])
        if not worst < LIMIT:
            return None, f"transformers differs by {worst:.2e} of the largest logit ({largest:.1f}), KL {divergence:.1e}"
        cells[0] = f"{worst:.1e}"
    if llamas:
        if "error" in llamas:
            return None, "llama.cpp: " + llamas["error"]
        worst, divergence = differences(logits, llamas["sequences"])
        differs = ""
        if model.llama_cpp_differs:
            differs = f" (from this definition: {worst:.1e}, KL {divergence:.1e})"
            model.like_llama_cpp = True
            worst, divergence = differences([model.forward(tokens) for tokens in sequences], llamas["sequences"])
        if not worst < model.llama_cpp_limit:
            return None, f"llama.cpp differs by {worst:.2e} of the largest logit ({largest:.1f}), KL {divergence:.1e}{differs}"
        cells[1:] = [f"{worst:.1e}{differs}", f"{divergence:.1e}"]
    return cells, None


def write_json(path, name, model, sequences, logits):
    context = f'"context":{model.run_with_context},' if model.run_with_context else ""
    lines = []
    for tokens, rows, (_, positions) in zip(sequences, logits, CASES):
        kept = [[float(f"{x:.7g}") for x in rows[p]] for p in positions]
        lines.append(json.dumps({"tokens": tokens, "positions": positions, "logits": kept}, separators=(",", ":")))
    path.write_text(f'{{"model":"{model.file or name}.gguf",{context}"cases":[\n' + ",\n".join(lines) + "\n]}\n")


def describe(model):
    tied = ", tied" if model.tied else ""
    return (f"{model.layers}, {model.hidden}, {model.heads}/{model.kv_heads} x {model.head_dim}, {model.ffn}, {model.vocab}{tied}")


def put_row(readme, name, row):
    """Replaces or adds the fixture's row; rows stand in the order of the families."""
    lines = readme.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|---")) + 1
    end = next((i for i in range(start, len(lines)) if not lines[i].startswith("|")), len(lines))
    rows = {re.match(r"\| `(\w+)`", line)[1]: line for line in lines[start:end]} | {name: row}
    order = [known for family in FAMILIES for known in family.FIXTURES]
    lines[start:end] = [rows[known] for known in order if known in rows]
    readme.write_text("\n".join(lines) + "\n")


def gguf_bytes(name, model):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"{name}.gguf"
        gguf_file.write(path, name, model)
        return path.read_bytes()


def write(out, name, has, model, data, sequences, logits, cells):
    (out / f"{model.file or name}.gguf").write_bytes(data)
    write_json(out / f"{name}.json", name, model, sequences, logits)
    put_row(out / "README.md", name, f"| `{name}` | {model.architecture} | {describe(model)} | {has} | {' | '.join(cells)} |")
    size = (out / f"{name}.json").stat().st_size
    print(f"{name}: {len(data)} + {size} bytes; transformers {cells[0]}; llama.cpp {cells[1]}, KL {cells[2]}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--llama")
    parser.add_argument("--transformers")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "models")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    fixtures = {name: build for family in FAMILIES for name, build in family.FIXTURES.items()}
    has = {name: words for family in FAMILIES for name, words in family.HAS.items()}
    names = options.names or list(fixtures)
    models = [fixtures[name]() for name in names]
    data = [gguf_bytes(model.file or name, model) for name, model in zip(names, models)]
    runs = [choose_tokens(model) for model in models]
    theirs = ask(options.transformers, "transformers_logits.py", [transformers_request(model, run[0]) for model, run in zip(models, runs)])
    llamas = ask(options.llama, "llama_cpp_logits.py", [llama_cpp_request(model, file, run[0]) for model, file, run in zip(models, data, runs)])
    failed = 0
    for i, (name, model) in enumerate(zip(names, models)):
        cells, wrong = verdict(model, *runs[i], theirs[i], llamas[i])
        if wrong:
            failed += 1
            print(f"{name}: {wrong}", file=sys.stderr)
        else:
            write(options.out, name, has[name], model, data[i], *runs[i], cells)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
