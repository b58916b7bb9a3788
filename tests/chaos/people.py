"""Holds runs and calls against what people asked for: hints, one-shot hints, pauses and run-now. Pure.

Each function takes the runs, calls and changes of one endpoint, runs in the order of their fences, changes in the
order in which they were made, and tells what is wrong. `held` are the spans in which nothing could be expected.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from tests.chaos.facts import GATE, SLACK, Call, Change, ChangeKind, Faults, RunFacts, Window
from tests.chaos.holdups import free_between, spans

ANY_FENCE = 2**63
NONE = timedelta(0)
# Their times rest on something else than the interval that is in force.
BESIDE_THE_INTERVAL = ("manual", "retry", "ai-oneshot", "paused")


def wrong_presses(
    runs: Sequence[RunFacts], changes: Sequence[Change], held: Sequence[Window], ended_at: datetime
) -> Iterable[str]:
    """Presses of run-now that led to no run, or late, and manual runs without a press.

    A press while another waits merges with it; a stop withdraws what waits.
    """
    served: set[int] = set()
    for run in runs:
        if run.source != "manual" or run.attempt != 1:
            continue
        asked = [
            (number, press)
            for number, press in enumerate(changes)
            if press.kind == "run" and press.fence < run.fence and number not in served
        ]
        if not asked:
            yield f"the manual run of {run.slot} was asked for by nobody"
            continue
        served.update(number for number, _ in asked)
        latest = asked[-1][1]
        if latest.at is not None and run.due_at < latest.at:
            yield f"the manual run of {run.slot} was due before it was asked for at {latest.at}"
        if not _withdrawn(changes, asked[0][0], before_fence=run.fence):
            free = free_between(asked[0][1].after, run.claimed_at, held)
            if free > SLACK:
                yield f"the press at {asked[0][1].at} was served at {run.claimed_at}, after {free} in which it could be"
    for number, press in enumerate(changes):
        if press.kind == "run" and number not in served and not _withdrawn(changes, number, before_fence=ANY_FENCE):
            free = free_between(press.after, ended_at, held)
            if free > SLACK:
                yield f"the press at {press.at} led to no run, with {free} in which it could"


def _withdrawn(changes: Sequence[Change], number: int, *, before_fence: int) -> bool:
    return any(later.kind == "stop" and later.fence < before_fence for later in changes[number + 1 :])


def wrong_oneshots(
    runs: Sequence[RunFacts], changes: Sequence[Change], held: Sequence[Window], ended_at: datetime
) -> Iterable[str]:
    """One-shot hints that were served twice, early, or not at all, and one-shot runs that nobody asked for.

    A hint ends with the run that it causes, when it is replaced or cleared, or with its time to live. The run at the
    end of a pause serves what the pause held back.
    """
    wanted: set[int] = set()
    for hint, end in spans(changes, "oneshot", ("oneshot", "clear")):
        assert hint.at is not None
        assert hint.until is not None
        last_fence = end.fence if end is not None else ANY_FENCE
        caused = [
            run
            for run in runs
            if run.source == "ai-oneshot" and run.attempt == 1 and hint.fence < run.fence <= last_fence
        ]
        wanted.update(run.fence for run in caused)
        if len(caused) > 1:
            yield f"the one-shot hint at {hint.at} was served {len(caused)} times: {[str(run.slot) for run in caused]}"
        for run in caused:
            if run.due_at < hint.at:
                yield f"the one-shot hint at {hint.at} was served for {run.due_at}, before its time"
        if caused or any(_served_after_a_pause(run, hint) for run in runs):
            continue
        over = min(hint.until, end.before if end is not None else ended_at, ended_at)
        free = free_between(max(hint.at, hint.after), over, held)
        if free > SLACK:
            yield f"the one-shot hint at {hint.at} was not served until {over}, with {free} in which it could be"
    for run in runs:
        if run.source == "ai-oneshot" and run.fence not in wanted:
            yield f"the one-shot run of {run.slot} was asked for by nobody"


def _served_after_a_pause(run: RunFacts, hint: Change) -> bool:
    assert hint.at is not None
    return run.source == "paused" and run.fence > hint.fence and run.due_at >= hint.at


def wrong_intervals(
    runs: Sequence[RunFacts], changes: Sequence[Change], held: Sequence[Window], ended_at: datetime
) -> Iterable[str]:
    """Runs that came sooner than the interval hint in force allows, and times in which none came."""
    for hint, end in spans(changes, "hint", ("hint", "clear")):
        assert hint.interval is not None
        assert hint.until is not None
        last_fence = end.fence if end is not None else ANY_FENCE
        for previous, run in pairwise(runs):
            if not hint.fence < run.fence <= last_fence or run.source in BESIDE_THE_INTERVAL:
                continue
            # What was due when the hint came still runs, and the hint's end is the baseline's again.
            if run.due_at <= hint.after or run.due_at >= hint.until:
                continue
            if run.due_at < previous.begun_at + hint.interval:
                yield (
                    f"{run.due_at} is due {run.due_at - previous.begun_at} after the start at {previous.begun_at},"
                    f" although every {hint.interval} was asked for"
                )
        over = min(hint.until, end.before if end is not None else ended_at, ended_at)
        starts = [run.begun_at for run in runs if hint.after < run.begun_at < over]
        for one, other in pairwise([hint.after, *sorted(starts), over]):
            free = free_between(one, other, held)
            if free > hint.interval + SLACK:
                yield f"nothing ran from {one} to {other}, although every {hint.interval} was asked for"


def calls_in_pauses(
    runs: Sequence[RunFacts], calls: Sequence[Call], changes: Sequence[Change], faults: Faults, ended_at: datetime
) -> Iterable[str]:
    """Calls that started in a pause, other than by hand, or while the endpoint was stopped, past the gate's bound.

    A worker that stands still or cannot ask the database does not know of the pause.
    """
    known = {(run.slot, run.attempt): run for run in runs}
    closings = [
        (pause, "pause", min(pause.until or ended_at, end.before if end is not None else ended_at))
        for pause, end in spans(changes, "pause", ("pause", "resume"))
    ]
    closings += [
        (stop, "stop", end.before if end is not None else ended_at) for stop, end in spans(changes, "stop", ("start",))
    ]
    for call in calls:
        run = known.get((call.slot, call.attempt))
        if run is None:
            continue
        started_at = min(run.begun_at, call.received_at)
        for change, what, over in closings:
            if what == "pause" and run.source == "manual":
                continue
            if change.after + GATE < started_at < over and not any(
                fault.began_at <= started_at and fault.ended_at >= change.before for fault in faults.windows
            ):
                yield f"the slot {call.slot} was called at {started_at}, in the {what} from {change.after} to {over}"


def calls_of_an_old_schedule(
    runs: Sequence[RunFacts], calls: Sequence[Call], changes: Sequence[Change], faults: Faults, ended_at: datetime
) -> Iterable[str]:
    """Calls by the baseline, past the gate's bound after an edit or a reset, for slots that its grid does not have.

    A worker that stands still or cannot ask the database does not know of the edit.
    """
    known = {(run.slot, run.attempt): run for run in runs}
    found = [(call, run) for call in calls if (run := known.get((call.slot, call.attempt))) is not None]
    kinds: tuple[ChangeKind, ...] = ("edit", "reset")
    for kind in kinds:
        for change, end in spans(changes, kind, kinds):
            over = end.before if end is not None else ended_at
            for call, run in found:
                started_at = min(run.begun_at, call.received_at)
                if run.source != "baseline-interval" or not change.after + GATE < started_at < over:
                    continue
                on_grid = change.at is None or not change.interval or (call.slot - change.at) % change.interval == NONE
                if (on_grid and (change.at is None or call.slot > change.at)) or any(
                    fault.began_at <= started_at and fault.ended_at >= change.before for fault in faults.windows
                ):
                    continue
                yield f"the slot {call.slot} was called at {started_at}; the edit at {change.after} does not have it"


def pauses_of_nobody(runs: Sequence[RunFacts], changes: Sequence[Change]) -> Iterable[str]:
    """Runs that say that they come from a pause's end where no such pause was."""
    ends = [(change.fence, change.until) for change in changes if change.kind == "pause" and change.until is not None]
    for run in runs:
        if run.source == "paused" and not any(fence < run.fence and until <= run.due_at for fence, until in ends):
            yield f"the run of {run.slot} says that it waited for a pause's end, and there was none"
