"""Resolves names off the event loop, and remembers whether names resolve at all."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from scheduling.outcome import Blame

GetAddrInfo = Callable[..., list[tuple[Any, Any, Any, Any, Any]]]

WINDOW_NS = 10_000_000_000
MIN_HOSTS = 10


class NameNotResolvedError(Exception):
    """The name has no address, or no answer came from the resolver."""


def is_literal(host: str) -> bool:
    """Whether `host` is an address already, in the canonical spelling."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Resolver:
    """Runs `getaddrinfo` in daemon threads, one per distinct name under way and at most `limit` of them.

    A name whose lookup hangs holds one thread however often it is asked for, and delays no other name. The threads
    are daemons because `getaddrinfo` cannot be interrupted: a hung one must not hold up the end of the process.
    """

    def __init__(self, limit: int, getaddrinfo: GetAddrInfo = socket.getaddrinfo) -> None:
        self._getaddrinfo = getaddrinfo
        self._slots = asyncio.Semaphore(limit)
        self._lookups: dict[str, asyncio.Task[tuple[str, ...] | None]] = {}

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Return the addresses of `host`, best first and without repeats; raise `NameNotResolvedError`."""
        if is_literal(host):
            return (host,)
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = asyncio.get_running_loop().create_task(self._look_up(host))
            self._lookups[host] = lookup
            lookup.add_done_callback(lambda _task: self._lookups.pop(host, None))
        found = await asyncio.shield(lookup)
        if not found:
            raise NameNotResolvedError
        return found

    async def _look_up(self, host: str) -> tuple[str, ...] | None:
        async with self._slots:
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[tuple[str, ...] | None] = loop.create_future()
            threading.Thread(target=self._ask, args=(host, loop, answer), name="resolver", daemon=True).start()
            return await answer

    def _ask(self, host: str, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[tuple[str, ...] | None]) -> None:
        found: tuple[str, ...] | None = None
        try:
            rows = self._getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found = tuple(dict.fromkeys(str(row[4][0]) for row in rows))
        except (OSError, UnicodeError):
            found = None
        finally:
            # A closed loop has nobody left who waits for the answer.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, answer, found)


def _resolve(answer: asyncio.Future[tuple[str, ...] | None], found: tuple[str, ...] | None) -> None:
    if not answer.done():
        answer.set_result(found)


class DnsHealth:
    """Tells a name that does not exist from a resolver that does not work.

    A failed lookup is `remote`, unless more than half of at least 10 names asked for within the last 10 s failed:
    then it is `local`. The latest result of each name counts.
    """

    def __init__(self) -> None:
        self._results: OrderedDict[str, tuple[int, bool]] = OrderedDict()

    def record(self, host: str, found: bool, now_ns: int) -> None:
        """Note one lookup at `now_ns` (monotonic)."""
        self._results[host] = (now_ns, found)
        self._results.move_to_end(host)
        while next(iter(self._results.values()))[0] < now_ns - WINDOW_NS:
            self._results.popitem(last=False)

    def blame(self) -> Blame:
        """Return whom a lookup that just failed, and was recorded, is blamed on."""
        failed = sum(not found for _at, found in self._results.values())
        if len(self._results) >= MIN_HOSTS and failed * 2 > len(self._results):
            return Blame.LOCAL
        return Blame.REMOTE
