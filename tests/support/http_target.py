"""A real HTTP server on 127.0.0.1 that answers as scripted, well or badly, and remembers what it was asked."""

from __future__ import annotations

import gzip
import socket
import socketserver
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import pytest

READ_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Received:
    """One request as it arrived. `path` has the query; header names keep their case."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    monotonic_ns: int
    at: datetime

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever its case; None when it is absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Wire:
    """The server's end of one connection. Every send and wait ends when the target closes."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self.connection = connection
        self.stopping = stopping

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def pause(self, seconds: float) -> bool:
        """Wait; return False when the target closes meanwhile."""
        return not self.stopping.wait(seconds)

    def wait(self, event: threading.Event) -> None:
        """Wait for `event` or for the target to close."""
        while not event.wait(0.01) and not self.stopping.is_set():
            pass


Answer = Callable[[Received, Wire], None]


@dataclass(frozen=True)
class Reply:
    """A well-formed answer; `content_length` overrides the true length, and `hold` is waited for before it is sent."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str = "Scripted"
    content_length: int | None = None
    hold: threading.Event | None = None

    def __call__(self, _request: Received, wire: Wire) -> None:
        if self.hold is not None:
            wire.wait(self.hold)
        length = len(self.body) if self.content_length is None else self.content_length
        fields = {"Content-Type": "application/json", "Content-Length": str(length), **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        wire.send(f"HTTP/1.1 {self.status} {self.reason}\r\n{head}Connection: close\r\n\r\n".encode("latin-1"))
        wire.send(self.body)


def redirect(location: str, status: int = 302) -> Reply:
    """Answer with a redirect."""
    return Reply(status, headers={"Location": location})


def gzip_bomb(size: int) -> Reply:
    """Answer with `size` zero bytes, gzipped, whatever encoding was asked for."""
    return Reply(body=gzip.compress(bytes(size), 9, mtime=0), headers={"Content-Encoding": "gzip"})


def raw(data: bytes) -> Answer:
    """Send exactly `data` and close."""
    return lambda _request, wire: wire.send(data)


def stall(_request: Received, wire: Wire) -> None:
    """Take the request and never answer."""
    wire.stopping.wait()


def drip(data: bytes = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000, interval_s: float = 0.01) -> Answer:
    """Send `data` byte by byte."""

    def answer(_request: Received, wire: Wire) -> None:
        for position in range(len(data)):
            wire.send(data[position : position + 1])
            if not wire.pause(interval_s):
                return

    return answer


def endless(chunk: bytes = b"x" * 65_536) -> Answer:
    """Send a body without end."""

    def answer(_request: Received, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while not wire.stopping.is_set():
            wire.send(chunk)

    return answer


def endless_header(size: int = 10_000_000) -> Answer:
    """Send a header of `size` bytes."""

    def answer(_request: Received, wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nX-Big: ")
        for _ in range(size // 10_000):
            wire.send(b"x" * 10_000)
        wire.send(b"\r\n\r\n")

    return answer


def reset(after: bytes = b"") -> Answer:
    """Send `after`, then reset the connection instead of closing it."""

    def answer(_request: Received, wire: Wire) -> None:
        wire.send(after)
        wire.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Give each answer once, in order; the last one again and again."""
    left = list(answers)
    lock = threading.Lock()

    def answer(request: Received, wire: Wire) -> None:
        with lock:
            chosen = left.pop(0) if len(left) > 1 else left[0]
        chosen(request, wire)

    return answer


class HttpTarget:
    """Serves scripted answers as a context manager; a path without a script is answered 404.

    One request per connection. With `tls`, connections are wrapped by that server context.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._routes: dict[str, Answer] = {}
        self._received: list[Received] = []
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._live: set[socket.socket] = set()
        self.connections = 0
        target = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                target._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            request_queue_size = 256
            daemon_threads = False

            def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
                """Close without a FIN of its own, so that a scripted reset stays one."""
                self.close_request(request)

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="http-target")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        with self._changed:
            for connection in self._live:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """Return the address of `path` here, under another `host` name if one is given."""
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}{path}"

    def route(self, path: str, answer: Answer) -> str:
        """Script `path` (without its query) and return its URL."""
        self._routes[path] = answer
        return self.url(path)

    @property
    def requests(self) -> list[Received]:
        """All requests so far, in the order of their arrival."""
        with self._changed:
            return list(self._received)

    def wait_for(self, count: int, timeout: float = 10.0) -> list[Received]:
        """Return the requests once there are `count` of them; raise TimeoutError otherwise."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._received) >= count, timeout):
                raise TimeoutError(f"{len(self._received)} of {count} requests arrived.")
            return list(self._received)

    def wait_for_connections(self, count: int, timeout: float = 10.0) -> None:
        """Return once `count` connections were accepted; raise TimeoutError otherwise."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.connections >= count, timeout):
                raise TimeoutError(f"{self.connections} of {count} connections arrived.")

    def _serve(self, connection: socket.socket) -> None:
        with self._changed:
            self.connections += 1
            self._live.add(connection)
            self._changed.notify_all()
        served = connection
        try:
            connection.settimeout(READ_TIMEOUT_S)
            if self._tls is not None:
                served = self._tls.wrap_socket(connection, server_side=True)
                with self._changed:
                    self._live.discard(connection)
                    self._live.add(served)
            request = _read_request(served)
            if request is not None:
                with self._changed:
                    self._received.append(request)
                    self._changed.notify_all()
                answer = self._routes.get(request.path.partition("?")[0], Reply(404))
                answer(request, Wire(served, self._stopping))
        except OSError:
            # The client went away, as clients do in most of these scripts.
            pass
        finally:
            with self._changed:
                self._live.discard(connection)
                self._live.discard(served)
            served.close()


def _read_request(connection: socket.socket) -> Received | None:
    """Read one request; None when the client closes before it is complete."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _version = first.split(" ", 2)
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    while len(body) < length:
        more = connection.recv(65_536)
        if not more:
            return None
        body += more
    return Received(method, path, headers, body, time.monotonic_ns(), datetime.now(UTC))


@pytest.fixture
def http_target() -> Iterator[HttpTarget]:
    """A running target for one test."""
    with HttpTarget() as target:
        yield target
