"""Asks the operating system for the addresses of names, in threads of its own."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

GetAddrInfo = Callable[..., list[tuple[Any, Any, Any, Any, Any]]]
Deliver = Callable[[tuple[str, ...]], None]

IDLE_S = 2.0


class Lookups:
    """Runs `getaddrinfo` in daemon threads, one per distinct name under way and at most `limit` of them.

    A name whose lookup hangs holds one thread however often it is asked for, and delays no other name. The threads
    are daemons because `getaddrinfo` cannot be interrupted: a hung one must not hold up the end of the process.
    A thread ends after `IDLE_S` without work.
    """

    def __init__(self, limit: int, getaddrinfo: GetAddrInfo = socket.getaddrinfo) -> None:
        self._limit = limit
        self._getaddrinfo = getaddrinfo
        self._work = threading.Condition()
        self._hosts: deque[str] = deque()
        self._waiting: dict[str, list[Deliver]] = {}
        self._threads = 0
        self._idle = 0
        self._closed = False

    def ask(self, host: str, deliver: Deliver) -> None:
        """Call `deliver` once, in another thread, with the addresses of `host`: best first, no repeats, or none."""
        with self._work:
            if host in self._waiting:
                self._waiting[host].append(deliver)
                return
            self._waiting[host] = [deliver]
            self._hosts.append(host)
            self._work.notify()
            if len(self._hosts) > self._idle and self._threads < self._limit:
                self._threads += 1
                threading.Thread(target=self._serve, name="resolver", daemon=True).start()

    def close(self) -> None:
        """End the threads that have nothing to do; what was asked for is still delivered."""
        with self._work:
            self._closed = True
            self._work.notify_all()

    def _serve(self) -> None:
        while (host := self._next()) is not None:
            found = self._look_up(host)
            with self._work:
                waiting = self._waiting.pop(host)
            for deliver in waiting:
                deliver(found)

    def _next(self) -> str | None:
        with self._work:
            self._idle += 1
            self._work.wait_for(lambda: self._hosts or self._closed, IDLE_S)
            self._idle -= 1
            if self._hosts:
                return self._hosts.popleft()
            self._threads -= 1
            return None

    def _look_up(self, host: str) -> tuple[str, ...]:
        try:
            rows = self._getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return ()
        return tuple(dict.fromkeys(str(row[4][0]) for row in rows))
