"""A server that answers any request with a few bytes, as fast as Python can: the other end of `bench/dispatch.py`."""

from __future__ import annotations

import argparse
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n"
    b'Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: close\r\n\r\n{"status":"ok"}'
)
BACKLOG = 4_096


def listen(port: int = 0) -> socket.socket:
    """Return a listener on all addresses of this machine, so that 127.0.0.1 to 127.0.0.200 are so many hosts."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # A connection is handed out once its first bytes are there: no thread waits for a request.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    listener.bind(("0.0.0.0", port))  # noqa: S104  the bench calls 200 loopback addresses
    listener.listen(BACKLOG)
    return listener


def serve(listener: socket.socket, tls: ssl.SSLContext | None, seen: list[tuple[int, bytes]] | None) -> None:
    """Answer one connection after the other until the process ends; keep time and head of each request in `seen`."""
    while True:
        connection, _ = listener.accept()
        with suppress(OSError):
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True, suppress_ragged_eofs=True)
            request = connection.recv(65_536)
            if seen is not None:
                seen.append((time.time_ns(), request))
            connection.sendall(ANSWER)
        connection.close()


def record(seen: list[tuple[int, bytes]], file: Path) -> None:
    """Write what was received, a line each: wall clock in nanoseconds, path, slot, delivery and attempt."""
    with file.open("w", encoding="utf-8") as lines:
        for received_ns, request in seen:
            start, *rest = request.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
            wanted = ("cronicorn-scheduled-for", "idempotency-key", "cronicorn-attempt")
            lines.write("\t".join([str(received_ns), start.split()[1], *(headers.get(name, "") for name in wanted)]))
            lines.write("\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, help="at the end, write what was received to this file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--certificate", help="PEM file with key and chain; serves HTTPS")
    options = parser.parse_args()
    tls = None
    if options.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate)
    listener = listen()
    seen: list[tuple[int, bytes]] | None = [] if options.record else None
    for _ in range(options.threads):
        threading.Thread(target=serve, args=(listener, tls, seen), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()  # the end of the one who started it is the end of the target
    if seen is not None:
        record(seen, options.record)


if __name__ == "__main__":
    main()
