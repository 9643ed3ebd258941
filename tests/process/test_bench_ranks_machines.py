"""`shoal bench ranks` over several machines: each a network namespace on one bridge where this runs as root, else an address of loopback. One
that listens is given work by a code, says over and over that it is there, and outlives the benches; whatever goes wrong is said by name, soon,
and leaves no worker behind on either side."""
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest

from local_nodes import SHOAL, until
from support import MODEL_FILE, WithNodes, lives, workers_of

SHORT = ("--prompt-tokens", "8", "--output-tokens", "4", "--repeat", "1", "-t", "1")
LONG = ("--prompt-tokens", "8", "--output-tokens", "7000", "--repeat", "1", "-t", "1", "--alone")
FAILED, WRONG_USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 5, 130
SOON_S = 12  # 2 s are promised; the rest is for machines that do much else meanwhile


class Command:
    """One that runs, and the lines that it says."""

    def __init__(self, test, words, prefix=()):
        self.process = subprocess.Popen([*prefix, SHOAL, "bench", "ranks", *map(str, words), "--home", test.scratch / "home"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        test.addCleanup(self.end)
        self.answers, self.said = [], []
        self.reading = [threading.Thread(target=self.read, args=pair, daemon=True)
                        for pair in ((self.process.stdout, self.answers), (self.process.stderr, self.said))]
        [thread.start() for thread in self.reading]

    def read(self, stream, lines):
        with stream:
            lines.extend(iter(stream.readline, ""))

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        [thread.join(10) for thread in self.reading]

    def until_said(self, words, seconds=60):
        until(lambda: self.process.poll() is not None or any(words in line for line in self.said), f"'{words}' in {self.said}", seconds)

    def over(self, seconds=120):
        """Its exit code and what it said."""
        code = self.process.wait(seconds)
        [thread.join(10) for thread in self.reading]
        return code, "".join(self.said)


class OverMachines(WithNodes):
    addresses = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
    prefixes = ((), (), ())

    def listen(self, machine, file=MODEL_FILE, prefix=None):
        command = Command(self, (file, "--listen", f"{self.addresses[machine]}:0", "-t", "1"), self.prefixes[machine] if prefix is None else prefix)
        until(lambda: command.process.poll() is not None or command.answers, "a code", 30)
        self.assertTrue(command.answers, command.said)
        command.code = command.answers[0].strip()
        return command

    def lead(self, codes, *words):
        return Command(self, (MODEL_FILE, "--at", ",".join(codes), *words), self.prefixes[0])

    def report(self, codes, *words):
        command = self.lead(codes, *SHORT, *words, "--json")
        code, said = command.over()
        self.assertEqual(code, 0, said)
        return json.loads("".join(command.answers))

    def computing(self, *listeners):
        """A bench that decodes, and its workers here and there."""
        lead = self.lead([one.code for one in listeners], *LONG)
        lead.until_said("decode of")
        self.assertIsNone(lead.process.poll(), lead.said)
        workers = [pid for one in (lead, *listeners) for pid in workers_of(one.process)]
        self.assertEqual(len(workers), 1 + len(listeners))
        return lead, workers

    def gone(self, workers):
        until(lambda: not any(map(lives, workers)), "the workers to be gone", SOON_S)

    def free(self, listener):
        """Its worker may see that the lead is gone before it does."""
        lines = lambda words: sum(words in line for line in listener.said)
        until(lambda: lines("begins a bench") == lines("the bench of"), f"{listener.said} to be free", SOON_S)


class Benches(OverMachines):
    def test_two_and_three_machines(self):
        first, second = self.listen(1), self.listen(2)
        report = self.report([first.code])
        self.assertEqual([report[name] for name in ("ranks", "mode", "link")], [2, "tensor", "tcp"])
        self.assertEqual([rank["address"] for rank in report["per_rank"]], ["", first.code.split("/")[0]])
        for name in ("speedup_prefill", "speedup_decode", "relative_prefill", "relative_decode", "prefill_tokens_per_s"):
            self.assertGreater(report[name], 0, name)
        for rank in report["per_rank"]:
            self.assertTrue(rank["machine"])
            self.assertEqual(rank["threads"], 1)
            self.assertGreater(rank["decode_bytes_sent_per_step"], 0)
        sent, received = report["per_rank"][0]["bytes_sent"], report["per_rank"][1]["bytes_received"]
        self.assertLess(abs(sent - received), 0.01 * sent)  # each counted at a moment of its own
        # The same ones again, in stages; parts in their order.
        report = self.report([second.code, first.code], "--mode", "pipeline", "--parts", "1:1:2", "--link", "plain", "--alone")
        self.assertEqual([report[name] for name in ("ranks", "mode", "link")], [3, "pipeline", "plain"])
        self.assertEqual([rank["address"] for rank in report["per_rank"]], ["", second.code.split("/")[0], first.code.split("/")[0]])
        self.assertGreater(report["per_rank"][2]["weight_bytes"], 1.3 * report["per_rank"][1]["weight_bytes"])
        for one in (first, second):
            until(lambda: sum("is over" in line for line in one.said) == 2 - (one is second), "the benches to be over", SOON_S)
            self.assertFalse(workers_of(one.process))
            one.process.send_signal(signal.SIGTERM)
            self.assertEqual(one.over()[0], INTERRUPTED)

    def test_text_fits_a_terminal(self):
        listener = self.listen(1)
        command = self.lead([listener.code], *SHORT)
        code, said = command.over()
        self.assertEqual(code, 0, said)
        text = "".join(command.answers)
        self.assertLessEqual(max(map(len, text.splitlines())), 80, text)
        for expected in ("2 ranks (tensor) over tcp between machines", listener.code.split("/")[0], "one rank on one core here"):
            self.assertIn(expected, text)


class Refusals(OverMachines):
    def refused(self, codes, code, said, *words):
        command = self.lead(codes, *SHORT, *words)
        got, sentence = command.over(SOON_S)
        self.assertEqual(got, code, sentence)
        self.assertIn(said, sentence)
        self.assertFalse(command.answers)

    def test_what_is_wrong_is_said_before_anything_runs(self):
        listener = self.listen(1)
        address, token = listener.code.split("/")
        self.refused([f"{address}/{'0' * 32}"], FAILED, f"{address} does not accept this code")
        self.refused([f"{self.addresses[1]}:1/{token}"], UNREACHABLE, f"cannot connect to {self.addresses[1]}:1")
        self.refused(["x"], WRONG_USAGE, "--at 'x'")
        self.refused([listener.code, listener.code], WRONG_USAGE, "twice")
        self.refused([listener.code], WRONG_USAGE, "--ranks 3", "--ranks", "3")
        self.refused([listener.code], WRONG_USAGE, "--link shm", "--link", "shm")
        self.refused([listener.code], WRONG_USAGE, "--netns", "--netns", "--link", "tcp")
        self.refused([listener.code], WRONG_USAGE, "3 parts for 2 ranks", "--parts", "1:1:1")
        # Still of use.
        self.report([listener.code], "--alone")

    def test_what_does_not_listen_but_answers(self):
        with socket.create_server((self.addresses[1], 0)) as server:
            def answer():
                connection, _ = server.accept()
                with connection:
                    connection.sendall(b"SSH-2.0-something\r\n")
                    while connection.recv(4096):
                        pass

            threading.Thread(target=answer, daemon=True).start()
            port = server.getsockname()[1]
            command = self.lead([f"{self.addresses[1]}:{port}/{'1' * 32}"], *SHORT)
            code, sentence = command.over(SOON_S)
            self.assertNotEqual(code, 0)
            self.assertIn("is `shoal bench ranks MODEL --listen` running there", sentence)

    def test_addresses_to_listen_at(self):
        for address, code in (("0.0.0.0:7470", WRONG_USAGE), ("here", WRONG_USAGE), ("192.0.2.1:7470", FAILED)):
            command = Command(self, (MODEL_FILE, "--listen", address))
            got, sentence = command.over(SOON_S)
            self.assertEqual(got, code, sentence)
            self.assertIn(address, sentence)

    def test_another_file(self):
        other = self.scratch / "other.gguf"
        shutil.copy(MODEL_FILE, other)
        with open(other, "r+b") as file:
            file.seek(file.read(1 << 20).lower().index(b"smollm2"))
            file.write(b"smolLM3")
        listener = self.listen(1, other)
        self.refused([listener.code], FAILED, "listens with another model file, other.gguf")

    def test_one_that_is_busy(self):
        listener = self.listen(1)
        lead, workers = self.computing(listener)
        self.refused([listener.code], FAILED, "it benches for")
        self.assertIsNone(lead.process.poll(), lead.said)
        lead.process.send_signal(signal.SIGINT)
        self.assertEqual(lead.over(SOON_S)[0], INTERRUPTED)
        self.gone(workers)

    def test_strangers_do_not_disturb_a_bench(self):
        listener = self.listen(1)
        host, port = listener.code.split("/")[0].rsplit(":", 1)
        lead, workers = self.computing(listener)
        hello = b"SHOALDL2" + bytes(16 + 8 + 2) + b"\1\0" + bytes(28)
        strangers = [socket.create_connection((host, int(port))) for _ in range(40)]
        for number, stranger in enumerate(strangers):
            stranger.sendall((b"", hello, hello + b"\x16\x03\x01" + os.urandom(400), os.urandom(2000))[number % 4])
        time.sleep(3)
        self.assertIsNone(lead.process.poll(), lead.said)
        self.assertEqual(len(workers_of(listener.process)), 1)
        [stranger.close() for stranger in strangers]
        lead.process.send_signal(signal.SIGINT)
        self.assertEqual(lead.over(SOON_S)[0], INTERRUPTED)
        self.gone(workers)
        self.free(listener)
        self.report([listener.code], "--alone")


class Losses(OverMachines):
    def struck(self, blow, code, *said, listeners=1):
        machines = [self.listen(1 + index) for index in range(listeners)]
        lead, workers = self.computing(*machines)
        blow(lead, machines)
        got, sentence = lead.over(SOON_S)
        self.assertEqual(got, code, sentence)
        for words in said:
            self.assertIn(words, sentence)
        return machines, workers

    def test_a_killed_listener(self):
        for listeners in (1, 2):
            with self.subTest(listeners=listeners):
                _, workers = self.struck(lambda lead, machines: machines[-1].process.kill(), UNREACHABLE, f"shoal: rank {listeners} of ",
                                            "has ended at", listeners=listeners)
                self.gone(workers)

    def test_an_interrupted_listener(self):
        _, workers = self.struck(lambda lead, machines: machines[0].process.send_signal(signal.SIGINT), UNREACHABLE, "shoal: rank 1 of ")
        self.gone(workers)

    def test_a_killed_worker_there(self):
        machines, workers = self.struck(lambda lead, machines: os.kill(workers_of(machines[0].process)[0], signal.SIGKILL), UNREACHABLE,
                                           "shoal: rank 1 of 2 ranks on ", "was killed (SIGKILL)")
        self.gone(workers)
        self.report([machines[0].code], "--alone")

    def test_a_stopped_listener(self):
        machines, workers = self.struck(lambda lead, machines: machines[0].process.send_signal(signal.SIGSTOP), UNREACHABLE,
                                           "has said nothing for 2 s")
        machines[0].process.send_signal(signal.SIGCONT)
        self.gone(workers)
        self.report([machines[0].code], "--alone")

    def test_a_lead_that_is_killed_or_stopped(self):
        for blow in (signal.SIGKILL, signal.SIGSTOP):
            with self.subTest(blow):
                listener = self.listen(1)
                lead, workers = self.computing(listener)
                there = workers_of(listener.process)
                lead.process.send_signal(blow)
                self.gone(there)
                self.free(listener)
                self.report([listener.code], "--alone")
                lead.process.kill()
                self.gone(workers)


class OverNamespaces(OverMachines):
    """Nothing of one machine but the wire reaches another."""
    addresses = ("10.78.0.1", "10.78.0.2", "10.78.0.3")

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0 or subprocess.run(["ip", "netns", "list"], capture_output=True).returncode != 0:
            self.skipTest("machines of their own network take namespaces: run this as root, with iproute2")
        self.names = [f"shoal-machines-{os.getpid()}-{name}" for name in ("hub", 0, 1, 2)]
        for name in self.names:
            self.addCleanup(subprocess.run, ["ip", "netns", "delete", name], capture_output=True)
            self.ip("netns", "add", name)
        hub, *machines = self.names
        self.ip("-n", hub, "link", "add", "hub", "type", "bridge")
        self.ip("-n", hub, "link", "set", "hub", "up")
        for number, name in enumerate(machines):
            self.ip("-n", hub, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            self.ip("-n", hub, "link", "set", f"port{number}", "master", "hub", "up")
            self.ip("-n", name, "addr", "add", f"{self.addresses[number]}/24", "dev", "eth0")
            self.ip("-n", name, "link", "set", "eth0", "up")
        self.prefixes = [("ip", "netns", "exec", name) for name in machines]

    def ip(self, *words):
        subprocess.run(["ip", *words], check=True)

    def test_tensor_and_pipeline(self):
        machines = [self.listen(1), self.listen(2)]
        for words in (("--mode", "tensor"), ("--mode", "pipeline", "--link", "plain")):
            with self.subTest(words):
                report = self.report([one.code for one in machines], *words, "--alone")
                self.assertEqual([rank["address"] for rank in report["per_rank"]], ["", *(one.code.split("/")[0] for one in machines)])
                self.assertTrue(all(rank["bytes_received"] > 0 for rank in report["per_rank"]))

    def test_a_cut_cable(self):
        listener = self.listen(1)
        lead, workers = self.computing(listener)
        self.ip("-n", self.names[2], "link", "set", "eth0", "down")
        code, sentence = lead.over(SOON_S)
        self.assertEqual(code, UNREACHABLE, sentence)
        self.assertRegex(sentence, r"shoal: rank \d of 2 ranks.*(cut off|said nothing for 2 s)")
        self.gone(workers)
        self.ip("-n", self.names[2], "link", "set", "eth0", "up")
        self.free(listener)
        self.report([listener.code], "--alone")

    def test_a_machine_that_is_off(self):
        command = self.lead([f"10.78.0.9:7470/{'2' * 32}"], *SHORT)
        code, sentence = command.over(SOON_S)
        self.assertEqual(code, UNREACHABLE, sentence)
        self.assertIn("10.78.0.9:7470", sentence)


if __name__ == "__main__":
    unittest.main()
