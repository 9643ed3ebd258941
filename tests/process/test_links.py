"""`shoal bench links` and `shoal links` between real daemons. How fast the links are is not tested."""
import json
import unittest

from local_nodes import Node, pair, shoal
from support import WithNodes, refused

ROW = {"node", "id", "link", "mode", "bytes", "round_trip_p50_s", "round_trip_p99_s", "exchange_p50_s", "exchange_p99_s", "bytes_per_s"}


class LinksBetweenNodes(WithNodes):
    def setUp(self):
        super().setUp()
        self.a = Node(self.scratch / "alder", "127.0.0.2")
        self.nodes.append(self.a)

    def join(self, name, address):
        node = Node(self.scratch / name, address)
        self.nodes.append(node)
        pair(self.a, node)
        return node

    def test_both_modes_are_measured_anew_at_every_size(self):
        birch = self.join("birch", "127.0.0.3")
        for node, other in ((self.a, "birch"), (birch, "alder")):
            report = node.json("bench", "links", "--node", other, "--sizes", "16KiB,1MiB", timeout=120)
            self.assertEqual([(r["node"], r["link"], r["mode"], r["bytes"]) for r in report["between_nodes"]],
                             [(other, "tcp", mode, size) for mode in ("plain", "tls") for size in (16384, 1048576)])
            for row in report["between_nodes"]:
                self.assertEqual(set(row), ROW)
                self.assertGreater(row["round_trip_p50_s"], 0)
                self.assertGreaterEqual(row["exchange_p99_s"], row["exchange_p50_s"])
                self.assertGreater(row["bytes_per_s"], 0)
            self.assertEqual((report["not_measured"], report["results"]), ([], []))
        text = self.a.shoal("bench", "links", "--sizes", "4KiB", timeout=120)
        self.assertLessEqual(max(map(len, text.splitlines())), 80)
        for words in ("shm", "to birch", "and back", "now"):
            self.assertIn(words, text)

    def test_a_node_that_is_gone_is_named_and_the_others_measured(self):
        birch, cedar = self.join("birch", "127.0.0.3"), self.join("cedar", "127.0.0.4")
        birch.kill()
        report = self.a.json("bench", "links", "--link", "plain", "--node", "cedar", "--sizes", "4KiB", timeout=120)
        self.assertEqual({r["node"] for r in report["between_nodes"]}, {"cedar"})
        report = self.a.json("bench", "links", "--link", "plain", "--node", "birch", "--sizes", "4KiB", timeout=120)
        self.assertEqual(report["between_nodes"], [])
        self.assertIn("birch", report["not_measured"][0]["reason"])

    def test_refusals(self):
        for words, code, said in ((("--node", "moon"), 3, "moon"), (("--node", "moon", "--link", "shm"), 2, "shm"),
                                  (("--node", "alder", "--sizes", "17MiB"), 2, "17825792")):
            with self.subTest(words):
                got, sentence = refused(self, "bench", "links", *words, home=self.a.home)
                self.assertEqual(got, code, sentence)
                self.assertIn(said, sentence)
        got, sentence = refused(self, "bench", "links", "--node", "moon", home=self.scratch / "nobody")
        self.assertEqual(got, 5, sentence)
        # A node alone has no links, and says so.
        self.assertEqual(self.a.json("links")["links"], [])
        self.assertEqual(self.a.json("bench", "links", "--sizes", "4KiB", timeout=120)["between_nodes"], [])
        self.assertEqual(shoal("links", home=self.a.home), "")


if __name__ == "__main__":
    unittest.main()
