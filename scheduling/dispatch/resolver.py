"""Resolves names off the event loop, puts their addresses in order, and remembers whether names resolve at all."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address

from scheduling.dispatch.lookups import Lookups
from scheduling.exchange.outcome import Blame

MAX_ADDRESSES = 4
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


def in_turns(addresses: Sequence[str]) -> list[str]:
    """Return the first four addresses, IPv4 and IPv6 taking turns and beginning as the resolver did."""
    families = ([ip for ip in addresses if ":" in ip], [ip for ip in addresses if ":" not in ip])
    turns = {ip: (turn, ":" in ip) for family in families for turn, ip in enumerate(family)}
    prefers_v6 = ":" in addresses[0]
    return sorted(addresses, key=lambda ip: (turns[ip][0], turns[ip][1] != prefers_v6))[:MAX_ADDRESSES]


class Resolver:
    """Awaits lookups, which run in threads of their own; see `Lookups` for what a hung one costs."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Return the addresses of `host`, best first and without repeats; raise `NameNotResolvedError`."""
        if is_literal(host):
            return (host,)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[str, ...]] = loop.create_future()

        def deliver(found: tuple[str, ...]) -> None:
            # A closed loop has nobody left who waits for the answer.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, answer, found)

        self._lookups.ask(host, deliver)
        found = await answer
        if not found:
            raise NameNotResolvedError
        return found


def _resolve(answer: asyncio.Future[tuple[str, ...]], found: tuple[str, ...]) -> None:
    if not answer.done():
        answer.set_result(found)


class DnsHealth:
    """Tells a name that does not exist from a resolver that does not work.

    A failed lookup is `remote`, unless more than half of at least 10 names asked for within the last 10 s failed:
    then it is `local`. The latest result of each name counts.
    """

    def __init__(self) -> None:
        self._results: OrderedDict[str, tuple[int, bool]] = OrderedDict()
        self._failed = 0

    def record(self, host: str, found: bool, now_ns: int) -> None:
        """Note one lookup at `now_ns` (monotonic)."""
        self._forget(self._results.pop(host, None))
        self._results[host] = (now_ns, found)
        self._failed += not found
        while next(iter(self._results.values()))[0] < now_ns - WINDOW_NS:
            self._forget(self._results.popitem(last=False)[1])

    def blame(self) -> Blame:
        """Return whom a lookup that just failed, and was recorded, is blamed on."""
        if len(self._results) >= MIN_HOSTS and self._failed * 2 > len(self._results):
            return Blame.LOCAL
        return Blame.REMOTE

    def _forget(self, result: tuple[int, bool] | None) -> None:
        if result is not None:
            self._failed -= not result[1]
