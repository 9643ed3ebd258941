#!/usr/bin/env python3
"""Asks llama.cpp for the two most likely next tokens after 500 forced prefixes of varied text, for the test that compares Shoal's.

    llama-server -m SmolLM2-135M-Instruct.Q4_1.gguf --port 8099 -c 2048 -np 1
    make_prefix_golden.py --url http://127.0.0.1:8099 --model SmolLM2-135M-Instruct.Q4_1.gguf > smollm2_prefixes.json

Texts come from prefix_texts.txt, one after each line of three dashes; special tokens in them are recognised, no BOS is added. The
positions are spread evenly over all texts; one where the judge would end its turn is passed over, as the server gives no
probabilities there. Needs nothing but Python's own library."""
import argparse
import hashlib
import json
import math
import os
import sys
import urllib.request

PREFIXES = 500
SHORTEST = 4  # tokens of a prefix


def ask(url, path, body):
    request = urllib.request.Request(url + path, json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def version(url):
    with urllib.request.urlopen(url + "/props", timeout=30) as answer:
        return json.load(answer).get("build_info", "unknown")


def best_two(url, ids):
    """[[id, log probability], ...] of the model's own distribution after these ids; None at the end of a turn."""
    answer = ask(url, "/completion", {"prompt": ids, "n_predict": 1, "n_probs": 2, "temperature": 0,
                                      "top_k": 1, "cache_prompt": True, "post_sampling_probs": False})
    if "completion_probabilities" not in answer:
        return None
    top = answer["completion_probabilities"][0]["top_logprobs"][:2]
    return [[entry["id"], round(entry["logprob"], 5)] for entry in top]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True, help="the same file, for its SHA-256")
    args = parser.parse_args()
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "prefix_texts.txt"), encoding="utf-8") as file:
        texts = [text.strip("\n") for text in file.read().split("\n---\n")]
    tokenized = [ask(args.url, "/tokenize", {"content": text, "add_special": False, "parse_special": True})["tokens"]
                 for text in texts]
    places = [(text, length) for text, ids in enumerate(tokenized) for length in range(SHORTEST, len(ids) + 1)]
    if len(places) < PREFIXES:
        sys.exit(f"the texts have {len(places)} prefixes, {PREFIXES} are wanted")
    # Multiples of the golden ratio: any number of them lie evenly.
    step = int(len(places) * 0.6180339887)
    while math.gcd(step, len(places)) != 1:
        step += 1
    with open(args.model, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    result = {"model": os.path.basename(args.model), "sha256": digest,
              "judge": "llama.cpp " + version(args.url), "texts": [{"ids": ids, "next": []} for ids in tokenized]}
    done = 0
    for i in range(len(places)):
        text, length = places[i * step % len(places)]
        best = best_two(args.url, tokenized[text][:length])
        if best is None:
            continue
        result["texts"][text]["next"].append([length, *best])
        done += 1
        print(f"\r{done} of {PREFIXES}", end="", file=sys.stderr)
        if done == PREFIXES:
            break
    print(file=sys.stderr)
    for text in result["texts"]:
        text["next"].sort()
    lines = [json.dumps(text) for text in result.pop("texts")]
    print(json.dumps(result)[:-1] + ', "texts": [\n' + ",\n".join(lines) + "\n]}")


main()
