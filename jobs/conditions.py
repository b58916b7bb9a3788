"""The conditions of the owner's rules: what they look at in a run, and why they hold, in words. Pure."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from scheduling.exchange.jsonpath import MISSING, Path, compare, lookup

SHOWN_LENGTH = 60
# What it takes to say that an error rate is high: see `is_evident`.
FEWEST_FAILURES = 3
HIGHEST_BOUND = 0.1
# Two-sided confidence of 99 %. At 1 % errors a call a minute this raises a rule of 5 % over 20 runs once in two months.
_Z = 2.576

_WORDS = {">": "above", ">=": "at least", "<": "below", "<=": "at most", "!=": "not"}
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Ignorable by default (Unicode, DerivedCoreProperties) though their categories are those of marks and letters.
_UNSHOWN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


@dataclass(frozen=True, slots=True)
class Observation:
    """One finished run as the rules see it.

    `document` is the body as JSON, or MISSING where there is none; `digest` tells bodies apart, None means no response.
    `verdicts` say by their keys what conditions found in the document before it was masked, where that differs.
    """

    failed: bool
    status_code: int | None = None
    duration_ms: float | None = None
    document: object = MISSING
    digest: str | None = None
    verdicts: Mapping[str, bool] = field(default_factory=dict)

    @property
    def untold(self) -> bool:
        """Whether what the body lacks tells nothing: the call failed, or it was answered with "not modified"."""
        return self.failed or (self.status_code == 304 and self.document is MISSING)


# The finished runs of one endpoint, newest first; the first one is judged, the others are its past.
History = Sequence[Observation]


@dataclass(frozen=True, slots=True)
class PathCondition:
    """The value at `path` of the JSON body compares to `value`."""

    path: str
    steps: Path
    op: str
    value: str | int | float | bool | None

    @property
    def key(self) -> str:
        """What names the condition in stored verdicts."""
        return json.dumps([self.path, self.op, self.value])

    def holds(self, document: object) -> bool:
        """Whether it holds for a body."""
        return compare(lookup(document, self.steps), self.op, self.value)

    def because(self, runs: History) -> str | None:
        """Why it holds, in words; None when it does not, or is unknown."""
        actual = lookup(runs[0].document, self.steps)
        if self._is_untold(actual, runs) or not self._compares(actual, runs):
            return None
        name = self.path.removeprefix("$").removeprefix(".") or "the body"
        if self.op == "exists":
            return f"{name} is missing" if self.value is False else f"{name} is there"
        if self.op == "contains":
            return f"{name} contains {_shown(self.value)}"
        return f"{name} is {_shown(actual)}{_against(self.op, self.value)}"

    def is_unknown(self, runs: History) -> bool:
        """Whether the latest run cannot tell: it failed, and its body has nothing at the path."""
        return self._is_untold(lookup(runs[0].document, self.steps), runs)

    def _is_untold(self, actual: object, runs: History) -> bool:
        return actual is MISSING and runs[0].untold and self.key not in runs[0].verdicts

    def _compares(self, actual: object, runs: History) -> bool:
        """Whether it holds for the body as it came: what was found before masking outranks what is stored."""
        return runs[0].verdicts.get(self.key, compare(actual, self.op, self.value))

    def figures(self, runs: History) -> str:
        """What it looks at, and what it waits for, whether it holds or not."""
        name = self.path.removeprefix("$").removeprefix(".") or "the body"
        actual = lookup(runs[0].document, self.steps)
        if self.op == "exists":
            return f"{name} {'is there' if actual is not MISSING else 'is missing'}"
        if self.op == "contains":
            return f"{name} is looked at for {_shown(self.value)}"
        is_now = "is missing" if actual is MISSING else f"is {_shown(actual)}"
        return f"{name} {is_now}{_awaited(self.op, _shown(self.value))}"


@dataclass(frozen=True, slots=True)
class StatusCondition:
    """The HTTP status of the latest run compares to `value`; without a response it does not hold."""

    op: str
    value: float

    def because(self, runs: History) -> str | None:
        """Why it holds, in words; None when it does not."""
        status = runs[0].status_code
        if status is None or not compare(status, self.op, self.value):
            return None
        return f"the status is {status}{_against(self.op, self.value)}"

    def is_unknown(self, runs: History) -> bool:
        """Whether no response came."""
        return runs[0].status_code is None

    def figures(self, runs: History) -> str:
        """What it looks at, and what it waits for, whether it holds or not."""
        status = "missing" if runs[0].status_code is None else str(runs[0].status_code)
        return f"the status is {status}{_awaited(self.op, _shown(self.value))}"


@dataclass(frozen=True, slots=True)
class DurationCondition:
    """The duration of the latest run, in milliseconds, compares to `value`."""

    op: str
    value: float

    def because(self, runs: History) -> str | None:
        """Why it holds, in words; None when it does not."""
        duration = runs[0].duration_ms
        if duration is None or not compare(duration, self.op, self.value):
            return None
        return f"the call took {round(duration)} ms{_against(self.op, self.value)}"

    def is_unknown(self, runs: History) -> bool:
        """Whether the call took no time that is known."""
        return runs[0].duration_ms is None

    def figures(self, runs: History) -> str:
        """What it looks at, and what it waits for, whether it holds or not."""
        took = "has no duration" if runs[0].duration_ms is None else f"took {round(runs[0].duration_ms)} ms"
        return f"the call {took}{_awaited(self.op, _shown(self.value))}"


@dataclass(frozen=True, slots=True)
class FailingCondition:
    """The latest `runs` runs, or more, all failed."""

    runs: int

    def because(self, runs: History) -> str | None:
        """Why it holds, in words; None when it does not."""
        if len(runs) < self.runs or not all(run.failed for run in runs[: self.runs]):
            return None
        return "the last call failed" if self.runs == 1 else f"the last {self.runs} calls failed"

    def is_unknown(self, runs: History) -> bool:
        """Never: every run tells whether it failed."""
        return False

    def figures(self, runs: History) -> str:
        """What it looks at, and what it waits for, whether it holds or not."""
        failed = next((number for number, run in enumerate(runs) if not run.failed), len(runs))
        return f"the last {failed} calls failed, waiting for {self.runs}"


def is_evident(failed: int, runs: int, value: float) -> bool:
    """Whether so many failures of so many runs are evidence of an error rate of at least `value`, and not chance.

    They are where there are 3 failures or more (or all runs failed), and the lower bound of the rate (Wilson 1927,
    99 %) reaches `value`, or 10 % where `value` is higher: so much is never the noise of a healthy service.
    """
    rate, square = failed / runs, _Z * _Z
    spread = _Z * math.sqrt(rate * (1 - rate) / runs + square / (4 * runs * runs))
    lower = (rate + square / (2 * runs) - spread) / (1 + square / runs)
    return failed >= min(FEWEST_FAILURES, runs) and lower >= min(value, HIGHEST_BOUND)


@dataclass(frozen=True, slots=True)
class ErrorRateCondition:
    """The part of the latest `runs` runs that failed, 0 to 1, compares to `value`; with fewer runs it does not hold.

    `>` and `>=` need evidence (`is_evident`); the other operators compare the plain part.
    """

    op: str
    value: float
    runs: int

    def because(self, runs: History) -> str | None:
        """Why it holds, in words; None when it does not."""
        if len(runs) < self.runs:
            return None
        failed = sum(run.failed for run in runs[: self.runs])
        rate = failed / self.runs
        if not compare(rate, self.op, self.value):
            return None
        if self.op in (">", ">=") and not is_evident(failed, self.runs, self.value):
            return None
        against = f", {_WORDS[self.op]} {_percent(self.value)}" if self.op in _WORDS else ""
        return f"{failed} of the last {self.runs} calls failed ({_percent(rate)}){against}"

    def is_unknown(self, runs: History) -> bool:
        """Never: every run tells whether it failed."""
        return False

    def figures(self, runs: History) -> str:
        """What it looks at, and what it waits for, whether it holds or not."""
        seen = runs[: self.runs]
        failed = sum(run.failed for run in seen)
        rate = f"{failed} of the last {len(seen)} calls failed ({_percent(failed / max(len(seen), 1))})"
        return f"{rate}{_awaited(self.op, _percent(self.value))} over {self.runs} runs"


@dataclass(frozen=True, slots=True)
class UnchangedCondition:
    """The latest `runs` runs, or more, brought the same body; an answer of 304 says that it is the same."""

    runs: int

    def because(self, runs: History) -> str | None:
        """Why it holds, in words; None when it does not, or is unknown."""
        latest = runs[: self.runs]
        bodies = self._bodies(latest)
        if len(runs) < self.runs or any(run.failed for run in latest) or None in bodies or len(bodies) > 1:
            return None
        return f"the response was the same for {self.runs} runs"

    def is_unknown(self, runs: History) -> bool:
        """Whether runs that failed are all that stands against it: what they brought is not the body."""
        latest = runs[: self.runs]
        bodies = self._bodies(latest)
        return len(runs) >= self.runs and any(run.failed for run in latest) and len(bodies) <= 1 and None not in bodies

    @staticmethod
    def _bodies(runs: History) -> set[str | None]:
        """The digests of what runs brought; one that failed brought no body, and a 304 the same as before."""
        return {run.digest for run in runs if not run.failed and run.status_code != 304}

    def figures(self, runs: History) -> str:
        """What it looks at, and what it waits for, whether it holds or not."""
        same = next((number for number, run in enumerate(runs) if run.digest != runs[0].digest), len(runs))
        return f"the response was the same for {same} runs, waiting for {self.runs}"


@dataclass(frozen=True, slots=True)
class AllCondition:
    """All parts hold."""

    parts: tuple[Condition, ...]

    def because(self, runs: History) -> str | None:
        """Why it holds, in words; None when it does not."""
        words = [part.because(runs) for part in self.parts]
        return None if None in words else " and ".join(filter(None, words))

    def is_unknown(self, runs: History) -> bool:
        """Whether no part is known not to hold, and one is unknown."""
        unknown = [part for part in self.parts if part.is_unknown(runs)]
        return bool(unknown) and all(part in unknown or part.because(runs) is not None for part in self.parts)

    def figures(self, runs: History) -> str:
        """What its parts look at, and what they wait for."""
        return " and ".join(part.figures(runs) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyCondition:
    """One part holds, or more."""

    parts: tuple[Condition, ...]

    def because(self, runs: History) -> str | None:
        """Why it holds, in words, by its first part that does; None when it does not."""
        return next((words for part in self.parts if (words := part.because(runs)) is not None), None)

    def is_unknown(self, runs: History) -> bool:
        """Whether no part holds, and one is unknown."""
        return self.because(runs) is None and any(part.is_unknown(runs) for part in self.parts)

    def figures(self, runs: History) -> str:
        """What its parts look at, and what they wait for."""
        return " or ".join(part.figures(runs) for part in self.parts)


Condition = (
    PathCondition
    | StatusCondition
    | DurationCondition
    | FailingCondition
    | ErrorRateCondition
    | UnchangedCondition
    | AllCondition
    | AnyCondition
)


def runs_looked_at(condition: Condition) -> int:
    """How many of the latest runs the condition depends on."""
    if isinstance(condition, AllCondition | AnyCondition):
        return max(runs_looked_at(part) for part in condition.parts)
    if isinstance(condition, FailingCondition | ErrorRateCondition | UnchangedCondition):
        return condition.runs
    return 1


def body_looked_at(condition: Condition) -> bool:
    """Whether the condition depends on the body's content."""
    if isinstance(condition, AllCondition | AnyCondition):
        return any(body_looked_at(part) for part in condition.parts)
    return isinstance(condition, PathCondition)


