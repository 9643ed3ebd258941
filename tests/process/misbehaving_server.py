"""A file server for tests that misbehaves on request, with the paths of Hugging Face and of a simple package index.

    with MisbehavingServer() as server:
        server.add("/owner/repo/resolve/main/x.gguf", body, Behaviour(close_after=1000))

Every request is kept in `server.requests` with the headers it came with. Python's standard library only.
"""

import contextlib
import dataclasses
import json
import socket
import ssl
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclasses.dataclass
class Behaviour:
    """How one path is served. What concerns connections applies to the first `times` requests only."""

    status: int = 0  # answer with this status and no file
    headers: dict = dataclasses.field(default_factory=dict)
    body: bytes = b""  # of such an answer
    etag: str = '"one"'
    content_type: str = "application/octet-stream"
    ignore_range: bool = False  # 200 with the whole file, whatever was asked
    range_shift: int = 0  # the 206 begins so many bytes later than asked
    close_after: int = -1  # closes after so many bytes of the body
    reset: bool = False  # ... with a TCP reset
    hold_after: int = -1  # stops after so many bytes until server.release is set
    drip_bytes: int = 0  # so many bytes every tenth of a second
    length: int = -1  # claims this Content-Length
    chunked: bool = False  # no Content-Length
    extra: bytes = b""  # sent after the file
    times: int = -1  # -1: for ever

    def at_request(self, number):
        if self.times < 0 or number < self.times:
            return self
        return Behaviour(etag=self.etag, content_type=self.content_type, ignore_range=self.ignore_range)


@dataclasses.dataclass
class Request:
    path: str
    headers: dict
    host: str

    @property
    def range_begin(self):
        value = self.headers.get("range")
        return int(value.removeprefix("bytes=").split("-")[0]) if value else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server.owner
        path = self.path.split("?")[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        with server.lock:
            number = sum(1 for request in server.requests if request.path == path)
            server.requests.append(Request(path, headers, headers.get("host", "")))
            content, behaviour = server.files.get(path, (b"", Behaviour(status=404)))
        self.close_connection = True
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.answer(content, behaviour.at_request(number), headers)

    def answer(self, content, behaviour, headers):
        if behaviour.status:
            self.send_response(behaviour.status)
            for name, value in behaviour.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(behaviour.body)))
            self.end_headers()
            self.wfile.write(behaviour.body)
            return
        begin = 0
        end, is_part = len(content), False
        if "range" in headers and not behaviour.ignore_range:
            first, last = headers["range"].removeprefix("bytes=").split("-")
            begin = int(first) + behaviour.range_shift
            end = min(end, int(last) + 1) if last else end
            is_part = begin > 0 or bool(last)
        if begin >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if is_part else 200)
        self.send_header("Content-Type", behaviour.content_type)
        if behaviour.etag:
            self.send_header("ETag", behaviour.etag)
        for name, value in behaviour.headers.items():
            self.send_header(name, value)
        if is_part:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        body = content[begin:end] + behaviour.extra
        if behaviour.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(behaviour.length if behaviour.length >= 0 else len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.send_body(body, behaviour)

    def send_body(self, body, behaviour):
        step = behaviour.drip_bytes or 32768
        sent = 0
        for stop in sorted({behaviour.close_after, behaviour.hold_after, len(body)}):
            if stop < 0 or stop > len(body):
                continue
            while sent < stop:
                part = body[sent : min(sent + step, stop)]
                if behaviour.chunked:
                    self.wfile.write(b"%x\r\n" % len(part) + part + b"\r\n")
                else:
                    self.wfile.write(part)
                sent += len(part)
                if behaviour.drip_bytes:
                    time.sleep(0.1)
            self.wfile.flush()
            if stop == behaviour.close_after:
                return self.hang_up(behaviour.reset)
            if stop == behaviour.hold_after:
                self.server.owner.holding.set()
                self.server.owner.release.wait(60)
        if behaviour.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def hang_up(self, reset):
        if reset:  # a lingering time of zero turns the close into a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients that leave, and strangers that TLS refuses


class MisbehavingServer:
    def __init__(self, tls=None):
        self.files = {}
        self.requests = []
        self.lock = threading.Lock()
        self.holding = threading.Event()
        self.release = threading.Event()
        self.http = QuietServer(("127.0.0.1", 0), Handler)
        self.http.owner = self
        if tls is not None:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.http.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.release.set()
        self.http.shutdown()
        self.http.server_close()

    def add(self, path, content, behaviour=None):
        with self.lock:
            self.files[path] = (content, behaviour or Behaviour())

    def add_hugging_face(self, repo, file, content, behaviour=None):
        self.add(f"/{repo}/resolve/main/{file}", content, behaviour)

    def add_repository(self, repo, files):
        """`files`: names, or name -> content, which is then served as well."""
        siblings = [{"rfilename": name} for name in files]
        if isinstance(files, dict):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            for name, content in files.items():
                self.add_hugging_face(repo, name, content)
        page = {"id": repo, "siblings": siblings}
        self.add(f"/api/models/{repo}", json.dumps(page).encode(), Behaviour(content_type="application/json"))

    def add_package(self, package, wheels, html=False):
        """`wheels`: file name -> (content, sha256, behaviour)."""
        files, links = [], []
        for name, (content, sha256, behaviour) in wheels.items():
            self.add(f"/files/{name}", content, behaviour)
            files.append({"filename": name, "url": f"../../files/{name}", "hashes": {"sha256": sha256}, "size": len(content)})
            links.append(f"<a href='../../files/{name}#sha256={sha256}' data-x=\"a>b\" >{name}</a><br>")
        if html:
            page, kind = "<!DOCTYPE html><html><body><h1>Links</h1>" + "\n".join(links) + "</body></html>", "text/html"
        else:
            page, kind = json.dumps({"files": files, "name": package}), "application/vnd.pypi.simple.v1+json"
        self.add(f"/simple/{package}/", page.encode(), Behaviour(content_type=kind))

    def asked(self, path_part):
        with self.lock:
            return [request for request in self.requests if path_part in request.path]
