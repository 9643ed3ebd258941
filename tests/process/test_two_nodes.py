"""Two daemons that trust each other answer with one model."""
import hashlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import unittest

from local_nodes import ROOT, Failed, Node, pair, until
from support import MODEL, WithNodes, ask, refused, request, stream

GREEDY = {"model": MODEL, "temperature": 0, "max_tokens": 32, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}


class TwoNodes(WithNodes):
    def setUp(self):
        super().setUp()
        self.a = Node(self.home_with_model("alder"), "127.0.0.2")
        self.nodes.append(self.a)
        self.b = Node(self.scratch / "birch", "127.0.0.3")
        self.nodes.append(self.b)
        pair(self.a, self.b)

    def place_over_both(self):
        self.a.shoal("place", MODEL, "--nodes", "2", "--mode", "tensor", "--context", "2048")
        return until(lambda: (lambda i: i if i and i["state"] == "ready" else None)(self.a.instance(MODEL)), "the instance")

    def test_both_nodes_answer_alike_and_openai_s_client_agrees(self):
        instance = self.place_over_both()
        self.assertEqual([r["state"] for r in instance["ranks"]], ["ready", "ready"])
        cuts = [r["cut"]["heads"] for r in instance["plan"]["ranks"]]
        self.assertEqual(sum(end - begin for begin, end in ([c["begin"], c["end"]] if isinstance(c, dict) else c for c in cuts)), 9)
        answers = []
        for node in self.nodes:
            status, answer = ask(node, GREEDY)
            self.assertEqual(status, 200, answer)
            answers.append(answer["choices"][0]["message"]["content"])
        self.assertEqual(answers[0], answers[1])
        self.assertGreater(len(answers[0]), 20)
        done = subprocess.run(["node", "openai_client.mjs", self.a.api, self.b.api, MODEL], cwd=ROOT / "tests" / "api",
                              capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_file_reaches_the_node_that_lacks_it_by_checksum(self):
        self.place_over_both()
        files = lambda node: {m["sha256"]: m["size_bytes"] for m in node.json("list")["models"]}
        self.assertEqual(files(self.a), files(self.b))

    def test_a_worker_killed_mid_answer_is_told_and_the_next_request_works(self):
        self.place_over_both()
        victim = until(lambda: self.b.instance(MODEL)["ranks"][1].get("pid"), "the worker's number")
        long = {**GREEDY, "max_tokens": 1500, "ignore_eos": True, "messages": [{"role": "user", "content": "Tell a very long story."}]}

        def kill_after_some(events):
            if len(events) == 5:
                os.kill(victim, signal.SIGKILL)

        events = stream(self.a, long, on_event=kill_after_some)
        self.assertIn("error", events[-1], events[-1])
        self.assertRegex(events[-1]["error"]["message"], "restarted|ask again")
        status, answer = ask(self.b, GREEDY)
        self.assertEqual(status, 200, answer)
        self.assertGreater(len(answer["choices"][0]["message"]["content"]), 20)
        status, answer = ask(self.a, {"model": MODEL, "prompt": "The capital of France is", "temperature": 0, "max_tokens": 2}, "/v1/completions")
        self.assertIn("Paris", answer["choices"][0]["text"])
        self.assertGreater(self.a.instance(MODEL)["generation"], 1)

    def test_a_worker_stopped_mid_answer_is_told_soon_and_the_instance_comes_back(self):
        self.place_over_both()
        long = {**GREEDY, "max_tokens": 1500, "ignore_eos": True, "messages": [{"role": "user", "content": "Tell a very long story."}]}
        for node, rank in ((self.b, 1), (self.a, 0)):
            with self.subTest(rank=rank):
                victim = until(lambda: node.instance(MODEL)["ranks"][rank].get("pid"), "the worker's number")
                generation = self.a.instance(MODEL)["generation"]
                stopped_at = []

                def stop_after_some(events):
                    if len(events) == 5:
                        os.kill(victim, signal.SIGSTOP)
                        stopped_at.append(time.monotonic())

                events = stream(self.b, long, on_event=stop_after_some)
                self.assertTrue(stopped_at)
                # 2 s and a few steps; the rest is for a machine that does much else meanwhile. A watchdog would take 15 s.
                self.assertLess(time.monotonic() - stopped_at[0], 5)
                self.assertIn("error", events[-1], events[-1])
                self.assertRegex(events[-1]["error"]["message"], "restarted|ask again")
                status, answer = ask(self.a, GREEDY)
                self.assertEqual(status, 200, answer)
                self.assertGreater(self.a.instance(MODEL)["generation"], generation)
                until(lambda: not pathlib.Path(f"/proc/{victim}").exists(), "the stopped worker to be gone")

    def test_a_node_killed_mid_answer_is_told_and_the_other_answers_alone(self):
        self.place_over_both()
        long = {**GREEDY, "max_tokens": 1500, "ignore_eos": True}
        events = stream(self.a, long, on_event=lambda events: self.b.kill() if len(events) == 5 else None)
        self.assertIn("error", events[-1], events[-1])
        self.assertRegex(events[-1]["error"]["message"], "birch|rank 1")
        until(lambda: [n["state"] for n in self.a.json("nodes")["nodes"] if n["name"] == "birch"] == ["dead"], "the node to be found dead")
        status, answer = ask(self.a, GREEDY)
        self.assertEqual(status, 200, answer)
        self.assertEqual(len(self.a.instance(MODEL)["ranks"]), 1)

    def test_a_file_that_changed_under_its_name_is_not_run(self):
        home = self.home_with_model("cedar")
        [file] = (home / "models").rglob("*.gguf")
        blob = bytearray(file.read_bytes())
        blob[-1000] ^= 1
        file.unlink()  # it may be a link to another home's
        file.write_bytes(blob)
        c = Node(home, "127.0.0.4")
        self.nodes.append(c)
        pair(self.a, c)
        self.b.stop()
        until(lambda: [n["state"] for n in self.a.json("nodes")["nodes"] if n["name"] == "birch"] == ["dead"], "the stopped node to be missed")
        self.a.shoal("place", MODEL, "--nodes", "2", "--context", "2048")
        answers = [ask(node, GREEDY)[1]["choices"][0]["message"]["content"] for node in (self.a, c)]
        self.assertEqual(answers[0], answers[1])
        [whole] = {m["sha256"] for m in self.a.json("list")["models"]}
        self.assertIn(whole, {m["sha256"] for m in c.json("list")["models"]})
        for path in (m["path"] for m in c.json("list")["models"] if m["sha256"] == whole):
            self.assertEqual(hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest(), whole)

    def test_layers_over_two_nodes_answer_as_parts_of_them_do_and_nothing_is_placed_twice(self):
        self.place_over_both()
        expected = ask(self.a, GREEDY)[1]["choices"][0]["message"]["content"]
        with self.assertRaises(Failed) as refused:
            self.a.shoal("place", MODEL, "--mode", "pipeline", "--nodes", "2", "--context", "2048")
        self.assertEqual(refused.exception.code, 1)
        self.assertIn("runs already, tensor parallel (2 nodes", refused.exception.stderr)
        self.assertIn("shoal stop", refused.exception.stderr)
        self.a.shoal("stop", MODEL)
        self.a.shoal("place", MODEL, "--mode", "pipeline", "--nodes", "2", "--context", "2048", "--payload", "f32")
        plan = self.a.instance(MODEL)["plan"]
        self.assertEqual([rank["stage"] for rank in plan["ranks"]], [0, 1])
        self.assertEqual(plan["mode"], "pipeline")
        for node in (self.a, self.b):
            self.assertEqual(ask(node, GREEDY)[1]["choices"][0]["message"]["content"], expected)

    def test_a_client_that_leaves_stops_its_generation(self):
        self.place_over_both()
        long = {**GREEDY, "max_tokens": 1800, "ignore_eos": True}
        stream(self.b, long, on_event=lambda events: len(events) < 4)
        running = lambda: self.a.instance(MODEL)["ranks"][0]["stats"]["running"]
        until(lambda: running() == 0, "the generation to stop", 10)

    def test_many_at_once_get_what_each_would_get_alone(self):
        self.place_over_both()
        questions = ["Name a colour.", "What is 2 + 2?", "Who wrote Hamlet?", "Name a fruit."]
        body = lambda q: {**GREEDY, "messages": [{"role": "user", "content": q}]}
        alone = [ask(self.a, body(q))[1]["choices"][0]["message"]["content"] for q in questions]
        together = [None] * len(questions)

        def one(i):
            together[i] = ask(self.nodes[i % 2], body(questions[i]))[1]["choices"][0]["message"]["content"]

        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(questions))]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual(alone, together)

    def test_what_people_see(self):
        self.place_over_both()
        ask(self.a, GREEDY)
        for words in (["nodes"], ["ps"], ["plan", MODEL], ["status"], ["list"]):
            text = self.a.shoal(*words)
            self.assertTrue(text.strip())
            if words[0] not in ("list", "status"):  # paths may be long
                self.assertLessEqual(max(map(len, text.splitlines())), 100, text)
        plans = self.a.json("plan", MODEL)["considered"]
        self.assertGreaterEqual(len(plans), 3)
        self.assertTrue(all(p["reason"] for p in plans))
        self.assertEqual(sum(p["chosen"] for p in plans), 1)

    def test_identity_survives_a_restart_and_the_cluster_comes_back(self):
        before = self.b.status["id"]
        self.b.stop()
        self.b.start()
        self.assertEqual(self.b.status["id"], before)
        until(lambda: all(n["state"] in ("alive", "this node") for n in self.a.json("nodes")["nodes"]), "the node to be back")

    def test_a_removed_node_is_a_stranger(self):
        self.a.shoal("cluster", "remove", self.b.status["id"][:12])
        until(lambda: len(self.a.json("nodes")["nodes"]) == 1, "one node")
        until(lambda: len(self.b.json("nodes")["nodes"]) == 1, "the removed node to be alone")


