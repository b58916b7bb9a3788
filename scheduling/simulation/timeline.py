"""Draws the runs of a few endpoints over time, one line each, as text. Pure."""

from datetime import datetime, timedelta

from scheduling.plan.decision import Source
from scheduling.simulation.engine import SimulatedRun
from scheduling.simulation.scenario import Scenario

NOTHING = "."
FAILED = "x"
BASELINE = "|"
MARKS = {
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

    def add(self, run: SimulatedRun) -> None:
        """Marks a run."""
        line, at = self._lines[run.endpoint], self._column_of(run.started_at)
        mark = MARKS.get(run.source, BASELINE) if run.ok else FAILED
        line[at] = min(mark, line[at], key=_PRECEDENCE.index)

    def lines(self) -> list[str]:
        """The drawing, each line with its endpoint's name in front."""
        width = max(map(len, self._lines))
        return [f"{name:<{width}} {''.join(marks)}" for name, marks in self._lines.items()]

    def _column_of(self, instant: datetime) -> int:
        return (instant - self._start) * self._columns // self._span
