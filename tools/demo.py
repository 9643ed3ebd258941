#!/usr/bin/env python3
"""Two Shoal nodes on this machine, each with its own home, address and core: pairs them, places a real model over both, asks
it a question, and says what the second node gained. Stops everything that it started unless --keep."""
import argparse
import json
import os
import shutil
import statistics
import sys
import time

from local_nodes import ROOT, SHOAL, Failed, Node, pair, shoal

HOME = ROOT / "build" / "demo"
QUESTION = "Why is the sky blue? Answer in two sentences."


def say(text=""):
    print(text, file=sys.stderr if ARGS.json else sys.stdout, flush=True)


def fresh_homes():
    """Keeps pulled models of the first node (with their database); everything else starts anew."""
    shutil.rmtree(HOME / "birch", ignore_errors=True)
    alder = HOME / "alder"
    if alder.is_dir():
        for entry in alder.iterdir():
            if entry.name != "models" and not entry.name.startswith("store.db"):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def measure(node, model, nodes):
    """Places over so many nodes and asks three times, greedily. Returns the last answer and the medians."""
    placed = node.json("place", model, "--nodes", str(nodes), show=sys.stderr.isatty())
    answers = [node.json("run", model, QUESTION, "--temperature", "0", "-n", "64", "--nodes", str(nodes)) for _ in range(3)]
    median = lambda name: statistics.median(a[name] for a in answers)
    return placed, {
        "text": answers[-1]["text"],
        "prompt_tokens": answers[-1]["prompt_tokens"],
        "output_tokens": answers[-1]["output_tokens"],
        "time_to_first_token_s": median("time_to_first_token_s"),
        "prefill_tokens_per_s": median("prefill_tokens_per_s"),
        "decode_tokens_per_s": median("decode_tokens_per_s"),
    }


def rank_table(instance):
    rows = []
    for rank, planned in zip(instance["ranks"], instance["plan"]["ranks"]):
        stats = rank["stats"]
        steps = max(stats["decode_steps"], 1)
        rows.append({
            "rank": rank["rank"], "node": rank["node_name"], "share": planned["share"], "weight_bytes": stats["weight_bytes"],
            "kv_bytes": stats["kv_bytes"], "resident_peak_bytes": stats["resident_peak_bytes"], "backend": stats["backend"],
            "compute_s_per_token": stats["decode_compute_s"] / steps, "wait_s_per_token": stats["decode_wait_s"] / steps})
    return rows


def settled_instance(node, model):
    """`ps` once the ranks' counters have caught up with the last answer."""
    time.sleep(1.5)
    return node.instance(model)


def show(report, plan_text):
    one, two = report["one_node"], report["two_nodes"]
    say(f"\nQ: {QUESTION}\nA: {two['text'].strip()}\n")
    say("Plans considered:\n" + plan_text.rstrip())
    say("\nrank  node   share   weights  KV cache  resident peak  compute/token  wait/token")
    for r in report["ranks"]:
        say(f"{r['rank']:<5} {r['node']:<6} {r['share']:5.0%} {r['weight_bytes'] / 1e6:7.1f} MB {r['kv_bytes'] / 1e6:6.1f} MB"
            f" {r['resident_peak_bytes'] / 1e6:11.1f} MB {r['compute_s_per_token'] * 1e3:11.2f} ms {r['wait_s_per_token'] * 1e3:8.2f} ms")
    say("\n              prefill tokens/s   decode tokens/s   first token")
    for name, m in (("one node", one), ("two nodes", two)):
        say(f"{name:<13} {m['prefill_tokens_per_s']:16.0f}   {m['decode_tokens_per_s']:15.1f}   {m['time_to_first_token_s'] * 1e3:8.0f} ms")
    gain = report["decode_gain"]
    say(f"\nThe second node {'gains' if gain >= 1 else 'costs'}: decode {gain:.2f}x, prefill {report['prefill_gain']:.2f}x of one node alone.")


def run_demo():
    fresh_homes()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        say("This machine has one core: the two nodes share it, and two cannot be faster than one.")
    (HOME / "alder").mkdir(parents=True, exist_ok=True)
    shoal("pull", ARGS.model, home=HOME / "alder", show=True)
    nodes = []
    try:
        nodes.append(Node(HOME / "alder", "127.0.0.2", core=cores[0]))
        nodes.append(Node(HOME / "birch", "127.0.0.3", core=cores[1 % len(cores)]))
        alder, birch = nodes
        pair(alder, birch)
        say("Two nodes, alder and birch, are paired and have measured themselves.")
        plan_text = alder.shoal("plan", ARGS.model)
        plan = alder.json("plan", ARGS.model)
        say("Measuring one node alone ...")
        _, one = measure(alder, ARGS.model, 1)
        alder.shoal("stop", ARGS.model)
        say("Placing the model over both (birch fetches the file from alder) ...")
        _, two = measure(alder, ARGS.model, 2)
        instance = settled_instance(alder, ARGS.model)
        report = {
            "model": ARGS.model, "question": QUESTION, "answer": two["text"], "plans": plan["considered"], "plan": instance["plan"],
            "ranks": rank_table(instance), "one_node": one, "two_nodes": two,
            "decode_gain": two["decode_tokens_per_s"] / one["decode_tokens_per_s"],
            "prefill_gain": two["prefill_tokens_per_s"] / one["prefill_tokens_per_s"],
            "nodes": [{"name": n.name, "home": str(n.home), "api": n.api} for n in nodes],
        }
        show(report, plan_text)
        if ARGS.json:
            print(json.dumps(report, indent=2))
        if ARGS.keep:
            say("\nThe nodes stay. Talk to either:")
            for n in nodes:
                say(f"  {os.path.relpath(SHOAL)} run {ARGS.model} --home {os.path.relpath(n.home)}")
                say(f"  curl {n.api}/v1/chat/completions -H 'Content-Type: application/json' \\\n"
                    f"    -d '{{\"model\": \"{ARGS.model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'")
            say("Stop them with: kill " + " ".join(str(n.process.pid) for n in nodes))
            nodes = []
    finally:
        for n in nodes:
            n.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the report as JSON on standard output")
    parser.add_argument("--keep", action="store_true", help="leave the nodes running")
    parser.add_argument("--model", default="smollm2:135m")
    ARGS = parser.parse_args()
    try:
        run_demo()
    except (Failed, RuntimeError, AssertionError) as error:
        sys.exit(f"demo: {error}")
