"""A target in a process of its own that logs every call: who was called for which slot, and from when to when.

`python -m tests.chaos.target LOG` prints its port and serves until its standard input ends. A path is
`/LABEL?ms=DURATION&failing=PERCENT`; each call is one line of JSON when it arrives and one when it ends. Which calls
fail follows from the label, the slot and the attempt.
"""

import json
import os
import select
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

from tests.chaos.facts import Call

PROJECT_DIR = Path(__file__).resolve().parents[2]
_REST = b"\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
ANSWERS = {True: b"HTTP/1.1 200 OK" + _REST, False: b"HTTP/1.1 500 Internal Server Error" + _REST}


class _Recorder(socketserver.BaseRequestHandler):
    """Serves one request per connection. A client that goes away ends its call."""

    def handle(self) -> None:
        self.request.settimeout(10)
        try:
            head = self._head()
        except OSError:
            return
        if not head:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        parts = urlsplit(first.split(" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        label, query = parts.path.lstrip("/"), parse_qs(parts.query)
        slot, attempt = headers.get("cronicorn-scheduled-for"), headers.get("cronicorn-attempt", "0")
        ok = crc32(f"{label} {slot} {attempt}".encode()) % 100 >= int(query.get("failing", ["0"])[0])
        number = self._log(
            label=label,
            key=headers.get("idempotency-key"),
            slot=slot,
            attempt=int(attempt),
            received_at=time.time(),
            ok=ok,
        )
        answered = self._wait_for_the_client_to_leave(int(query.get("ms", ["0"])[0]) / 1000)
        if answered:
            try:
                self.request.sendall(ANSWERS[ok])
            except OSError:
                answered = False
        self._log(number, finished_at=time.time(), answered=answered)

    def _head(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.request.recv(65_536)
            if not more:
                return b""
            data += more
        return data.partition(b"\r\n\r\n")[0]

    def _wait_for_the_client_to_leave(self, seconds: float) -> bool:
        """Whether the client was still there after `seconds`."""
        if not seconds:
            return True
        readable, _, _ = select.select([self.request], [], [], seconds)
        try:
            return not readable or self.request.recv(1, socket.MSG_PEEK) != b""
        except OSError:
            return False

    def _log(self, number: int | None = None, **facts: object) -> int:
        server = self.server
        assert isinstance(server, _Server)
        with server.lock:
            if number is None:
                server.calls += 1
                number = server.calls
            os.write(server.log, json.dumps({"number": number, **facts}).encode() + b"\n")
        return number


class _Server(socketserver.ThreadingTCPServer):
    request_queue_size = 1024
    daemon_threads = True

    def __init__(self, log: Path) -> None:
        super().__init__(("0.0.0.0", 0), _Recorder)  # noqa: S104  all of 127.0.0.0/8, so that there are many hosts
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.lock = threading.Lock()
        self.calls = 0


class Target:
    """The process, seen from the one who started it."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.target", str(log)],
            cwd=PROJECT_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def url(self, label: str, *, milliseconds: int = 0, failing: int = 0, host: str = "127.0.0.1") -> str:
        """The address under which a label is called; the answer takes so long, and so many in a hundred fail."""
        return f"http://{host}:{self.port}/{label}?ms={milliseconds}&failing={failing}"

    def calls(self) -> list[Call]:
        """Every call so far, in the order of their arrival."""
        starts, ends = {}, {}
        for line in self._log.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            (starts if "label" in entry else ends)[entry["number"]] = entry
        return [_call(start, ends.get(number)) for number, start in starts.items()]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def _call(start: dict[str, object], end: dict[str, object] | None) -> Call:
    return Call(
        label=str(start["label"]),
        key=str(start["key"]),
        slot=datetime.fromisoformat(str(start["slot"])),
        attempt=int(str(start["attempt"])),
        received_at=_instant(start["received_at"]),
        finished_at=_instant(end["finished_at"]) if end is not None else None,
        answered=end is not None and bool(end["answered"]),
        ok=bool(start["ok"]),
    )


def _instant(seconds: object) -> datetime:
    return datetime.fromtimestamp(float(str(seconds)), UTC)


@contextmanager
def recording_target(log: Path) -> Iterator[Target]:
    """A target that lives as long as the block."""
    target = Target(log)
    try:
        yield target
    finally:
        target.close()


def main() -> None:
    """Serves until standard input ends."""
    server = _Server(Path(sys.argv[1]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
