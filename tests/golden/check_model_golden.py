#!/usr/bin/env python3
"""Do the fixtures of tests/golden/models notice mistakes? Each model is computed again with one thing wrong at a time.

    check_model_golden.py [NAME ...]

Prints what moves the kept logits by less than 1e-3 of the largest, and fails if that is not expected. Needs numpy and gguf.
"""
import collections
import json
import sys

import numpy as np

from make_model_golden import FAMILIES, HERE

NOTICED = 1e-3
# Changes without a meaning: chosen weights that are normalised anyway, by a softmax over them or by the norm that follows.
MEANINGLESS = {("gemma4_moe", "normalise"), ("gpt_oss", "normalise"), ("gpt_oss_mxfp4", "normalise"), ("granitemoe", "normalise")}
NUMBERS = ["scale", "attention_cap", "final_cap", "cap", "embedding", "scores", "added", "logits", "beta"]


def difference(model, cases):
    worst = 0.0
    for case in cases[1:]:  # the first has one token, which sees no other
        expected = np.array(case["logits"])
        worst = max(worst, np.abs(model.forward(np.array(case["tokens"]))[case["positions"]] - expected).max() / np.abs(expected).max())
    return worst


def tensor_kinds(model):
    kinds = collections.defaultdict(list)
    for name in model.tensors:
        parts = name.split(".")
        if parts[0] != "blk":
            kinds[name].append(name)
        elif int(parts[1]) < model.layers:
            kinds[".".join(parts[2:])].append(name)
    return kinds


def without(names, plain):
    def change(model):
        for name in names:
            model.tensors[name] = np.full_like(model.tensors[name], plain)
    return change


def changed(path, how):
    *objects, attribute = path.split(".")

    def change(model):
        for name in objects:
            model = getattr(model, name)
        setattr(model, attribute, how(getattr(model, attribute)))
    return change


def mistakes(model):
    for kind, names in tensor_kinds(model).items():
        if not kind.startswith("rope_f"):  # read when the model was built
            yield kind, without(names, 1.0 if "norm" in kind or "scale" in kind else 0.0)
    yield "rope style", changed("rope.interleaved", lambda x: not x)
    if model.rope.magnitude != 1:
        yield "magnitude", changed("rope.magnitude", lambda x: 1.0)
    if getattr(model, "window", None):
        yield "no window", changed("window", lambda x: None)
        yield "window", changed("window", lambda x: x + 1)
    if getattr(model, "chunk", model.context) < model.context:
        yield "no chunk", changed("chunk", lambda x: None)
        yield "chunk", changed("chunk", lambda x: x + 1)
        yield "period", changed("period", lambda x: x + 1)
        yield "growth", changed("growth", lambda x: x * 1.1)
    if hasattr(model, "local_rope"):
        yield "local rope", changed("local_rope.frequencies", lambda x: x * 1.1)
    if model.router:
        yield "normalise", changed("router.normalise", lambda x: not x)
        if model.router.scale != 1:
            yield "weights' scale", changed("router.scale", lambda x: 1.0)
        if model.router.groups > 1:
            yield "groups", changed("router.groups", lambda x: 1)
    for name in NUMBERS:
        if isinstance(getattr(model, name, None), float):
            yield name, changed(name, lambda x: x * 1.1)


def check(name, build):
    cases = json.loads((HERE / "models" / f"{name}.json").read_text())["cases"]
    same, unnoticed, count = difference(build(), cases), [], 0
    for label, change in mistakes(build()):
        model = build()
        change(model)
        count += 1
        if difference(model, cases) < NOTICED and (name, label) not in MEANINGLESS:
            unnoticed.append(label)
    print(f"{name}: {count} mistakes, {'all noticed' if not unnoticed else 'NOT NOTICED: ' + ', '.join(unnoticed)}; without one {same:.0e}", flush=True)
    return not unnoticed and same < 1e-6


def main():
    fixtures = {name: build for family in FAMILIES for name, build in family.FIXTURES.items()}
    good = [check(name, fixtures[name]) for name in sys.argv[1:] or fixtures]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
