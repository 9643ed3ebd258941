"""Three daemons that trust one another run one model in three stages. When one stage fails, its neighbours notice first, and theirs of them:
the node that coordinates names the one that it began with."""
import os
import re
import signal
import unittest

from local_nodes import Node, pair, until
from support import MODEL, WithNodes, stream

LONG = {"model": MODEL, "temperature": 0, "max_tokens": 1500, "ignore_eos": True,
        "messages": [{"role": "user", "content": "Tell a very long story."}]}


class ThreeNodes(WithNodes):
    def setUp(self):
        super().setUp()
        for address, name in (("127.0.0.2", "alder"), ("127.0.0.3", "birch"), ("127.0.0.4", "cedar")):
            self.nodes.append(Node(self.home_with_model(name), address))
        self.a = self.nodes[0]
        for other in self.nodes[1:]:
            pair(self.a, other)

    def ready(self):
        instance = self.a.instance(MODEL)
        return instance if instance and instance["state"] == "ready" and all("pid" in rank for rank in instance["ranks"]) else None

    def reasons(self):
        return re.findall(r"(?m)^.*forming it again.*$", self.a.log_path.read_text())

    def test_the_rank_that_failed_is_named_and_not_who_noticed_it(self):
        self.a.shoal("place", MODEL, "--nodes", "3", "--mode", "pipeline", "--context", "2048")
        for victim, blow, sentence in ((2, signal.SIGKILL, r"rank 2 on \w+: .*was killed \(SIGKILL\)"),
                                       (1, signal.SIGSTOP, r": rank \d on \w+: rank 1 .*did not answer in time")):
            with self.subTest(victim=victim, blow=blow.name):
                instance = until(self.ready, "the instance", 60)
                before = len(self.reasons())

                def strike_after_some(events):
                    if len(events) == 5:
                        os.kill(instance["ranks"][victim]["pid"], blow)

                events = stream(self.a, {**LONG, "stream": True}, on_event=strike_after_some)
                self.assertIn("error", str(events[-1]))
                reason = until(lambda: self.reasons()[before:], "the node to say why")[0]
                self.assertRegex(reason, sentence)


if __name__ == "__main__":
    unittest.main()
