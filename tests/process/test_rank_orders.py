"""Two workers whose orders or links do not match: another plan, file, key, kind of link or version, or bytes that change on the way. Each is
started as a daemon starts it and is told by a sentence about the other what is wrong; both end."""
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest

from local_nodes import SHOAL
from support import MODEL_FILE, WithNodes

LAYERS, HEADS, COLUMNS, VOCABULARY = 30, 9, 1536, 49152  # of SmolLM2 135M
WITHIN_S = 60  # they are to notice at once; this is for what loads meanwhile


def plan_of(first_layers):
    def rank(begin, end, stage):
        return {"node": f"rank {stage}", "share": 0.5, "stage": stage, "weight_bytes": 1, "kv_bytes": 1, "memory_bytes": 1,
                "cut": {"heads": [0, HEADS], "feed_forward": [0, COLUMNS], "vocabulary": [0, VOCABULARY], "layers": [begin, end]}}

    return {"context": 256, "sequences": 2, "ranks": [rank(0, first_layers, 0), rank(first_layers, LAYERS, 1)]}


class Worker:
    def __init__(self, rank, socket_to_the_other, **differences):
        self.frames = []
        self.channel, theirs = socket.socketpair()

        def settle():
            os.dup2(theirs.fileno(), 3)

        self.process = subprocess.Popen([SHOAL, "worker"], preexec_fn=settle, pass_fds=[3], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        theirs.close()
        order = {"type": "start", "instance": "00" * 16, "generation": 1, "rank": rank, "plan": plan_of(15), "model_path": str(MODEL_FILE),
                 "link_mode": "tls", "emulated": "", "links_given": True, "verbs": False, "bench": True, "addresses": [[], []],
                 "keys": ["07" * 32, "07" * 32], "threads": 1, "isa": "", "sampling": []}
        self.send({**order, **differences})
        self.send({"type": "link", "from_rank": 1 - rank}, socket_to_the_other)
        self.reading = threading.Thread(target=self.read, daemon=True)
        self.reading.start()

    def send(self, frame, descriptor=None):
        text = json.dumps(frame).encode()
        data = struct.pack("<I", len(text)) + text
        if descriptor is None:
            self.channel.sendall(data)
        else:
            sent = socket.send_fds(self.channel, [data], [descriptor.fileno()])
            self.channel.sendall(data[sent:])
            descriptor.close()

    def read(self):
        stream = self.channel.makefile("rb")
        while header := stream.read(4):
            self.frames.append(json.loads(stream.read(struct.unpack("<I", header)[0])))

    def complaint(self):
        """What it said before it ended by itself."""
        try:
            code = self.process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"a worker still waits after {WITHIN_S} s; it said {self.frames[-1:]}") from None
        self.reading.join(10)
        said = [frame for frame in self.frames if frame["type"] == "failed"]
        if code == 0 or not said:
            raise AssertionError(f"a worker ended with {code} and {self.frames}")
        return said[0]["message"]

    def end(self):
        self.process.kill()
        self.process.wait()
        self.channel.close()


def connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        dialled = socket.create_connection(server.getsockname())
        return server.accept()[0], dialled


class Relay:
    """Lies between two ends of a connection, and turns over a bit of what comes by once so many bytes have."""

    def __init__(self, honest_bytes):
        self.honest_bytes = honest_bytes
        (self.first, one), (self.second, two) = connection(), connection()
        self.ends = {one: two, two: one}
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            for end in select.select(list(self.ends), [], [])[0]:
                try:
                    data = bytearray(end.recv(65536))
                    if not data:
                        raise ConnectionError
                    if 0 <= self.honest_bytes < len(data):
                        data[-1] ^= 4
                    self.honest_bytes -= len(data)
                    self.ends[end].sendall(data)
                except OSError:
                    for one in self.ends:
                        one.close()
                    return


