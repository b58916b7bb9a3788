"""A proxy between a scheduler and PostgreSQL that loses the acknowledgement of a COMMIT, or swallows everything."""

import re
import select
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from django.db import connection

_ROWS_CAME = re.compile(rb"SELECT [1-9]")
_REMEMBERED = 1_000_000


def claimed(sent: bytes, answered: bytes) -> bool:
    """Whether a transaction was a claim that got something."""
    return b"INSERT INTO runs" in sent and _ROWS_CAME.search(answered) is not None


def settled(sent: bytes, _answered: bytes) -> bool:
    """Whether a transaction settled a run."""
    return b"UPDATE runs r SET status" in sent


@dataclass
class _Link:
    """One connection: what was said in its transaction so far, and whether the next answer is lost."""

    client: socket.socket
    server: socket.socket
    sent: bytes = b""
    answered: bytes = b""
    cut: bool = False


class Proxy:
    """Listens on 127.0.0.1 and speaks to the test's server. Every fault happens once; then all goes well again."""

    def __init__(self) -> None:
        parameters = connection.get_connection_params()
        self._upstream = f"{parameters['host']}/.s.PGSQL.{parameters.get('port') or 5432}"
        self._database = parameters["dbname"]
        self._user = parameters.get("user") or ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lose = None
        self._passing = threading.Event()
        self._passing.set()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self.lost = threading.Event()

    @property
    def url(self) -> str:
        """What DATABASE_URL says."""
        return f"postgresql://{self._user}@127.0.0.1:{self._listener.getsockname()[1]}/{self._database}?sslmode=disable"

    def lose_the_answer_to(self, transaction) -> None:  # type: ignore[no-untyped-def]
        """Cuts the connection after the COMMIT of such a transaction was done, before its answer is passed on."""
        self._lose = transaction

    def swallow(self) -> None:
        """Passes nothing on any more, and keeps every connection open: a network that drops packets."""
        self._passing.clear()

    def pass_on(self) -> None:
        """Ends that."""
        self._passing.set()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closing.set()
        self._passing.set()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _start(self, body, *arguments: object) -> None:  # type: ignore[no-untyped-def]
        thread = threading.Thread(target=body, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            if select.select([self._listener], [], [], 0.1)[0]:
                client, _ = self._listener.accept()
                self._start(self._relay, client)

    def _relay(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with client, server, suppress(OSError):
            server.connect(self._upstream)
            link = _Link(client, server)
            while not self._closing.is_set():
                readable, _, _ = select.select([client, server], [], [], 0.1)
                self._passing.wait()
                for end in readable:
                    data = end.recv(65_536)
                    if not data or not (self._from_client(link, data) if end is client else self._answer(link, data)):
                        return

    def _from_client(self, link: _Link, data: bytes) -> bool:
        link.sent = (link.sent + data)[-_REMEMBERED:]
        if b"COMMIT" in data or b"ROLLBACK" in data:
            if self._lose is not None and b"COMMIT" in data and self._lose(link.sent, link.answered):
                self._lose, link.cut = None, True
            link.sent = link.answered = b""
        link.server.sendall(data)
        return True

    def _answer(self, link: _Link, data: bytes) -> bool:
        if link.cut:
            self.lost.set()
            return False
        link.answered = (link.answered + data)[-_REMEMBERED:]
        link.client.sendall(data)
        return True
