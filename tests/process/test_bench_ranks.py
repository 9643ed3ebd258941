"""`shoal bench ranks` as scripts and people use it: names, memory of each rank, refusals. How fast ranks are, is not tested."""
import json
import os
import re
import signal
import subprocess
import threading
import unittest

from local_nodes import SHOAL, shoal, until
from support import MODEL_FILE, WithNodes, refused

SHORT = ("--prompt-tokens", 8, "--output-tokens", 2, "--repeat", 1)
NAMES = ("model", "ranks", "mode", "link", "payload", "pinned", "netns", "threads", "isa", "prefill_tokens_per_s", "decode_tokens_per_s",
         "one_rank", "all_cores", "speedup_prefill", "speedup_decode", "relative_prefill", "relative_decode", "per_rank", "plan")
OF_RANK = ("rank", "stage", "layers", "share", "planned_memory_bytes", "weight_bytes", "kv_bytes", "activation_bytes", "resident_peak_bytes",
           "decode_compute_s_per_step", "decode_wait_s_per_step", "decode_bytes_sent_per_step", "bytes_sent", "bytes_received")
MIB = 1 << 20
# The program, its libraries, heap and links: 21 to 28 MiB where it was measured, and a little more.
PROCESS_BYTES = 32 * MIB


class BenchRanks(WithNodes):
    def bench(self, *words):
        return json.loads(shoal("bench", "ranks", MODEL_FILE, *SHORT, *words, "--json", home=self.scratch / "home", timeout=120))

    def check_memory(self, report):
        """What a rank may take: what it holds and what every process takes, at no time any of its weights twice, as planned."""
        for rank in report["per_rank"]:
            held = sum(rank[name] for name in ("weight_bytes", "kv_bytes", "activation_bytes"))
            self.assertLessEqual(rank["resident_peak_bytes"], held + PROCESS_BYTES, rank)
            self.assertGreater(rank["resident_peak_bytes"], rank["weight_bytes"], rank)
            self.assertLessEqual(rank["resident_peak_bytes"], 1.1 * rank["weight_bytes"] + rank["kv_bytes"] + 128 * MIB, rank)
            self.assertLessEqual(rank["resident_peak_bytes"], rank["planned_memory_bytes"], rank)
            self.assertGreaterEqual(rank["planned_memory_bytes"], held, rank)
            self.assertLessEqual(rank["planned_memory_bytes"], 1.05 * (held + PROCESS_BYTES), rank)

    def test_names_and_comparison(self):
        report = self.bench("--ranks", 2, "--payload", "bf16")
        for name in NAMES:
            self.assertIn(name, report)
        self.assertEqual([report[name] for name in ("ranks", "mode", "link", "payload")], [2, "tensor", "shm", "bf16"])
        for name in NAMES:
            if name.endswith("_per_s") or name.startswith(("speedup_", "relative_")):
                self.assertGreater(report[name], 0, name)
        self.assertAlmostEqual(report["speedup_decode"] * report["one_rank"]["decode_tokens_per_s"] / report["decode_tokens_per_s"], 1)
        self.assertAlmostEqual(report["relative_prefill"] * report["all_cores"]["prefill_tokens_per_s"] / report["prefill_tokens_per_s"], 1)
        self.assertEqual([rank["rank"] for rank in report["per_rank"]], [0, 1])
        for rank in report["per_rank"]:
            for name in OF_RANK:
                self.assertIn(name, rank)
            self.assertGreater(rank["decode_bytes_sent_per_step"], 0)
        # Both go over the same link.
        first, second = report["per_rank"]
        self.assertEqual(first["bytes_received"], second["bytes_sent"])
        self.check_memory(report)
        # Nothing of the file is held twice but a head of keys and values and norms.
        self.assertLessEqual(sum(rank["weight_bytes"] for rank in report["per_rank"]), 1.05 * report["file_bytes"])
        self.assertLess(report["replicated_bytes"], 0.05 * report["file_bytes"])

    def test_stages_and_parts(self):
        report = self.bench("--ranks", 3, "--mode", "hybrid", "--alone")
        self.assertEqual(report["mode"], "hybrid")
        self.assertEqual([rank["stage"] for rank in report["per_rank"]], [0, 0, 1])
        last = report["per_rank"][-1]["layers"]
        self.assertEqual(report["per_rank"][0]["layers"], [0, last[0]])
        self.assertNotIn("one_rank", report)
        self.assertNotIn("speedup_decode", report)
        self.check_memory(report)
        # The last one's head is the first ones' embedding: so much is held twice, and said.
        held = sum(rank["weight_bytes"] for rank in report["per_rank"])
        self.assertGreater(report["replicated_bytes"], 0.2 * report["file_bytes"])
        self.assertGreater(held, 0.95 * report["file_bytes"] + report["replicated_bytes"])
        self.assertLessEqual(held, 1.05 * report["file_bytes"] + report["replicated_bytes"])
        self.assertAlmostEqual(sum(rank["share"] for rank in report["per_rank"]), 1)
        # The last rank is little but that table, which must not be there as it is in the file as well.
        self.check_memory(self.bench("--ranks", 3, "--mode", "pipeline", "--parts", "14:14:1", "--alone"))

        report = self.bench("--ranks", 2, "--parts", "2:1", "--alone", "--link", "tcp")
        first, second = report["per_rank"]
        self.assertGreater(first["weight_bytes"], 1.5 * second["weight_bytes"])
        self.assertEqual(report["link"], "tcp")

    def test_text(self):
        text = shoal("bench", "ranks", MODEL_FILE, *SHORT, "--mode", "pipeline", "--quiet", home=self.scratch / "home", timeout=120)
        self.assertLessEqual(max(map(len, text.splitlines())), 80, text)
        for said in ("2 ranks (pipeline) over shm, payload f32", "one rank on", "memory peak", "pp8", "tg2 @ d0"):
            self.assertIn(said, text)

    def test_one_rank_is_no_ranks(self):
        text = shoal("bench", "ranks", MODEL_FILE, *SHORT, "--ranks", "1", "-t", "1", "--quiet", home=self.scratch / "home", timeout=120)
        self.assertIn("\n1 rank\n", text)
        for wrong in ("1 ranks", "1 threads", "one_node", "shm", "each"):
            self.assertNotIn(wrong, text)

    def test_help_fits_a_terminal(self):
        text = shoal("bench", "ranks", "--help", home=self.scratch / "home")
        self.assertLessEqual(max(map(len, text.splitlines())), 80, text)

    def test_refusals(self):
        for words, said in ((("--ranks", "0"), "--ranks 0"), (("--ranks", "17"), "--ranks 17"), (("--mode", "round"), "'round'"),
                            (("--link", "rope"), "'rope'"), (("--payload", "int3"), "'int3'"), (("--parts", "1:2:3"), "3 parts for 2 ranks"),
                            (("--parts", "1:-1"), "'-1'"), (("--mode", "hybrid"), "at least 3"), (("--netns",), "--netns"),
                            (("--rate", "1gbit"), "--rate"), (("--prompt-tokens", "8193"), "8192"), (("--repeat", "0"), "--repeat"),
                            (("--parts", "2"), "1 part for 2 ranks"), (("--parts", "0:1"), "'0'"), (("--mode", "auto"), "tensor, pipeline and hybrid"),
                            (("--mode", "one_node"), "2 ranks"), (("--context", "-1"), "not in range 0 to 2147483648"),
                            (("--plan", "x.json", "--ranks", "3"), "--ranks"), (("--only-rank", "9", "--link", "emulated:1gbe"), "ranks 0 to 1"),
                            (("--only-rank", "1"), "--link emulated:10gbe")):
            with self.subTest(words):
                got, sentence = refused(self, "bench", "ranks", MODEL_FILE, *words, home=self.scratch / "home")
                self.assertEqual(got, 2, sentence)
                self.assertIn(said, sentence)
        got, sentence = refused(self, "bench", "ranks", MODEL_FILE, "--ranks", 12, *SHORT, home=self.scratch / "home")
        self.assertNotEqual(got, 0)
        self.assertIn("9 attention heads cannot be cut over 12 ranks", sentence)
        got, sentence = refused(self, "bench", "ranks", MODEL_FILE, "--plan", self.scratch / "missing.json", *SHORT, home=self.scratch / "home")
        self.assertEqual(got, 3, sentence)
        self.assertRegex(sentence, "--plan.*missing.json")
        got, sentence = refused(self, "bench", "ranks", self.scratch / "missing.gguf", *SHORT, home=self.scratch / "home")
        self.assertEqual(got, 3, sentence)
        self.assertIn("missing.gguf", sentence)