class Orders(WithNodes):
    def setUp(self):
        super().setUp()
        self.workers = []

    def tearDown(self):
        for worker in self.workers:
            worker.end()
        super().tearDown()

    def start(self, of_first=None, of_second=None, ends=None):
        ends = ends or connection()
        self.workers = [Worker(0, ends[0], **(of_first or {})), Worker(1, ends[1], **(of_second or {}))]

    def complaints(self, *arguments, **named):
        self.start(*arguments, **named)
        return [worker.complaint() for worker in self.workers]

    def test_ranks_that_match_load_and_compute(self):
        self.start()
        self.workers[0].send({"type": "bench", "prompt_tokens": 8, "batch": 1, "context": 0, "output_tokens": 0})
        while not any(frame["type"] == "benched" for frame in self.workers[0].frames):
            self.assertIsNone(self.workers[0].process.poll(), self.workers[0].frames)
            time.sleep(0.05)
        self.workers[0].send({"type": "stop"})
        self.assertEqual([worker.process.wait(WITHIN_S) for worker in self.workers], [0, 0])

    def test_a_lead_that_stops_before_its_first_word(self):
        self.start()
        while not all(any(frame["type"] == "ready" for frame in worker.frames) for worker in self.workers):
            self.assertIsNone(self.workers[0].process.poll(), self.workers[0].frames)
            time.sleep(0.01)
        os.kill(self.workers[0].process.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        self.assertIn("rank 0 did not answer in time", self.workers[1].complaint())
        self.assertLess(time.monotonic() - stopped, 12)

    def test_another_plan(self):
        said = self.complaints(of_second={"plan": plan_of(16)})
        self.assertIn("rank 1 was ordered a different plan than rank 0", said[0])
        self.assertIn("rank 0 was ordered a different plan than rank 1", said[1])

    def test_another_file(self):
        other = self.scratch / "other.gguf"
        shutil.copy(MODEL_FILE, other)
        with open(other, "r+b") as file:
            head = file.read(1 << 20)
            file.seek(head.index(b"SmolLM2" if b"SmolLM2" in head else b"Smollm2"))
            file.write(b"smolLM3")
        for sentence in self.complaints(of_second={"model_path": str(other)}):
            self.assertIn("rank 1 differs from rank 0 in its model file (pull the model again on that node)", sentence)

    def test_another_key(self):
        said = self.complaints(of_second={"keys": ["08" * 32, "08" * 32]})
        for rank, sentence in enumerate(said):
            self.assertIn(f"rank {1 - rank} did not prove the key", sentence)

    def test_another_kind_of_link(self):
        for rank, sentence in enumerate(self.complaints(of_second={"link_mode": "plain"})):
            self.assertIn(f"rank {1 - rank}", sentence)

    def test_another_version(self):
        ours, theirs = connection()
        theirs.sendall(b"SHOALPL1")
        worker = Worker(0, ours, link_mode="plain")
        self.workers = [worker]
        self.assertIn("rank 1 speaks version 1 of Shoal's link protocol", worker.complaint())
        theirs.close()

    def test_bytes_that_change_on_the_way_are_found_and_nothing_is_computed_from_them(self):
        for mode in ("plain", "tls"):
            with self.subTest(mode):
                relay = Relay(honest_bytes=40_000)  # in the midst of a run
                self.start({"link_mode": mode}, {"link_mode": mode}, (relay.first, relay.second))
                self.workers[0].send({"type": "bench", "prompt_tokens": 0, "batch": 1, "context": 0, "output_tokens": 200})
                said = [worker.complaint() for worker in self.workers]
                found = {"plain": "from rank {} arrived damaged: its checksum is", "tls": "is not what was sent by rank {}"}[mode]
                self.assertTrue(any(found.format(1 - rank) in sentence for rank, sentence in enumerate(said)), said)
                self.assertTrue(all(f"rank {1 - rank}" in sentence for rank, sentence in enumerate(said)), said)
                self.assertFalse([frame for frame in self.workers[0].frames if frame["type"] == "benched"])
                [worker.end() for worker in self.workers]


if __name__ == "__main__":
    unittest.main()
