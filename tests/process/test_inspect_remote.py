"""`shoal inspect hf:owner/repo`: what a file says of itself, learned from a few byte ranges of it."""
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import tempfile
import unittest

from misbehaving_server import Behaviour, MisbehavingServer

SHOAL = os.environ["SHOAL_BINARY"]
FFN = 4096


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def entry(key, value):
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", 6, value)
    if isinstance(value, list):
        return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    return text(key) + struct.pack("<II", 4, value)


def gguf(entries, tensors):
    """`tensors`: (name, shape), F32, with random data."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join(entry(*pair) for pair in entries)
    data = b""
    for name, shape in tensors:
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", 0, len(data))
        size = 4
        for dimension in shape:
            size *= dimension
        # Ones: a rotary table must hold numbers above zero, and one that was never fetched reads as zeros.
        data += struct.pack("<f", 1.0) * (size // 4)
    return head + bytes(-len(head) % 32) + data


LLAMA = [
    ("general.architecture", "llama"), ("general.name", "Afar"), ("llama.block_count", 1), ("llama.embedding_length", 64),
    ("llama.feed_forward_length", FFN), ("llama.attention.head_count", 2), ("llama.context_length", 512),
    ("llama.attention.layer_norm_rms_epsilon", 1e-5),
]  # fmt: skip
TENSORS = [
    ("token_embd.weight", [64, 256]), ("output_norm.weight", [64]), ("rope_freqs.weight", [16]), ("blk.0.attn_norm.weight", [64]),
    ("blk.0.ffn_norm.weight", [64]), ("blk.0.attn_q.weight", [64, 64]), ("blk.0.attn_k.weight", [64, 64]), ("blk.0.attn_v.weight", [64, 64]),
    ("blk.0.attn_output.weight", [64, 64]), ("blk.0.ffn_gate.weight", [64, FFN]), ("blk.0.ffn_up.weight", [64, FFN]), ("blk.0.ffn_down.weight", [FFN, 64]),
]  # fmt: skip


class WithServer(unittest.TestCase):
    def setUp(self):
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="shoal-test-"))
        self.addCleanup(shutil.rmtree, self.scratch, ignore_errors=True)
        self.server = MisbehavingServer()
        self.server.__enter__()
        self.addCleanup(self.server.__exit__)
        self.environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and not name.startswith("HF_")}
        self.environment |= {"HF_ENDPOINT": self.server.url, "HOME": str(self.scratch)}

    def inspect(self, model, *flags):
        command = [SHOAL, "inspect", model, "--home", str(self.scratch / "home"), *flags]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)


class InspectRemote(WithServer):
    def bytes_sent(self):
        total = 0
        for request in self.server.asked("/resolve/"):
            first, last = request.headers["range"].removeprefix("bytes=").split("-")
            total += int(last) + 1 - int(first)
        return total

    def assert_like_the_file(self, remote, local, model, path):
        self.assertEqual(remote.returncode, 0, remote.stderr)
        self.assertEqual(local.returncode, 0, local.stderr)
        there, here = json.loads(remote.stdout), json.loads(local.stdout)
        self.assertEqual((there.pop("path"), here.pop("path")), (model, str(path)))
        self.assertEqual(there, here)
        self.assertIsNotNone(there["model"], there["not_runnable"])
        self.assertGreater(there["memory"]["weight_bytes"], 0)

    def test_the_same_as_of_the_file_without_fetching_it(self):
        words = [f"w{i}" + "x" * 5000 for i in range(256)]  # a vocabulary that the first range does not hold
        whole = gguf([*LLAMA, ("tokenizer.ggml.tokens", words)], [*TENSORS, ("output.weight", [64, 256])])
        self.server.add_repository("test/far", {"far-Q8_0.gguf": b"GGUF", "far-Q4_K_M.gguf": whole})
        path = self.scratch / "far-Q4_K_M.gguf"
        path.write_bytes(whole)
        for name in ("hf:test/far", "hf:test/far:q4_k_m", "hf:test/far/far-Q4_K_M.gguf"):
            with self.subTest(name):
                self.server.requests.clear()
                self.assert_like_the_file(self.inspect(name, "--json"), self.inspect(str(path), "--json"), "hf:test/far/far-Q4_K_M.gguf", path)
                self.assertLess(self.bytes_sent(), len(whole) - 1_000_000)
        said = self.inspect("hf:test/far").stdout
        self.assertEqual(said.split("\n", 1)[1], self.inspect(str(path)).stdout.split("\n", 1)[1])
        self.assertFalse((self.scratch / "home/models/hf").exists(), "nothing is kept")

    def test_a_split_model(self):
        def part(number, entries, tensors):
            split = [("split.no", number), ("split.count", 2), ("split.tensors.count", len(TENSORS))]
            return gguf([*entries, *split], tensors)

        parts = {"s-00001-of-00002.gguf": part(0, LLAMA, TENSORS[:4]), "s-00002-of-00002.gguf": part(1, [], TENSORS[4:])}
        self.server.add_repository("test/split", parts)
        for name, content in parts.items():
            (self.scratch / name).write_bytes(content)
        path = self.scratch / "s-00001-of-00002.gguf"
        remote, local = self.inspect("hf:test/split", "--json"), self.inspect(str(path), "--json")
        self.assert_like_the_file(remote, local, "hf:test/split/s-00001-of-00002.gguf", path)
        self.assertEqual(json.loads(remote.stdout)["part_count"], 2)

    def test_what_can_be_wrong(self):
        noise = random.Random(1).randbytes(100_000)
        whole = gguf(LLAMA, TENSORS)
        lie = whole[:8] + struct.pack("<Q", 1 << 60) + whole[16:]
        for content, behaviour, words in (
            (b"<html>" + noise, None, "not GGUF"),
            (noise, None, "not a model in the GGUF format"),
            (lie, None, "cannot be described"),
            (whole[:-300], None, "cut short"),
            (whole, Behaviour(status=403), "HF_TOKEN"),
            (whole, Behaviour(status=404), "404"),
            (whole, Behaviour(range_shift=7), "does not send parts"),
            (whole, Behaviour(ignore_range=True, chunked=True), "how long"),
        ):
            with self.subTest(words):
                self.server.add_hugging_face("test/bad", "x.gguf", content, behaviour)
                result = self.inspect("hf:test/bad/x.gguf")
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(words, result.stderr)
        self.assertIn("no repository test/none", self.inspect("hf:test/none").stderr)

    def test_a_server_that_breaks_off_is_asked_again(self):
        whole = gguf(LLAMA, TENSORS)
        self.server.add_hugging_face("test/far", "x.gguf", whole, Behaviour(close_after=1000, times=1))
        self.assertEqual(self.inspect("hf:test/far/x.gguf").returncode, 0)
        # One that ignores ranges is hung up on once it has sent enough.
        self.server.add_hugging_face("test/whole", "x.gguf", whole + b"", Behaviour(ignore_range=True))
        result = self.inspect("hf:test/whole/x.gguf")
        self.assertIn("does not send parts", result.stderr)  # the rotary table lies further on


class Companions(WithServer):
    def test_files_that_lie_beside_models(self):
        for entries, words in (
            ([("general.type", "adapter"), ("general.architecture", "llama"), ("adapter.type", "lora")], "is an adapter (LoRA)"),
            ([("general.type", "mmproj"), ("general.architecture", "clip")], "multimodal projector"),
        ):
            path = self.scratch / "beside.gguf"
            path.write_bytes(gguf(entries, [("a", [4])]))
            result = self.inspect(str(path))
            self.assertEqual(result.returncode, 0, "a sound file is shown")
            self.assertIn(words, " ".join(result.stdout.split()))


class CatalogueList(unittest.TestCase):
    def test_the_catalogue_fits_the_screen_and_has_stable_names(self):
        with tempfile.TemporaryDirectory() as home:
            words = [SHOAL, "list", "--catalogue", "--home", home]
            shown = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
            listed = json.loads(subprocess.run([*words, "--json"], capture_output=True, text=True, timeout=60, check=True).stdout)["models"]
        for line in shown.splitlines():
            self.assertLessEqual(len(line), 80, line)
        self.assertGreaterEqual(len(listed), 40)
        for model in listed:
            self.assertIn(model["name"], shown)
        gemma = next(model for model in listed if model["name"] == "gemma3:270m")
        self.assertIn("Gemma Terms of Use", gemma["terms"])
        self.assertEqual((gemma["size_bytes"], gemma["size_is_approximate"], gemma["base"]), (253_113_024, False, True))
        self.assertEqual([part["package"][-5:] for part in gemma["sources"][0]["parts"]], ["part1", "part2", "part3", "part4"])
        qwen = next(model for model in listed if model["name"] == "qwen3:8b")
        self.assertEqual(qwen["sampling"], {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0})
        self.assertEqual((qwen["tool_format"], qwen["reasoning_format"], qwen["sha256"]), ("hermes", "think", None))


if __name__ == "__main__":
    unittest.main()