def namespaces_of(process):
    """Those that it made."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(rf"shoal-bench-{process.pid}-\d+-\w+", listed))


class Namespaces(WithNodes):
    """What --netns makes goes with the command, however that ends."""

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0 or subprocess.run(["ip", "netns", "list"], capture_output=True).returncode != 0:
            self.skipTest("network namespaces take root and iproute2: run this as root")

    def start(self):
        """One that computes for long."""
        process = subprocess.Popen([SHOAL, "bench", "ranks", MODEL_FILE, "--home", self.scratch / "home", "--ranks", "2", "--link", "plain", "--netns",
                                    "--alone", "--prompt-tokens", "8", "--output-tokens", "7000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        said = []

        def listen():
            with process.stderr:
                said.extend(process.stderr)

        threading.Thread(target=listen, daemon=True).start()
        until(lambda: process.poll() is not None or any(line.startswith("decode") for line in said), "the ranks to decode", 120)
        self.assertIsNone(process.poll(), said)
        self.assertEqual(len(namespaces_of(process)), 3)  # a bridge's and one per rank
        return process

    def test_a_signal_leaves_none_behind(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            with self.subTest(number):
                process = self.start()
                process.send_signal(number)
                self.assertEqual(process.wait(30), 130)
                self.assertFalse(namespaces_of(process))

    def test_those_of_a_killed_one_go_with_the_next_and_those_of_a_living_one_stay(self):
        killed = self.start()
        killed.kill()
        killed.wait()
        self.assertTrue(namespaces_of(killed))
        living = self.start()
        self.assertFalse(namespaces_of(killed))
        shoal("bench", "ranks", MODEL_FILE, *SHORT, "--link", "plain", "--netns", "--alone", home=self.scratch / "home", timeout=120)
        self.assertEqual(len(namespaces_of(living)), 3)
        living.terminate()
        self.assertEqual(living.wait(30), 130)
        self.assertFalse(namespaces_of(living))


if __name__ == "__main__":
    unittest.main()
