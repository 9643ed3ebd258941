"""`shoal plan` for machines of a file, without a daemon; and the file that a real cluster gives."""
import json
import re
import unittest

from local_nodes import ROOT, Node, pair, shoal, until
from support import MODEL, MODEL_FILE, WithNodes, refused, tiny_gguf

DESK = {"name": "desk", "memory_bytes": 16_000_000_000, "read_bytes_per_s": 4e10}
MINI = {"name": "mini", "memory_bytes": 8_000_000_000, "read_bytes_per_s": 1e11, "multiply_adds_per_s": 1e12}
WIRE = {"a": "desk", "b": "mini", "round_trip_s": 1e-4, "bytes_per_s": 1.2e9}


class PlanForAFile(WithNodes):
    def write(self, content):
        path = self.scratch / "lab.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def test_the_documented_example_and_text(self):
        page = (ROOT / "docs" / "formats" / "plan.md").read_text()
        file = self.write(re.search(r"```json\n(\{.*?\})\n```", page, re.S).group(1))
        home = self.scratch / "home"
        text = shoal("plan", MODEL_FILE, "--topology", file, "--context", 2048, home=home)
        self.assertLessEqual(max(map(len, text.splitlines())), 80)
        self.assertRegex(text, r"(?m)^\* one node\n")
        self.assertIn("studio", text)
        considered = json.loads(shoal("plan", MODEL_FILE, "--topology", file, "--json", home=home))["considered"]
        self.assertEqual([c["chosen"] for c in considered], [True] + [False] * (len(considered) - 1))
        self.assertEqual(considered[0]["plan"]["ranks"][0]["node"], "studio")
        for one in considered:
            self.assertTrue(one["reason"])

    def test_names_of_models_on_disk_work_too(self):
        home = self.home_with_model("home")
        file = self.write({"nodes": [DESK]})
        plan = json.loads(shoal("plan", MODEL, "--topology", file, "--json", home=home))["considered"][0]["plan"]
        self.assertEqual(plan["ranks"][0]["node"], "desk")

    def test_what_does_not_fit_or_is_not_there(self):
        home = self.scratch / "home"
        small = self.write({"nodes": [{**DESK, "memory_bytes": 50_000_000}]})
        code, said = refused(self, "plan", MODEL_FILE, "--topology", small, home=home)
        self.assertEqual(code, 4, said)
        self.assertIn("which has 50.0 MB", said)
        for model, expected in ((self.scratch / "missing.gguf", 3), ("no-such-model", 3)):
            code, said = refused(self, "plan", model, "--topology", self.write({"nodes": [DESK]}), home=home)
            self.assertEqual(code, expected, said)
        code, said = refused(self, "plan", MODEL_FILE, "--topology", self.scratch / "missing.json", home=home)
        self.assertEqual(code, 3, said)
        self.assertIn("missing.json", said)
        (self.scratch / "alien.gguf").write_bytes(tiny_gguf([("general.architecture", "parrot")]))
        code, said = refused(self, "plan", self.scratch / "alien.gguf", "--topology", small, home=home)
        self.assertEqual(code, 1, said)
        self.assertIn("parrot", said)

    def test_bad_files_are_wrong_usage_and_named(self):
        home = self.scratch / "home"
        two = [DESK, MINI]
        for content, said in (
                ("{", "not valid JSON at byte"), ("", "not valid JSON"), ("[" * 300, "nested"), ([], "JSON object"), ({}, "no nodes"),
                ({"version": 2, "nodes": [DESK]}, "version 2"), ({"nodes": [DESK, DESK]}, "names node desk twice"),
                ({"nodes": [{"name": "desk", "memory_bytes": 1}]}, "'read_bytes_per_s' is missing"),
                ({"nodes": [{**DESK, "memory_bytes": -1}]}, "'memory_bytes' is -1"),
                ({"nodes": [{**DESK, "memory_bytes": 1e30}]}, "'memory_bytes' is 1e+30"),
                ({"nodes": [{**DESK, "read_bytes_per_s": 1e300}]}, "'read_bytes_per_s' is 1e+300"),
                ({"nodes": [{**DESK, "read_bytes_per_s": "fast"}]}, "wrong type"),
                ({"nodes": two, "links": [{**WIRE, "b": "moon"}]}, "'moon'"), ({"nodes": two, "links": [WIRE, WIRE]}, "two links"),
                ({"nodes": two, "links": [{**WIRE, "round_trip_s": -1}]}, "link 1: the field 'round_trip_s' is -1"),
                ({"nodes": [{**DESK, "name": f"n{i}"} for i in range(257)]}, "257 entries")):
            with self.subTest(said):
                code, sentence = refused(self, "plan", MODEL_FILE, "--topology", self.write(content), home=home)
                self.assertEqual(code, 2, sentence)
                self.assertIn(said, sentence)
                self.assertIn("lab.json", sentence)
                self.assertEqual(len(sentence.strip().splitlines()), 1)

    def test_a_link_that_was_not_measured_is_said(self):
        file = self.write({"nodes": [DESK, MINI]})
        text = shoal("plan", MODEL_FILE, "--topology", file, home=self.scratch / "home")
        self.assertIn("no link between", " ".join(text.split()))


class PlanOfACluster(WithNodes):
    def test_its_links_are_a_topology_file(self):
        a = Node(self.home_with_model("alder"), "127.0.0.2")
        b = Node(self.scratch / "birch", "127.0.0.3")
        self.nodes += [a, b]
        pair(a, b)
        topology = until(lambda: (lambda t: t if t["links"] else None)(a.json("links")), "the link to be measured", 60)
        self.assertEqual([n["name"] for n in topology["nodes"]], ["alder", "birch"])
        self.assertIn("birch", a.shoal("links"))
        file = self.scratch / "cluster.json"
        file.write_text(json.dumps(topology))
        kinds = lambda answer: sorted((c["plan"]["mode"], len(c["plan"]["ranks"]), c["possible"]) for c in answer["considered"])
        words = ("plan", MODEL, "--context", 1024)
        asked = a.json(*words)
        for node in self.nodes:
            node.stop()
        self.assertEqual(kinds(json.loads(shoal(*words, "--topology", file, "--json", home=a.home))), kinds(asked))


if __name__ == "__main__":
    unittest.main()
