"""Puts the addresses of a name in order, and tells a broken resolver from names that do not resolve."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from scheduling.exchange.outcome import Blame

WINDOW_NS = 10_000_000_000
MIN_HOSTS = 10
MIN_OWNERS = 2


def in_turns(addresses: Sequence[str]) -> list[str]:
    """The addresses with IPv4 and IPv6 taking turns, beginning with the family that the resolver put first."""
    families = ([ip for ip in addresses if ":" in ip], [ip for ip in addresses if ":" not in ip])
    turns = {ip: (turn, ":" in ip) for family in families for turn, ip in enumerate(family)}
    prefers_v6 = ":" in addresses[0]
    return sorted(addresses, key=lambda ip: (turns[ip][0], turns[ip][1] != prefers_v6))


@dataclass(slots=True)
class _Tally:
    """The names that one owner asked for within the window, and how many of them got no answer."""

    asked: int = 0
    unanswered: int = 0

    @property
    def failing(self) -> bool:
        return self.unanswered * 2 > self.asked


class DnsHealth:
    """Decides whose fault it is that a lookup got no answer.

    An answer, also "no such name", shows that the resolver works, so such a lookup is never counted as unanswered.
    A lookup without an answer is `local`, our resolver's fault, where at least 10 names were asked for within the
    last 10 s and at least 2 owners, more than half of all who asked, got no answer for most of their names. Owners
    count once each: the dead names of one owner never excuse the names of another. Otherwise it is `remote`.
    The latest result of a name counts.
    """

    def __init__(self) -> None:
        self._results: OrderedDict[tuple[UUID, str], tuple[int, bool]] = OrderedDict()
        self._owners: dict[UUID, _Tally] = {}
        self._failing = 0

    def record(self, owner: UUID, host: str, *, answered: bool, now_ns: int) -> None:
        """Note one lookup for `owner` at `now_ns` (monotonic)."""
        key = (owner, host)
        if key in self._results:
            self._forget(key)
        self._results[key] = (now_ns, answered)
        self._count(owner, asked=1, unanswered=not answered)
        while next(iter(self._results.values()))[0] < now_ns - WINDOW_NS:
            self._forget(next(iter(self._results)))

    def blame(self) -> Blame:
        """Whom a lookup is blamed on that just got no answer, and was recorded."""
        if len(self._results) >= MIN_HOSTS and self._failing >= MIN_OWNERS and self._failing * 2 > len(self._owners):
            return Blame.LOCAL
        return Blame.REMOTE

    def _forget(self, key: tuple[UUID, str]) -> None:
        _, answered = self._results.pop(key)
        self._count(key[0], asked=-1, unanswered=-(not answered))

    def _count(self, owner: UUID, *, asked: int, unanswered: int) -> None:
        tally = self._owners.setdefault(owner, _Tally())
        self._failing -= tally.failing
        tally.asked += asked
        tally.unanswered += unanswered
        self._failing += tally.failing
        if not tally.asked:
            del self._owners[owner]
