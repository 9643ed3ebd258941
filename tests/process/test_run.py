"""`shoal run` as a person uses it: without a daemon, from a pipe, in a chat."""
import json
import os
import pty
import select
import signal
import subprocess
import time
import unittest

from local_nodes import SHOAL, shoal
from support import MODEL, MODEL_FILE, WithNodes


def read_until(terminal, words, seconds=60):
    seen = ""
    deadline = time.monotonic() + seconds
    while words not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            raise AssertionError(f"waited for {words!r}, saw {seen!r}")
        seen += os.read(terminal, 65536).decode("utf-8", "replace")
    return seen


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
        run = lambda seed: json.loads(shoal("run", MODEL, "Tell me something.", "--seed", seed, "-n", "24", "--json", home=home))["text"]
        self.assertEqual(run(7), run(7))
        self.assertNotEqual(run(7), run(8))

    def test_a_chat(self):
        home = self.home_with_model("chat")
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(SHOAL, ["shoal", "run", MODEL, "--temperature", "0", "--home", str(home)], {**os.environ, "TERM": "xterm"})
        try:
            read_until(terminal, "> ")
            os.write(terminal, b"Say hello in French.\n")
            self.assertIn("Bonjour", read_until(terminal, "decode"))
            read_until(terminal, "> ")
            os.write(terminal, b"And now \\\n")
            read_until(terminal, "... ")
            os.write(terminal, b"in Spanish.\n")
            read_until(terminal, "decode")
            read_until(terminal, "> ")
            os.write(terminal, b"Count from 1 to 1000, one number a line.\n")
            read_until(terminal, "\n2")
            os.write(terminal, b"\x03")
            read_until(terminal, "stopped")
            read_until(terminal, "> ")
            os.write(terminal, b"/bye\n")
            for _ in range(100):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    break
                time.sleep(0.1)
            self.assertEqual(done, pid, "the chat did not end")
            self.assertEqual(os.waitstatus_to_exitcode(status), 0)
        finally:
            os.close(terminal)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


if __name__ == "__main__":
    unittest.main()
