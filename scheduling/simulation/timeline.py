"""Draws the runs of a few endpoints over time, one line each, as text. Pure."""

from datetime import datetime, timedelta
from typing import Protocol

from scheduling.plan.decision import Source
from scheduling.simulation.scenario import Scenario

NOTHING = "."
FAILED = "x"
BASELINE = "|"
MARKS: dict[str, str] = {
    Source.MANUAL: "m",
    Source.RETRY: "r",
    Source.PAUSED: "p",
    Source.AI_ONESHOT: "o",
    Source.AI_INTERVAL: "h",
    Source.CLAMPED_MIN: "h",
}
# Of several runs in one column, the first of these is shown.
_PRECEDENCE = f"{FAILED}moprh{BASELINE}{NOTHING}"

LEGEND = (
    f"{BASELINE} own schedule  h interval hint  o one-shot hint  p end of a pause  m run now  r retry  {FAILED} failed"
)


class DrawnRun(Protocol):
    """What is drawn of a run."""

    @property
    def endpoint(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def started_at(self) -> datetime: ...

    @property
    def ok(self) -> bool: ...


class TimeLine:
    """One line of `columns` marks for each endpoint; a column shows the most notable of its runs."""

    def __init__(self, scenario: Scenario, *, columns: int = 72) -> None:
        self._start, self._columns = scenario.start, columns
        self._span = scenario.end - scenario.start
        self._lines = {spec.name: [NOTHING] * columns for spec in scenario.endpoints}

    @property
    def column(self) -> timedelta:
        """The time that one column stands for."""
        return self._span / self._columns

    def add(self, run: DrawnRun) -> None:
        """Marks a run."""
        line, at = self._lines[run.endpoint], self._column_of(run.started_at)
        mark = MARKS.get(run.source, BASELINE) if run.ok else FAILED
        line[at] = min(mark, line[at], key=_PRECEDENCE.index)

    def lines(self) -> list[str]:
        """The drawing, each line with its endpoint's name in front."""
        width = max(map(len, self._lines))
        return [f"{name:<{width}} {''.join(marks)}" for name, marks in self._lines.items()]

    def line(self, name: str) -> str:
        """The marks of one endpoint."""
        return "".join(self._lines[name])

    def band(self, name: str, begin: datetime, end: datetime, mark: str) -> None:
        """Draws a time [begin, end) into the line of an endpoint, at least one column of it."""
        first = max(self._column_of(begin), 0)
        last = min(self._column_of(end - timedelta(microseconds=1)), self._columns - 1)
        for column in range(first, max(last, first) + 1):
            self._lines[name][column] = mark

    def _column_of(self, instant: datetime) -> int:
        return (instant - self._start) * self._columns // self._span
