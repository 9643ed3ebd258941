"""`shoal bench` as scripts and people use it: names, tables, refusals. How fast it says the machine is, is not tested."""
import json
import os
import unittest

from local_nodes import shoal
from support import MODEL, MODEL_FILE, WithNodes, refused, tiny_gguf

SHORT = ("--prompt-tokens", 4, "--output-tokens", 2, "--repeat", 1)
NAMES = ("prompt_tokens", "output_tokens", "batch", "context", "threads", "ranks", "isa", "link", "prefill_tokens_per_s", "decode_tokens_per_s",
         "read_bytes_per_s", "decode_bytes_per_s", "peak_operations_per_s", "prefill_operations_per_s")


class Bench(WithNodes):
    def test_json_and_text(self):
        home = self.home_with_model("bench")
        report = json.loads(shoal("bench", MODEL, "--prompt-tokens", "4,8", "--output-tokens", 2, "--batch", "1,2", "--context", "0,33",
                                  "--repeat", 1, "-t", 1, "--profile", "--json", home=home, timeout=120))
        self.assertEqual([(r["prompt_tokens"], r["batch"], r["context"]) for r in report["results"]],
                         [(p, b, c) for p in (4, 8) for b in (1, 2) for c in (0, 33)])
        for row in report["results"]:
            for name in NAMES:
                self.assertIn(name, row)
            for name in (n for n in NAMES if n.endswith("_per_s")):
                self.assertGreater(row[name], 0, name)
            self.assertEqual((row["threads"], row["ranks"], row["link"]), (1, 1, None))
            for phase in ("prefill", "decode"):
                self.assertAlmostEqual(sum(part["share"] for part in row["profile"][phase]), 1)
        self.assertGreater(report["load_s"], 0)
        self.assertGreater(report["load_bytes_per_s"], 0)
        # A token reads every weight once: what is held, and the tied table is both ends.
        row = report["results"][0]
        self.assertAlmostEqual(row["decode_bytes_per_s"] / row["decode_tokens_per_s"] / report["weight_bytes"], 1, delta=0.05)

        text = shoal("bench", MODEL_FILE, *SHORT, "--quiet", home=home, timeout=120)
        self.assertLessEqual(max(map(len, text.splitlines())), 80)
        self.assertIn("of probe", text)

    def test_refusals(self):
        home = self.scratch / "home"
        (self.scratch / "alien.gguf").write_bytes(tiny_gguf([("general.architecture", "parrot")]))
        missing = self.scratch / "missing.gguf"
        for words, code, said in ((("--prompt-tokens", "0"), 2, "--prompt-tokens 0"), (("--output-tokens", "0"), 2, "--output-tokens 0"),
                                  (("--batch", "many"), 2, "'many'"), (("--batch", "257"), 2, "256"), (("--prompt-tokens", ""), 2, "whole numbers"),
                                  (("--context", "8191"), 2, "8192"), (("--prompt-tokens", "8193"), 2, "8192"), (("--repeat", "0"), 2, "--repeat")):
            with self.subTest(words):
                got, sentence = refused(self, "bench", MODEL_FILE, *words, home=home)
                self.assertEqual(got, code, sentence)
                self.assertIn(said, sentence)
        for model, code, said in ((missing, 3, "missing.gguf"), (self.scratch / "alien.gguf", 1, "parrot"), ("smollm3:135m", 3, "smollm3")):
            with self.subTest(model):
                got, sentence = refused(self, "bench", model, *SHORT, home=home)
                self.assertEqual(got, code, sentence)
                self.assertIn(said, sentence)

    def test_links(self):
        home = self.scratch / "home"
        words = ("bench", "links", "--link", "shm,tcp,emulated:300,1", "--sizes", "4KiB,64KiB")
        report = json.loads(shoal(*words, "--json", home=home, timeout=120))
        self.assertEqual([(r["link"], r["mode"], r["bytes"]) for r in report["results"]],
                         [(link, mode, size) for size in (4096, 65536)
                          for link, mode in (("shm", "plain"), ("tcp", "tls"), ("tcp", "plain"), ("emulated:300,1", "plain"))])
        for row in report["results"]:
            self.assertGreater(row["bytes_per_s"], 0)
            self.assertGreaterEqual(row["exchange_p99_s"], row["exchange_p50_s"])
            self.assertGreater(row["exchange_p50_s"], 300e-6 if row["link"].startswith("emulated") else 0)
        self.assertLessEqual(max(map(len, shoal(*words, "--quiet", home=home, timeout=120).splitlines())), 80)
        for words, said in ((("--link", "rope"), "'rope'"), (("--sizes", "0"), "--sizes 0"), (("--link", "emulated:70"), "ALPHA_US"), (("extra",), "extra")):
            with self.subTest(words):
                got, sentence = refused(self, "bench", "links", *words, home=home)
                self.assertEqual(got, 2, sentence)
                self.assertIn(said, sentence)

    def test_what_does_not_fit_is_refused_before_it_is_loaded(self):
        if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") > 94_000_000_000:  # of cache, which is what these counts come to
            self.skipTest("this machine could hold it")
        got, sentence = refused(self, "bench", MODEL_FILE, "--batch", 256, "--context", 8000, "--kv-type", "f32", "--output-tokens", 1,
                                home=self.scratch / "home")
        self.assertEqual(got, 4, sentence)
        self.assertIn("256 sequences", sentence)


if __name__ == "__main__":
    unittest.main()
