#!/usr/bin/env python3
"""Logits of Hugging Face transformers in float64 (its norms, softmax, rotary angles and routers stay float32 where it says so).

    transformers_logits.py < requests.json > answers.json

A request is {"class": "Qwen2", "config": {...}, "state": base64 of an .npz, "sequences": [[token, ...], ...]}.
"""
import base64
import io
import json
import sys

import numpy as np
import torch
import transformers


def answer(request):
    if not request["sequences"]:
        return {"sequences": []}
    config_class = getattr(transformers, request.get("config_class") or request["class"] + "Config")
    config = config_class(**request["config"])
    config._attn_implementation = "eager"
    if hasattr(config, "_experts_implementation"):
        config._experts_implementation = "eager"
    model = getattr(transformers, request["class"] + "ForCausalLM")(config).double().eval()
    with np.load(io.BytesIO(base64.b64decode(request["state"]))) as arrays:
        state = {name: torch.from_numpy(arrays[name].astype(np.float64)) for name in arrays.files}
    wrong = model.load_state_dict(state, strict=False)
    missing = [name for name in wrong.missing_keys if not (name == "lm_head.weight" and config.tie_word_embeddings)]
    if missing or wrong.unexpected_keys:
        return {"error": f"missing {missing[:6]}, unexpected {wrong.unexpected_keys[:6]}"}
    model.tie_weights()
    with torch.no_grad():
        return {"sequences": [model(torch.tensor([tokens]), use_cache=False).logits[0].double().tolist() for tokens in request["sequences"]],
                "version": transformers.__version__, "torch": torch.__version__}


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    answers = []
    for request in json.load(sys.stdin):
        try:
            answers.append(answer(request))
        except Exception as error:  # the caller shows it and writes nothing
            answers.append({"error": f"{type(error).__name__}: {error}"})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
