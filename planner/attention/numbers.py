"""The numbers of a JSON body, the range in which each usually moves, and which have left it. Pure.

A number is named by its JSON pointer (RFC 6901), at most three keys deep; a list counts as the number of its items.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from scheduling.exchange.bodies import safe_json

BODIES_REMEMBERED = 20
MOST_NUMBERS = 20
MOST_KEYS = 3
LONGEST_PATH = 100
SEEN_ENOUGH = 5
LEAST_MARGIN = 0.1


class Way(StrEnum):
    """How a number moved that moved the same way with every body: a counter, a clock, a countdown."""

    RISING = "rising"
    FALLING = "falling"


@dataclass(frozen=True, slots=True)
class Usual:
    """What the latest bodies showed of one number; `way` None where it went up and down, or stood still."""

    low: float
    high: float
    last: float
    seen: int
    way: Way | None

    def left_by(self, value: float) -> bool:
        """Whether `value` is out of range by a clear margin; never with fewer than five observations.

        The margin is the width of the range, and at least a tenth of its larger end, so that a number that never
        changed has one too. A number that only rose has left when it is below all that was seen, one that only fell
        when it is above: going on is its way.
        """
        if self.seen < SEEN_ENOUGH:
            return False
        if self.way is Way.RISING:
            return value < self.low
        if self.way is Way.FALLING:
            return value > self.high
        margin = max(self.high - self.low, LEAST_MARGIN * max(abs(self.low), abs(self.high)))
        return value < self.low - margin or value > self.high + margin


def numbers_in(text: str) -> dict[str, float]:
    """The first twenty numbers of a JSON body, the shallowest first; none of other bodies."""
    found: dict[str, float] = {}
    waiting: deque[tuple[str, object, int]] = deque([("", safe_json(text), 0)])
    while waiting and len(found) < MOST_NUMBERS:
        path, value, keys = waiting.popleft()
        if isinstance(value, dict) and keys < MOST_KEYS:
            places = ((f"{path}/{_escaped(key)}", item) for key, item in value.items())
            waiting.extend((place, item, keys + 1) for place, item in places if len(place) <= LONGEST_PATH)
        elif isinstance(value, list):
            found[path] = float(len(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[path] = float(value)
    return found


def usual_numbers(bodies: Sequence[str]) -> dict[str, Usual]:
    """What the bodies, newest first, show of each number that the newest one has."""
    seen = [numbers_in(body) for body in reversed(bodies)]
    if not seen:
        return {}
    values = {path: [numbers[path] for numbers in seen if path in numbers] for path in seen[-1]}
    return {path: Usual(min(each), max(each), each[-1], len(each), _way(each)) for path, each in values.items()}


def numbers_out_of_range(text: str, usual: Mapping[str, Usual]) -> list[str]:
    """The paths of the numbers that have left their usual range; one that is missing or new has not."""
    if not usual:
        return []
    return [path for path, value in numbers_in(text).items() if path in usual and usual[path].left_by(value)]


def to_json(usual: Mapping[str, Usual]) -> dict[str, dict[str, Any]]:
    """As stored with a session."""
    return {path: asdict(each) for path, each in usual.items()}


def from_json(stored: Mapping[str, Any] | None) -> dict[str, Usual]:
    """What `to_json` made; empty for None."""
    return {
        path: Usual(each["low"], each["high"], each["last"], each["seen"], Way(each["way"]) if each["way"] else None)
        for path, each in (stored or {}).items()
    }


def _way(values: Sequence[float]) -> Way | None:
    steps = [after - before for before, after in pairwise(values)]
    if steps and min(steps) > 0:
        return Way.RISING
    if steps and max(steps) < 0:
        return Way.FALLING
    return None


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
