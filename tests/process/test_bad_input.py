"""Each wrong thing gets its sentence and its code, and the daemon lives."""
import json
import pathlib
import unittest

from local_nodes import SHOAL, Node
from support import MODEL, MODEL_FILE, WithNodes, ask, refused, request, tiny_gguf


class CommandLine(WithNodes):
    def refused(self, *words):
        return refused(self, *words, home=self.scratch / "home")

    def test_unknown_flags_and_commands_suggest_the_nearest(self):
        code, said = self.refused("serv")
        self.assertEqual(code, 2)
        self.assertIn("did you mean 'serve'", said)
        code, said = self.refused("run", "x", "--temprature", "0")
        self.assertEqual(code, 2)
        self.assertIn("--temperature", said)
        code, said = self.refused("cluster", "invit")
        self.assertEqual(code, 2)
        self.assertIn("invite", said)

    def test_files_that_are_not_models(self):
        (self.scratch / "empty.gguf").write_bytes(b"")
        (self.scratch / "text.gguf").write_text("hello, I am a text")
        whole = MODEL_FILE.read_bytes()
        (self.scratch / "cut.gguf").write_bytes(whole[: len(whole) // 2])
        (self.scratch / "head.gguf").write_bytes(whole[:5000])
        (self.scratch / "alien.gguf").write_bytes(tiny_gguf([("general.architecture", "parrot")]))
        for name, code, words in (("missing.gguf", 3, "No such file"), (".", 2, "directory"), ("empty.gguf", 1, "empty"), ("text.gguf", 1, "GGUF"),
                                  ("cut.gguf", 1, "cut.gguf"), ("head.gguf", 1, "head.gguf")):
            with self.subTest(name):
                got, said = self.refused("inspect", self.scratch / name if name != "." else f"{self.scratch}/")
                self.assertEqual(got, code, said)
                self.assertIn(words, said)
        code, said = self.refused("run", self.scratch / "alien.gguf", "hi")
        self.assertNotEqual(code, 0)
        self.assertIn("parrot", said)
        self.assertIn("llama", said)

    def test_unknown_models(self):
        code, said = self.refused("run", "smollm3:135m", "hi")
        self.assertEqual(code, 3, said)
        self.assertIn("smollm2:135m", said)

    def test_an_instruction_set_that_is_not_there(self):
        code, said = self.refused("status", "--isa", "sse9")
        self.assertEqual(code, 2)
        self.assertIn("sse9", said)

    def test_no_daemon(self):
        code, said = self.refused("ps")
        self.assertEqual(code, 5)
        self.assertIn("shoal serve", said)

    def test_off_loopback_without_a_key(self):
        code, said = self.refused("serve", "--listen", "0.0.0.0:0")
        self.assertEqual(code, 2)
        self.assertIn("key", said)


class Requests(WithNodes):
    def setUp(self):
        super().setUp()
        self.node = Node(self.home_with_model("alder"), "127.0.0.2", arguments=["--context", "512"])
        self.nodes.append(self.node)
        self.node.shoal("place", MODEL, "--context", "512")

    def error(self, body, path="/v1/chat/completions", headers=None):
        status, _, text = request(self.node, "POST", path, body, headers)
        error = json.loads(text)["error"]
        self.assertTrue(error["message"])
        return status, error

    def test_requests(self):
        user = [{"role": "user", "content": "hi"}]
        chat = lambda **more: {"model": MODEL, "messages": user, **more}
        for body, status, words in (
                ("{not json", 400, "JSON"), (chat(messages=[]), 400, "messages"), (chat(messages="hi"), 400, "messages"),
                (chat(messages=[{"role": "wizard", "content": "hi"}]), 400, "wizard"), (chat(temperature="hot"), 400, "temperature"),
                (chat(max_tokens=-5), 400, "max_tokens"), (chat(model="nope:1b"), 404, "nope:1b"), ({"messages": user}, 400, "model")):
            with self.subTest(words):
                got, error = self.error(body)
                self.assertEqual(got, status, error)
                self.assertIn(words, error["message"] + str(error.get("param")))

    def test_a_prompt_longer_than_the_context_says_both_numbers(self):
        status, error = self.error({"model": MODEL, "messages": [{"role": "user", "content": "word " * 2000}]})
        self.assertEqual(status, 400)
        self.assertEqual(error["code"], "context_length_exceeded")
        self.assertIn("512", error["message"])
        self.assertRegex(error["message"], r"20\d\d")

    def test_a_text_that_no_context_could_hold_is_refused_without_being_read(self):
        status, error = self.error({"model": MODEL, "messages": [{"role": "user", "content": "word " * 3_000_000}]})
        self.assertEqual((status, error["code"]), (400, "context_length_exceeded"))
        self.assertIn("512", error["message"])

    def test_a_body_of_100_mb(self):
        try:
            status, _, _ = request(self.node, "POST", "/v1/chat/completions", b"x" * 100_000_000)
            self.assertEqual(status, 413)
        except (ConnectionError, BrokenPipeError):
            pass  # it was refused before it was sent whole
        self.assertEqual(request(self.node, "GET", "/health")[0], 200)

    def test_other_origins_hosts_and_types(self):
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        self.assertEqual(self.error(body, headers={"Origin": "http://evil.example"})[0], 403)
        self.assertEqual(self.error(body, headers={"Host": "evil.example"})[0], 403)
        self.assertEqual(self.error(json.dumps(body), headers={"Content-Type": "text/plain"})[0], 415)

    def test_port_in_use(self):
        port = self.node.status["api_address"]
        code, said = refused(self, "serve", "--listen", port, "--cluster-listen", "127.0.0.2:0", home=self.scratch / "other")
        self.assertNotEqual(code, 0)
        self.assertIn("in use", said)
        code, said = refused(self, "serve", "--listen", "127.0.0.2:0", "--cluster-listen", "127.0.0.2:0", home=self.node.home)
        self.assertNotEqual(code, 0)  # one daemon per home

    def test_scores_of_a_given_text(self):
        status, answer = ask(self.node, {"model": MODEL, "prompt": "The capital of France is Paris", "echo": True, "logprobs": 2, "max_tokens": 1,
                                         "temperature": 0}, "/v1/completions")
        self.assertEqual(status, 200, answer)
        scores = answer["choices"][0]["logprobs"]
        self.assertIsNone(scores["token_logprobs"][0])
        self.assertEqual(len(scores["tokens"]), len(scores["token_logprobs"]))
        self.assertGreater(scores["token_logprobs"][5], -2.0)  # " Paris"


class Memory(WithNodes):
    def test_a_model_bigger_than_memory_says_the_numbers_and_two_nodes_hold_it(self):
        from local_nodes import pair
        a = Node(self.home_with_model("alder"), "127.0.0.2", arguments=["--memory", "170MB"])
        self.nodes.append(a)
        code, said = refused(self, "place", MODEL, "--context", "512", "--sequences", "1", home=a.home)
        self.assertEqual(code, 4, said)
        self.assertIn("170", said)
        b = Node(self.scratch / "birch", "127.0.0.3", arguments=["--memory", "170MB"])
        self.nodes.append(b)
        pair(a, b)
        a.shoal("place", MODEL, "--context", "512", "--sequences", "1")
        instance = a.instance(MODEL)
        self.assertEqual(len(instance["plan"]["ranks"]), 2)
        for rank in instance["plan"]["ranks"]:
            self.assertLessEqual(rank["memory_bytes"], 170_000_000)


if __name__ == "__main__":
    unittest.main()
