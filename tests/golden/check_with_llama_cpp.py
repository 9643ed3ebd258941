#!/usr/bin/env python3
"""Compares a fixture's logits with a running llama-server that has loaded its GGUF:

    llama-server -m plain.gguf --port 18080 -c 256 -t 1 -ctk f32 -ctv f32 -fa off
    check_with_llama_cpp.py plain.json http://127.0.0.1:18080

The server gives log probabilities, so logits are compared after subtracting their log-sum-exp. Fails over 1e-3 of the largest logit.
"""
import json
import sys
import urllib.request

import numpy as np

LETTER_A = 3 + 65  # always chosen: a half UTF-8 character would come without its probabilities, which ignore the bias


def main():
    fixture = json.load(open(sys.argv[1]))
    worst, rows = 0.0, 0
    for case in fixture["cases"]:
        for position, logits in zip(case["positions"], case["logits"]):
            logits = np.array(logits)
            request = {"prompt": case["tokens"][:position + 1], "n_predict": 1, "n_probs": len(logits), "temperature": 1.0,
                       "cache_prompt": False, "samplers": [], "logit_bias": [[LETTER_A, 1000]]}
            answer = json.load(urllib.request.urlopen(urllib.request.Request(
                sys.argv[2] + "/completion", json.dumps(request).encode(), {"Content-Type": "application/json"})))
            theirs = np.full(len(logits), np.nan)
            for entry in answer["completion_probabilities"][0]["top_logprobs"]:
                theirs[entry["id"]] = entry["logprob"]
            ours = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
            known = ~np.isnan(theirs) & (ours > -60)
            assert known.sum() > 0.9 * (ours > -60).sum(), "the server gave too few probabilities"
            worst = max(worst, np.abs(ours - theirs)[known].max() / np.abs(logits).max())
            rows += 1
    print(f"{fixture['model']}: {rows} rows differ by {worst:.2e} of the largest logit at most")
    sys.exit(1 if worst > 1e-3 else 0)


if __name__ == "__main__":
    main()