def path_conditions(condition: Condition) -> Iterator[PathCondition]:
    """The conditions in it that look into the body."""
    if isinstance(condition, AllCondition | AnyCondition):
        for part in condition.parts:
            yield from path_conditions(part)
    elif isinstance(condition, PathCondition):
        yield condition


def visible(text: str) -> str:
    """The text without control, format, private and unassigned characters, so that nothing hides in it.

    Also without those that count as marks or letters and show nothing: variation selectors, joiners and fillers.
    """
    kept = _UNSHOWN.sub("", text)
    return "".join(character for character in kept if unicodedata.category(character) not in _INVISIBLE)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _against(op: str, expected: object) -> str:
    return f", {_WORDS[op]} {_shown(expected)}" if op in _WORDS else ""


def _awaited(op: str, value: str) -> str:
    return f", waiting for {_WORDS.get(op, '')} {value}".replace("  ", " ")


def _percent(part: float) -> str:
    return f"{100 * part:.3g} %"


def _shown(value: object) -> str:
    """A JSON value as words: short, on one line, and without invisible characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    whole = str(value)
    # A text of a response may be a megabyte long, and many conditions may look at it.
    text = visible(whole[: 4 * SHOWN_LENGTH])
    is_cut = len(text) > SHOWN_LENGTH or len(whole) > 4 * SHOWN_LENGTH
    text = f"{text[:SHOWN_LENGTH]}..." if is_cut else text
    return f'"{text}"' if isinstance(value, str) else text
