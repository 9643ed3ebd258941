#!/usr/bin/env python3
"""Golden probabilities of every sampler, from llama.cpp's server.

    llama-server -m SmolLM2-135M-Instruct.Q4_1.gguf -c 512 --port 18099 &
    python3 make_sampling_golden.py http://127.0.0.1:18099 sampling/llama_cpp.json

Each case asks the server twice for one token after the same prompt: once for the model's own log probabilities of the
forty best tokens, once for the probabilities that its samplers leave ("post_sampling_probs"). Every case begins with top-k
of forty, so the forty are all that the other samplers see, whatever the vocabulary. The repetition penalty is left out: it
looks at the sign of logits, and the server tells log probabilities.
"""
import json
import sys
import time
import urllib.error
import urllib.request

URL = sys.argv[1]
FORTY = 40
PROMPTS = [
    "The cat sat on the mat. The dog sat on the rug. The cat sat on the",
    "one two three four. one two three five. one two three",
    "Once upon a time there was",
]
ORDER = ["penalties", "dry", "top_n_sigma", "typ_p", "top_p", "min_p", "xtc", "temperature"]
CASES = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"top_p": 0.6},
    {"min_p": 0.2},
    {"typical_p": 0.3},
    {"typical_p": 0.8, "temperature": 1.5},
    {"top_n_sigma": 1.0},
    {"top_n_sigma": 2.0, "temperature": 0.7},
    {"xtc_probability": 1.0, "xtc_threshold": 0.05},
    {"xtc_probability": 1.0, "xtc_threshold": 0.02, "temperature": 1.3},
    {"frequency_penalty": 0.7, "presence_penalty": 0.4, "repeat_last_n": 400},
    {"frequency_penalty": 1.5, "repeat_last_n": 6},
    {"presence_penalty": -1.0, "repeat_last_n": 64},
    {"dry_multiplier": 0.8, "dry_sequence_breakers": ["\n"]},
    {"dry_multiplier": 0.5, "dry_base": 1.3, "dry_allowed_length": 1, "dry_sequence_breakers": ["\n"]},
    {"dry_multiplier": 0.8, "dry_allowed_length": 3, "dry_sequence_breakers": ["."]},
    {"dry_multiplier": 1.0, "dry_allowed_length": 1, "dry_penalty_last_n": 8, "dry_sequence_breakers": ["\n"]},
    {"temperature": 0.8, "typical_p": 0.95, "top_p": 0.9, "min_p": 0.05},
    {"temperature": 2.0, "top_p": 0.5, "samplers": ["temperature", "top_p"]},
    {"temperature": 0.5, "min_p": 0.1, "typical_p": 0.9, "samplers": ["typ_p", "temperature", "min_p"]},
    {"logit_bias": "best and third"},
]


def post(path, body):
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"{path}: {error.read().decode()}\n{body}")


def off():
    return {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "top_n_sigma": -1.0, "xtc_probability": 0.0,
            "xtc_threshold": 0.1, "repeat_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0,
            "repeat_last_n": 64, "dry_multiplier": 0.0, "dry_base": 1.75, "dry_allowed_length": 2,
            "dry_penalty_last_n": 400, "dry_sequence_breakers": ["\n"]}


def ask(tokens, parameters, after):
    body = off() | parameters | {"prompt": tokens, "n_predict": 1, "top_k": FORTY, "n_probs": FORTY, "seed": 1,
                                 "post_sampling_probs": after, "cache_prompt": False}
    body["samplers"] = ["top_k"] + parameters.get("samplers", ORDER)
    return post("/completion", body)["completion_probabilities"][0]


def main():
    for _ in range(120):
        try:
            urllib.request.urlopen(URL + "/health", timeout=2)
            break
        except OSError:
            time.sleep(0.5)
    out = []
    for prompt in PROMPTS:
        tokens = post("/tokenize", {"content": prompt})["tokens"]
        pieces = [post("/detokenize", {"tokens": [t]})["content"] for t in tokens]
        best = [[p["id"], round(p["logprob"], 7)] for p in ask(tokens, {}, False)["top_logprobs"]]
        cases = []
        for case in CASES:
            asked = dict(case)
            if "logit_bias" in asked:
                # Lowered only: what is raised from beyond the forty would join them.
                asked["logit_bias"] = [[best[0][0], -1.5], [best[2][0], -0.5]]
            left = [[p["id"], round(p["prob"], 7)] for p in ask(tokens, asked, True)["top_probs"] if p["prob"] > 0]
            cases.append({"parameters": asked, "probabilities": left})
        out.append({"prompt": prompt, "tokens": tokens, "pieces": pieces, "log_probabilities": best, "cases": cases})
    with open(sys.argv[2], "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(one, ensure_ascii=True) for one in out) + "\n]\n")


main()
