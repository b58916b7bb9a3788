"""Times of a record in which an endpoint was not called though its own schedule would have: paused, stopped, or down.

Pure. They are worked out from the runs, for what people paused, archived or stopped then is not kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from planner.evaluation.history import PlayedRun
from scheduling.plan.governor import plan_next_run
from scheduling.plan.row import PlanRow, facts_of

# So many slots in a row without a call are no lateness.
FEWEST_SLOTS = 2
# A schedule that was slower then than it is now shows in the usual time between two calls.
USUAL_GAPS = 3


class Span(NamedTuple):
    """The time [begin, end)."""

    begin: datetime
    end: datetime


def silences(
    row: PlanRow, runs: Sequence[PlayedRun], begin: datetime, end: datetime, *, advised: Iterable[Span] = ()
) -> list[Span]:
    """The silent times in [begin, end) of an endpoint whose schedule is that of `row`; `runs` in order of their starts.

    What the planner slowed down or paused then (`advised`) is no silence: without it, calls would have been made.
    """
    begin = max(begin, row.created_at)
    starts = [run.started_at for run in runs]
    gaps = [(later - sooner).total_seconds() for sooner, later in pairwise(starts)]
    usual = timedelta(seconds=median(gaps) * USUAL_GAPS) if gaps else timedelta(0)
    found: list[Span] = []
    failures, after = 0, begin
    for number in range(len(runs) + 1):
        if number:
            run = runs[number - 1]
            failures, after = 0 if run.ok else failures + 1, run.finished_at
            row = replace(row, last_slot_at=run.due_at, last_started_at=run.started_at, failure_count=failures)
        until = starts[number] if number < len(runs) else end
        if until - after < usual:
            continue
        first, last = _slots(row, after)
        if first is None or last is None or last >= until:
            continue
        quiet = Span(after + (first - after) / 2, until)
        found += [each for each in _without(quiet, advised) if each.end - each.begin >= last - first]
    return found


def _slots(row: PlanRow, now: datetime) -> tuple[datetime | None, datetime | None]:
    """The next slot, and the last of as many as may pass by lateness."""
    first = last = None
    for number in range(FEWEST_SLOTS):
        last = plan_next_run(facts_of(row, now, unclaimed=False, hint_floor_ms=1_000), now).run_at
        if last is None:
            return None, None
        first, now = (last if number == 0 else first), last
        row = replace(row, last_slot_at=last, last_started_at=last)
    return first, last


def _without(whole: Span, parts: Iterable[Span]) -> list[Span]:
    """What is left of a time without the others."""
    left = [whole]
    for part in parts:
        cut = []
        for each in left:
            if part.end <= each.begin or part.begin >= each.end:
                cut.append(each)
                continue
            if each.begin < part.begin:
                cut.append(Span(each.begin, part.begin))
            if part.end < each.end:
                cut.append(Span(part.end, each.end))
        left = cut
    return left
