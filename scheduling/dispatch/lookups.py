"""Asks the operating system for the addresses of names, in threads of its own."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

GetAddrInfo = Callable[..., list[tuple[Any, Any, Any, Any, Any]]]

IDLE_S = 2.0


class NoAddress(Enum):
    """Why a lookup brought no address."""

    NO_SUCH_NAME = "the resolver answered that there is no such name, or that it has no address"
    NO_ANSWER = "the resolver did not answer, or could not find out"
    OUT_OF_HANDLES = "this process had no file handle left to ask with"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a lookup brought: addresses, best first and without repeats, or why there are none."""

    addresses: tuple[str, ...] = ()
    fault: NoAddress | None = None


Deliver = Callable[[Answer], None]

# What getaddrinfo returns where a name server has answered. A name that cannot be asked for does not exist either.
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY})
_OUT_OF_HANDLES = frozenset({errno.EMFILE, errno.ENFILE})


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
        """Call `deliver` once, in another thread, with what the lookup of `host` brought."""
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

    def _look_up(self, host: str) -> Answer:
        try:
            rows = self._getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except UnicodeError:
            return Answer(fault=NoAddress.NO_SUCH_NAME)
        except OSError as error:
            return Answer(fault=_fault(error))
        addresses = tuple(dict.fromkeys(str(row[4][0]) for row in rows))
        return Answer(addresses, None if addresses else NoAddress.NO_SUCH_NAME)


def _fault(error: OSError) -> NoAddress:
    # Without a file handle, glibc reports a name that does not exist: it could not open its own configuration.
    if error.errno in _OUT_OF_HANDLES or not _can_open():
        return NoAddress.OUT_OF_HANDLES
    if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
        return NoAddress.NO_SUCH_NAME
    return NoAddress.NO_ANSWER


def _can_open() -> bool:
    """Whether this process can open one more file."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in _OUT_OF_HANDLES
    return True
