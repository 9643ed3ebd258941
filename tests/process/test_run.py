"""`shoal run` as a person uses it: without a daemon, from a pipe, in a chat."""
import json
import os
import pty
import select
import signal
import subprocess
import time
import unittest

from local_nodes import SHOAL, Node, shoal
from support import MODEL, MODEL_FILE, WithNodes, ask


OWN_CATALOGUE = """
version = 1
[[model]]
name = "smollm2:135m"
file = "SmolLM2-135M-Instruct.Q4_1.gguf"
sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
size_bytes = 98_362_432
sampling = { temperature = 0.3, top_k = 1 }
source = [{ kind = "huggingface", repo = "a/b", file = "SmolLM2-135M-Instruct.Q4_1.gguf" }]
"""


class Terminal:
    """What a program writes to its terminal, read up to the words that are waited for."""

    def __init__(self, descriptor):
        self.descriptor, self.unread = descriptor, ""

    def read_until(self, words, seconds=60):
        deadline = time.monotonic() + seconds
        while words not in self.unread:
            ready, _, _ = select.select([self.descriptor], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError(f"waited for {words!r}, saw {self.unread!r}")
            self.unread += os.read(self.descriptor, 65536).decode("utf-8", "replace")
        seen, self.unread = self.unread.split(words, 1)
        return seen

    def read_some(self, count, seconds=60):
        """At least so many characters."""
        deadline = time.monotonic() + seconds
        while len(self.unread) < count and time.monotonic() < deadline:
            select.select([self.descriptor], [], [], 1)
            self.unread += os.read(self.descriptor, 65536).decode("utf-8", "replace")

    def type(self, text):
        os.write(self.descriptor, text.encode())


class Run(WithNodes):
    def test_without_a_daemon(self):
        home = self.home_with_model("alone")
        answer = json.loads(shoal("run", MODEL, "Say hello in French.", "--temperature", "0", "-n", "16", "--json", home=home))
        self.assertIn("Bonjour", answer["text"])
        for name in ("prompt_tokens", "output_tokens", "prefill_tokens_per_s", "decode_tokens_per_s", "time_to_first_token_s"):
            self.assertGreater(answer[name], 0, name)
        self.assertFalse((home / "shoal.sock").exists() and subprocess.run([SHOAL, "status", "--home", home], capture_output=True).returncode == 0)

    def test_a_path_and_a_pipe(self):
        asked = subprocess.run([SHOAL, "run", MODEL_FILE, "--temperature", "0", "-n", "16", "--home", self.scratch / "pipe"],
                               input="Say hello in French.", capture_output=True, text=True, timeout=120)
        self.assertEqual(asked.returncode, 0, asked.stderr)
        self.assertIn("Bonjour", asked.stdout)
        self.assertIn("decode", asked.stderr)  # measurements are not part of the answer
        self.assertNotIn("decode", asked.stdout)

    def test_the_same_seed_gives_the_same_answer(self):
        home = self.home_with_model("seeded")
        run = lambda seed: json.loads(shoal("run", MODEL, "Tell me something.", "--seed", seed, "--temperature", 1, "-n", "24", "--json", home=home))["text"]
        self.assertEqual(run(7), run(7))
        self.assertNotEqual(run(7), run(8))

    def test_what_each_sampler_left(self):
        home = self.home_with_model("verbose")
        ask = ("run", MODEL, "Tell me something.", "--seed", 7, "-n", "6", "--top-k", 40, "--repeat-penalty", 1.1, "--xtc-probability", 0.5)
        plain = json.loads(shoal(*ask, "--json", home=home))
        seen = json.loads(shoal(*ask, "--json", "--verbose", home=home))
        self.assertEqual(plain["text"], seen["text"])  # looking on changes nothing
        self.assertNotIn("samplers", plain)
        self.assertEqual(len(seen["samplers"]), seen["output_tokens"])
        for stages in seen["samplers"]:
            self.assertEqual([s["name"] for s in stages], ["model", "penalties", "top_k", "top_p", "xtc", "temperature", "draw"])
            self.assertEqual(stages[2]["kept"], 40)
        shown = subprocess.run([SHOAL, *map(str, ask), "--verbose", "--home", home], capture_output=True, text=True, timeout=120)
        self.assertEqual(shown.stdout.strip(), seen["text"].strip())
        self.assertIn("  top_k            40  ", shown.stderr)
        reported = [line for line in shown.stderr.splitlines() if line.startswith(("token ", "  "))]
        self.assertLessEqual(max(map(len, reported)), 80)

    def test_the_models_defaults_hold_where_a_request_is_silent(self):
        home = self.home_with_model("defaults")
        (home / "catalogue.toml").write_text(OWN_CATALOGUE)
        node = Node(home, "127.0.0.2")
        self.nodes.append(node)
        defaults = lambda answer: {one["name"]: (one["value"], one["from"]) for one in answer["choices"][0]["sampling_defaults"]}
        text = lambda answer: answer["choices"][0].get("text") or answer["choices"][0]["message"]["content"]
        said = {"role": "user", "content": "Tell me something."}
        traced = {"model": MODEL, "max_tokens": 12, "sampler_trace": 1}
        for path, question in (("/v1/chat/completions", {"messages": [said]}), ("/v1/completions", {"prompt": "Once upon a time"})):
            asked = lambda **fields: ask(node, {**traced, **question, **fields}, path)[1]
            silent, other_seed = asked(seed=1), asked(seed=2)
            self.assertEqual(defaults(silent), {"temperature": (0.3, "catalogue"), "top_k": (1, "catalogue")})
            self.assertEqual([s["name"] for s in silent["choices"][0]["samplers"][0]], ["model", "top_k", "temperature", "draw"])
            self.assertEqual(text(silent), text(other_seed))  # one candidate is left: the seed has nothing to choose
            greedy = asked(temperature=0)
            self.assertEqual(defaults(greedy), {})
            self.assertEqual(text(greedy), text(silent))
            named = [asked(seed=seed, temperature=1.5, top_k=0) for seed in (1, 2)]
            self.assertEqual(defaults(named[0]), {})
            self.assertNotEqual(text(named[0]), text(named[1]))  # what a request names wins
        run = json.loads(shoal("run", MODEL, "Tell me something.", "-n", "4", "--top-k", 5, "--verbose", "--json", home=home))
        self.assertEqual(run["sampling_defaults"], [{"name": "temperature", "value": 0.3, "from": "catalogue"}])
        shown = subprocess.run([SHOAL, "run", MODEL, "Hello", "-n", "2", "--verbose", "--home", home], capture_output=True, text=True, timeout=120)
        self.assertIn("as recommended: temperature 0.3, top_k 1 (catalogue)", shown.stderr)
        by_path = json.loads(shoal("run", MODEL_FILE, "Hello", "-n", "2", "--verbose", "--json", home=home))  # found by its checksum
        self.assertEqual([one["name"] for one in by_path["sampling_defaults"]], ["temperature", "top_k"])
        inspected = json.loads(shoal("inspect", MODEL, "--json", home=home))
        self.assertEqual([one["value"] for one in inspected["sampling_defaults"]], [0.3, 1])

    def test_a_chat(self):
        home = self.home_with_model("chat")
        pid, descriptor = pty.fork()
        if pid == 0:
            os.execve(SHOAL, ["shoal", "run", MODEL, "--temperature", "0", "--home", str(home)], {**os.environ, "TERM": "xterm"})
        terminal = Terminal(descriptor)
        try:
            terminal.read_until("> ")
            terminal.type("Say hello in French.\n")
            self.assertIn("Bonjour", terminal.read_until("decode"))
            terminal.read_until("> ")
            terminal.type("And now \\\n")
            terminal.read_until("... ")
            terminal.type("in Spanish.\n")
            terminal.read_until("decode")
            terminal.read_until("> ")
            terminal.type("A line that is given up")
            terminal.read_until("given up")
            terminal.type("\x03")
            terminal.read_until("Ctrl-C again")
            terminal.read_until("> ")
            terminal.type("Count from 1 to 1000, one number a line.\n")
            terminal.read_until("a line.\r\n")
            terminal.read_some(200)  # of what may never end
            terminal.type("\x03")
            terminal.read_until("stopped")
            terminal.read_until("> ")
            terminal.type("alphabet " * 300 + "\n")  # Ctrl-C before the first word of the answer
            terminal.read_until("alphabet \r\n")
            terminal.type("\x03")
            terminal.read_until("stopped")
            terminal.read_until("> ")
            terminal.type("/bye\n")
            for _ in range(100):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    break
                time.sleep(0.1)
            self.assertEqual(done, pid, "the chat did not end")
            self.assertEqual(os.waitstatus_to_exitcode(status), 0)
        finally:
            os.close(descriptor)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


if __name__ == "__main__":
    unittest.main()
