"""Raw HTTP against a running node: what no client library sends.

    python3 raw_http.py URL MODEL        (URL: http://127.0.0.1:7465, without an API key)

Each test asks the node to refuse something clearly, and then that it still answers. Standard library only.
"""
import http.client
import json
import socket
import sys
import threading
import unittest
import urllib.parse

BASE = MODEL = ""


def address():
    parts = urllib.parse.urlsplit(BASE if "://" in BASE else "http://" + BASE)
    return parts.hostname, parts.port


def call(method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(*address(), timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), text


def post(path, body, **headers):
    sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return call("POST", path, body if isinstance(body, (str, bytes)) else json.dumps(body), sent)


def raw(data, half_close=True):
    """Bytes in, bytes out until the server closes."""
    with socket.create_connection(address(), timeout=30) as connection:
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


CHAT = "/v1/chat/completions"


def question(**more):
    return {"model": MODEL, "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4, "temperature": 0, **more}


class RawHttp(unittest.TestCase):
    def tearDown(self):
        status, _, text = call("GET", "/health")
        self.assertEqual((status, json.loads(text)["status"]), (200, "ok"), "the node must live on")

    def expect(self, answer, status, words, param="any"):
        self.assertEqual(answer[0], status, answer[2])
        error = json.loads(answer[2])["error"]
        self.assertIn(words, error["message"])
        if param != "any":
            self.assertEqual(error["param"], param)

    def test_malformed_json_names_the_byte(self):
        self.expect(post(CHAT, '{"model": '), 400, "byte 11")
        self.expect(post(CHAT, b"\xff\xfe\x00"), 400, "byte 1")
        self.expect(post(CHAT, ""), 400, "JSON")
        self.expect(post(CHAT, "[" * 100_000), 400, "nested")

    def test_wrong_types_name_the_field(self):
        for field, value in (("messages", "hi"), ("temperature", "hot"), ("max_tokens", -5), ("stream", 1), ("stop", {}), ("seed", "x"), ("n", 0)):
            with self.subTest(field):
                self.expect(post(CHAT, question(**{field: value})), 400, f"'{field}'", field)
        self.expect(post(CHAT, question(messages=[])), 400, "at least one", "messages")
        self.expect(post(CHAT, question(messages=[{"role": "wizard", "content": "x"}])), 400, "wizard", "messages[0].role")

    def test_a_body_of_100_mb_is_refused(self):
        host, port = address()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {100 << 20}\r\n\r\n"
        with socket.create_connection(address(), timeout=60) as connection:
            connection.sendall(head.encode())

            def send():
                try:
                    for _ in range(100):
                        connection.sendall(b" " * (1 << 20))
                except OSError:
                    pass  # the server may stop listening to us

            sender = threading.Thread(target=send)
            sender.start()
            answer = connection.recv(65536)
            self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer[:200])
            sender.join()

    def test_a_page_of_another_origin_is_refused(self):
        self.expect(post(CHAT, question(), Origin="https://evil.example"), 403, "origin")
        self.expect(post(CHAT, question(), Origin="null"), 403, "origin")
        self.expect(post(CHAT, question(), Host="evil.example"), 403, "evil.example")
        status, headers, _ = call("OPTIONS", CHAT, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"})
        self.assertEqual(status, 403)
        self.assertFalse([name for name in headers if name.lower().startswith("access-control")])

    def test_a_form_is_refused(self):
        self.expect(post(CHAT, question(), Content_Type="text/plain"), 415, "application/json")

    def test_unknown_paths_and_methods(self):
        self.expect(call("GET", "/v1/nothing"), 404, "/v1/nothing")
        status, headers, _ = call("GET", CHAT)
        self.assertEqual((status, headers["Allow"]), (405, "POST"))

    def test_garbage_is_400_or_silence(self):
        self.assertTrue(raw(b"\x01\x02\x03 nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 "))
        self.assertTrue(raw(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 "))
        both = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        self.assertTrue(raw(both).startswith(b"HTTP/1.1 400 "))
        self.assertTrue(raw(b"GET /" + b"x" * 100_000).startswith(b"HTTP/1.1 431 "))

    def test_pipelined_requests_are_answered_in_order(self):
        answer = raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nHEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"
                     b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", half_close=False)
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK"), 3)
        self.assertLess(answer.index(b'"status"'), answer.index(b'"list"'))

    def test_a_stream_on_the_wire(self):
        status, headers, text = post(CHAT, question(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(status, 200, text)
        self.assertEqual(headers["Content-Type"], "text/event-stream")
        lines = text.split("\n\n")
        self.assertEqual(lines[-2:], ["data: [DONE]", ""])
        events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
        self.assertEqual(len({event["id"] for event in events}), 1)
        self.assertEqual(events[0]["choices"][0]["delta"]["role"], "assistant")
        self.assertEqual(events[-2]["choices"][0]["delta"], {})
        self.assertIn(events[-2]["choices"][0]["finish_reason"], ("stop", "length"))
        self.assertEqual(events[-1]["choices"], [])
        self.assertGreater(events[-1]["usage"]["total_tokens"], 0)

    def test_clients_that_leave_do_no_harm(self):
        host, port = address()
        body = json.dumps(question(stream=True, max_tokens=500)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        for sent in (head[:20], head, head + body[:10], head + body):
            with socket.create_connection(address(), timeout=30) as connection:
                connection.sendall(sent)
        status, _, text = post(CHAT, question())
        self.assertEqual(status, 200, text)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    BASE, MODEL = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
