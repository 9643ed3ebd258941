"""What becomes of the ranks of a model when one of them, or what lies between two, goes wrong while they compute: every other rank
says which and what, soon; the command ends with it, and nothing is left behind."""
import os
import re
import signal
import subprocess
import threading
import time
import unittest

from local_nodes import SHOAL, until
from support import MODEL_FILE, WithNodes, lives, workers_of

# What the ranks promise is 2 s and a few times a step, and the command hears the others out for a second more; the rest is for machines
# that do much else meanwhile.
AT_ONCE_S, SOON_S = 4, 5
LONGER_STEPS_S = 5  # a few times a step of 256 rows, where none may be known yet
UNREACHABLE, DEADLINE = 5, 1  # exit codes
ECHO = r"reset|closed its link|was lost"  # of a rank that has ended or given up


def can_make_namespaces():
    name = f"shoal-probe-{os.getpid()}"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
    if made:
        subprocess.run(["ip", "netns", "delete", name], check=True)
    return made


class Computing:
    """`shoal bench ranks` that has loaded and is in the middle of what it was told; once over, what it said."""

    def __init__(self, home, mode, link, ranks, *more, phase="decode", after_s=0.3):
        self.ranks = ranks
        self.process = subprocess.Popen(
            [SHOAL, "bench", "ranks", MODEL_FILE, "--home", home, "--mode", mode, "--link", link, "--ranks", str(ranks), "--alone", "-t", "1",
             "--prompt-tokens", "16" if phase == "decode" else "7000", "--output-tokens", "7000", *more],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said = []
        self.reading = threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True)
        self.reading.start()
        deadline = time.monotonic() + 120
        while not any(line.startswith(phase) for line in self.said):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.process.kill()
                raise AssertionError(f"the ranks did not come to the {phase}: {self.said}")
            time.sleep(0.05)
        time.sleep(after_s)
        self.workers = workers_of(self.process)

    def spaces(self):
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
        return re.findall(rf"shoal-bench-{self.process.pid}-\d+-\w+", listed)

    def end_within(self, seconds):
        start = time.monotonic()
        try:
            self.code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            for pid in self.workers:
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
            raise AssertionError(f"not over after {seconds} s: {self.said}") from None
        self.seconds = time.monotonic() - start
        self.reading.join(5)
        self.process.stdout.close()
        self.process.stderr.close()
        # "shoal: ..." decides, and each of the others has a line.
        at = next(i for i, line in enumerate(self.said) if line.startswith("shoal: "))
        self.sentence, self.others = self.said[at].strip(), self.said[at + 1:]


class Faults(WithNodes):
    def strike(self, mode, link, ranks, blow, within_s, *more, **when):
        computing = Computing(self.scratch / "home", mode, link, ranks, *more, **when)
        self.assertEqual(len(computing.workers), ranks)
        blow(computing)
        computing.end_within(within_s)
        self.assertEqual(len(computing.others), ranks - 1, computing.said)
        until(lambda: not any(map(lives, computing.workers)), "the killed workers to be gone", 10)
        self.assertEqual(computing.spaces(), [])
        return computing

    def about(self, computing, rank):
        """What this one says; the sentence that decides may be its own."""
        return next(line for line in [computing.sentence, *computing.others] if re.match(rf"(shoal: |  )rank {rank} of", line))


class Killed(Faults):
    def test_a_rank_is_named_at_once_and_every_other_says_what_it_saw(self):
        for mode, link, ranks, victim in (("tensor", "shm", 2, 1), ("tensor", "tcp", 3, 0), ("tensor", "tcp", 2, 1), ("pipeline", "tcp", 3, 1),
                                          ("pipeline", "tcp", 2, 0), ("tensor", "shm", 3, 2)):
            with self.subTest(mode=mode, link=link, ranks=ranks, victim=victim):
                over = self.strike(mode, link, ranks, lambda c: os.kill(c.workers[victim], signal.SIGKILL), AT_ONCE_S)
                self.assertEqual(over.code, UNREACHABLE)
                self.assertRegex(over.sentence, rf"^shoal: rank {victim} of {ranks} ranks was killed \(SIGKILL\)")
                for other in range(ranks):
                    if other != victim:
                        self.assertRegex(self.about(over, other), rf"rank \d .*({ECHO})")


