"""What the process tests share: scratch homes with the model in them, HTTP without a library, small hostile files."""
import atexit
import http.client
import json
import os
import pathlib
import shutil
import struct
import tempfile
import unittest

from local_nodes import Failed, shoal

# What other programs keep on this machine is none of a test's business.
os.environ["HOME"] = tempfile.mkdtemp(prefix="shoal-test-home-")
atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)
for name in ("HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE", "OLLAMA_MODELS", "SHOAL_MODELS", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)

MODEL = "smollm2:135m"
MODEL_FILE = pathlib.Path(os.environ.get("SHOAL_TEST_MODELS", "/nonexistent")) / "SmolLM2-135M-Instruct.Q4_1.gguf"


def workers_of(process):
    """Those that a command has started, in rank order, which is the order of their starts."""
    children = map(int, pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    return sorted(pid for pid in children if b"worker" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())


def lives(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class WithNodes(unittest.TestCase):
    """Stops every node that a test started, and deletes its scratch."""

    def setUp(self):
        if not MODEL_FILE.is_file():
            self.skipTest(f"{MODEL_FILE} is not there: `./dev test` pulls it and sets SHOAL_TEST_MODELS")
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="shoal-test-"))
        self.nodes = []

    def tearDown(self):
        failed = not self._outcome.success
        for node in self.nodes:
            node.stop()
            if failed or os.environ.get("SHOAL_TEST_LOGS"):
                print(f"--- {node.name} ---\n{node.log_path.read_text()[-3000:]}", flush=True)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def home_with_model(self, name):
        """A home whose store holds the model, by a hard link where the file system has them."""
        home = self.scratch / name
        store = pathlib.Path(os.environ["SHOAL_TEST_HOME"])
        shutil.copytree(store / "models", home / "models", copy_function=link_or_copy)
        for file in store.glob("store.db*"):
            shutil.copy(file, home)
        return home


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def request(node, method, path, body=None, headers=None, timeout=120):
    """Status, headers and text of one call. `body` may be text, bytes, or something to send as JSON."""
    host, port = node.status["api_address"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    sent = {"Content-Type": "application/json"} if body is not None else {}
    sent.update(headers or {})
    if body is not None and not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    connection.request(method, path, body, {k: v for k, v in sent.items() if v is not None})
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    connection.close()
    return answer.status, dict(answer.getheaders()), text


def ask(node, body, path="/v1/chat/completions"):
    status, _, text = request(node, "POST", path, body)
    return status, json.loads(text)


def stream(node, body, path="/v1/chat/completions", on_event=None):
    """Events of a streamed answer; on_event may return False to leave."""
    host, port = node.status["api_address"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=120)
    connection.request("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    events = []
    for line in answer:
        line = line.decode().strip()
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        events.append(json.loads(line[6:]))
        if on_event and on_event(events) is False:
            break
    connection.close()
    return events


def refused(testcase, *words, home, **options):
    """A command that must fail: its exit code and what it said."""
    with testcase.assertRaises(Failed) as caught:
        shoal(*words, home=home, **options)
    return caught.exception.code, caught.exception.stderr


def tiny_gguf(metadata=(), tensors=0, version=3):
    """The head of a GGUF with string metadata, for files that are wrong in a chosen way."""
    text = lambda s: struct.pack("<Q", len(s)) + s.encode()
    blob = b"GGUF" + struct.pack("<IQQ", version, tensors, len(metadata))
    for key, value in metadata:
        blob += text(key) + struct.pack("<I", 8) + text(value)
    return blob
