"""A web server on this machine that does what real ones do on bad days."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """How one file is served; every misbehaviour ends after `times` requests.

    Attributes:
        content: what is served, by request; the last one stays.
        statuses: answered one a request before anything is served, each with its headers.
        cut_after: bytes after which the connection is dropped.
        stated_length: what Content-Length says instead of the truth.
    """

    content: list[bytes]
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    cut_after: int | None = None
    times: int = 1_000_000
    stated_length: int | None = None
    ignores_range: bool = False
    ignores_if_range: bool = False
    etag: str | None = "content"
    content_type: str = "application/octet-stream"
    chunked: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)
    slow_s: float = 0.0


class HostileServer(ThreadingHTTPServer):
    """Serves `files` by path, and keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Behaviour] = {}

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def serve(self, name: str, *content: bytes, **behaviour: object) -> Behaviour:
        self.files[name] = Behaviour(list(content), **behaviour)  # type: ignore[arg-type]
        return self.files[name]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: HostileServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.close_connection = True
        behaviour = self.server.files.get(self.path.lstrip("/"))
        if behaviour is None:
            self._empty(404, {})
            return
        behaviour.requests.append(dict(self.headers))
        if behaviour.statuses:
            self._empty(*behaviour.statuses.pop(0))
            return
        content = behaviour.content.pop(0) if len(behaviour.content) > 1 else behaviour.content[0]
        self._send(behaviour, content)

    def _send(self, behaviour: Behaviour, content: bytes) -> None:
        etag = hashlib.sha256(content).hexdigest()[:16] if behaviour.etag == "content" else behaviour.etag
        etag = f'"{etag}"' if etag and not etag.startswith("W/") else etag
        start = self._start(behaviour, etag, len(content))
        if start is not None and start >= len(content):
            self._empty(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        body = content[start or 0 :]
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Type", behaviour.content_type)
        for name, value in behaviour.headers.items():
            self.send_header(name, value)
        if behaviour.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            length = len(body) if behaviour.stated_length is None else behaviour.stated_length
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if behaviour.cut_after is not None and behaviour.times > 0:
            behaviour.times -= 1
            body = body[: behaviour.cut_after]
        self._write(behaviour, body)

    def _write(self, behaviour: Behaviour, body: bytes) -> None:
        if behaviour.chunked:
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        elif behaviour.slow_s:
            step = max(1, len(body) // 50)
            for offset in range(0, len(body), step):
                self.wfile.write(body[offset : offset + step])
                threading.Event().wait(behaviour.slow_s / 50)
        else:
            self.wfile.write(body)

    def _start(self, behaviour: Behaviour, etag: str | None, size: int) -> int | None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        is_same = condition is None or behaviour.ignores_if_range or condition == etag
        return int(match[1]) if match and not behaviour.ignores_range and is_same else None

    def _empty(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Tests read `requests` instead."""


@contextmanager
def hostile_server() -> Iterator[HostileServer]:
    server = HostileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