class Stopped(Faults):
    def test_a_rank_is_named_by_who_waits_for_it_and_every_other_ends(self):
        for mode, link, ranks, victim in (("tensor", "shm", 2, 1), ("tensor", "tcp", 3, 0), ("pipeline", "tcp", 3, 1), ("pipeline", "tcp", 2, 0),
                                          ("tensor", "shm", 3, 2)):
            with self.subTest(mode=mode, link=link, ranks=ranks, victim=victim):
                over = self.strike(mode, link, ranks, lambda c: os.kill(c.workers[victim], signal.SIGSTOP), SOON_S)
                self.assertEqual(over.code, DEADLINE)
                self.assertRegex(over.sentence, rf"^shoal: rank \d of {ranks} ranks: rank {victim} did not answer in time")
                self.assertRegex(self.about(over, victim), "says nothing")
                for other in range(ranks):
                    if other != victim:
                        self.assertRegex(self.about(over, other), rf"rank {victim} did not answer in time|{ECHO}")

    def test_in_the_first_steps_too(self):
        for mode, victim in (("tensor", 1), ("pipeline", 1), ("pipeline", 0)):
            with self.subTest(mode=mode, victim=victim):
                stop = lambda c: os.kill(c.workers[victim], signal.SIGSTOP)
                over = self.strike(mode, "tcp", 2, stop, SOON_S + LONGER_STEPS_S, phase="prefill", after_s=0)
                self.assertEqual(over.code, DEADLINE)
                self.assertRegex(over.sentence, rf"^shoal: rank {1 - victim} of 2 ranks: rank {victim} did not answer in time")


class Interrupted(Faults):
    def test_nothing_is_left_and_nothing_is_blamed(self):
        computing = Computing(self.scratch / "home", "tensor", "shm", 2)
        computing.process.send_signal(signal.SIGINT)
        self.assertEqual(computing.process.wait(AT_ONCE_S), 130)
        computing.reading.join(5)
        self.assertFalse([line for line in computing.said if line.startswith("shoal")])
        until(lambda: not any(map(lives, computing.workers)), "the workers to be gone", 10)
        computing.process.stdout.close()
        computing.process.stderr.close()


class CutOff(Faults):
    def setUp(self):
        super().setUp()
        if not can_make_namespaces():
            self.skipTest("cutting a link takes network namespaces: run this as root, with iproute2")

    def test_every_rank_says_who_is_out_of_reach(self):
        for mode, ranks, victim in (("tensor", 2, 1), ("tensor", 3, 1), ("pipeline", 3, 1), ("pipeline", 2, 0)):
            with self.subTest(mode=mode, ranks=ranks, victim=victim):
                cut = lambda c: subprocess.run(["ip", "-n", next(n for n in c.spaces() if n.endswith(f"-{victim}")), "link", "set", "eth0", "down"], check=True)
                over = self.strike(mode, "tcp", ranks, cut, SOON_S, "--netns")
                self.assertIn(over.code, (UNREACHABLE, DEADLINE))
                # Seen from either side.
                near = rf"rank \d of {ranks} ranks: rank {victim}"
                far = rf"rank {victim} of {ranks} ranks: rank \d"
                self.assertRegex(over.sentence, rf"^shoal: ({near}|{far}) (is cut off|did not answer in time)")
                for other in range(ranks):
                    self.assertRegex(self.about(over, other), rf"rank \d (is cut off|did not answer in time)|{ECHO}")


if __name__ == "__main__":
    unittest.main()