class Strangers(WithNodes):
    def setUp(self):
        super().setUp()
        self.a = Node(self.scratch / "alder", "127.0.0.2")
        self.b = Node(self.scratch / "birch", "127.0.0.3")
        self.nodes += [self.a, self.b]

    def connect(self):
        return socket.create_connection(("127.0.0.2", self.a.cluster_port), timeout=10)

    def test_garbage_and_plain_http_get_nothing(self):
        for text in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(4096), b"SHOALDL1" + bytes(56), b"\x16\x03\x01"):
            with self.connect() as connection:
                try:
                    connection.sendall(text)
                    connection.shutdown(socket.SHUT_WR)
                    self.assertNotIn(b"HTTP/1.1 200", connection.recv(4096))
                except (OSError, TimeoutError):
                    pass
        self.a.json("status")  # still there

    def test_a_stranger_s_tls_is_refused(self):
        done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.2:{self.a.cluster_port}", "-quiet"], input=b"GET /control/hello HTTP/1.1\r\n\r\n",
                              capture_output=True, timeout=30)
        self.assertNotIn(b"200 OK", done.stdout)

    def test_an_invitation_works_once(self):
        code = self.a.json("cluster", "invite")["code"]
        self.b.shoal("cluster", "join", code)
        c = Node(self.scratch / "cedar", "127.0.0.4")
        self.nodes.append(c)
        exit_code, said = refused(self, "cluster", "join", code, home=c.home)
        self.assertNotEqual(exit_code, 0)
        self.assertRegex(said, "used|expired|invitation")

    def test_a_mistyped_code_is_said_to_be_one(self):
        code = self.a.json("cluster", "invite")["code"]
        wrong = code[:-3] + ("A" if code[-3].upper() != "A" else "B") + code[-2:]  # letters of either case are one
        exit_code, said = refused(self, "cluster", "join", wrong, home=self.b.home)
        self.assertEqual(exit_code, 2, said)
        exit_code, _ = refused(self, "cluster", "join", "nonsense", home=self.b.home)
        self.assertEqual(exit_code, 2)


if __name__ == "__main__":
    unittest.main()
