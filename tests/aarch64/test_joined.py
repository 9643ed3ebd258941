"""A node of another architecture, under an emulator, joins one of this machine's own and runs a rank of a real model. The emulator is
some twenty times slower than a processor, so questions are short and waits long."""
import os
import pathlib
import unittest

from local_nodes import Node, until
from support import MODEL, WithNodes, ask

EMULATED = pathlib.Path(os.environ.get("SHOAL_EMULATED_BINARY", "/nonexistent"))
PROMPTS = ("The capital of France is", "Once upon a time, there was a", "The opposite of hot is", "1, 2, 3, 4,")
TOKENS = 8
# Of the judge's own log probabilities, where the two chose differently (docs/correctness.md).
NEAR_TIE = 0.15


def continuation(node, prompt):
    """Tokens, and for each what else was likely."""
    body = {"model": MODEL, "prompt": prompt, "temperature": 0, "max_tokens": TOKENS, "logprobs": 5}
    status, answer = ask(node, body, "/v1/completions")
    if status != 200:
        raise AssertionError(answer)
    logprobs = answer["choices"][0]["logprobs"]
    return logprobs["tokens"], logprobs["top_logprobs"]


class Joined(WithNodes):
    def setUp(self):
        super().setUp()
        if not EMULATED.is_file():
            self.skipTest(f"NOT TESTED: {EMULATED} is not there; `./dev test arm` builds it")
        self.native = self.node(self.home_with_model("alder"), "127.0.0.2")

    def node(self, home, address, **options):
        self.nodes.append(Node(home, address, arguments=("--threads", "1"), **options))
        return self.nodes[-1]

    def place(self, nodes):
        if self.native.instance(MODEL):
            self.native.shoal("stop", MODEL)
            until(lambda: not self.native.instance(MODEL), "the instance to end")
        mode = ["--mode", "tensor"] if nodes > 1 else []
        self.native.shoal("place", MODEL, "--nodes", nodes, *mode, "--context", "256", "--sequences", "1", timeout=600)

        def ready():
            instance = self.native.instance(MODEL)
            return instance if instance and instance["state"] == "ready" and len(instance["ranks"]) == nodes else None

        return until(ready, f"the instance on {nodes} nodes", 600)

    def test_a_rank_of_another_architecture_agrees(self):
        self.place(1)
        alone = [continuation(self.native, prompt) for prompt in PROMPTS]

        emulated = self.node(self.home_with_model("birch"), "127.0.0.3", binary=EMULATED)
        emulated.shoal("cluster", "join", self.native.json("cluster", "invite")["code"], timeout=120)
        hear = lambda node: [n for n in node.json("nodes")["nodes"] if n["state"] in ("alive", "this node") and "facts" in n]
        until(lambda: len(hear(self.native)) == 2 and len(hear(emulated)) == 2, "the nodes to hear each other", 300)
        instance = self.place(2)
        backends = {rank["node_name"]: rank["stats"]["backend"] for rank in instance["ranks"]}
        self.assertIn("neon", backends["birch"])
        self.assertNotIn("neon", backends["alder"])

        compared = 0
        for asked in (self.native, emulated):  # the second sends it on to where the lead is
            for prompt, (tokens, likely) in zip(PROMPTS, alone):
                joined, _ = continuation(asked, prompt)
                for own, other, choices in zip(tokens, joined, likely):
                    compared += 1
                    if own == other:
                        continue
                    self.assertIn(other, choices, f"after {prompt!r}: {joined} instead of {tokens}")
                    self.assertLessEqual(choices[own] - choices[other], NEAR_TIE, f"after {prompt!r}: {joined} instead of {tokens}")
                    break  # what follows continues another text
        self.assertGreaterEqual(compared, len(PROMPTS) * TOKENS)


if __name__ == "__main__":
    unittest.main()
