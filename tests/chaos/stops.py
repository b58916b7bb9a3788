"""Holds what schedulers did when they were told to stop against the promise: nothing is lost, nothing repeated. Pure.

A stop excuses nothing. What was claimed is called, or given back whole: then no row tells of it, and the slot runs.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from tests.chaos.facts import DRAIN, EndpointFacts, Faults, RunFacts, Window
from tests.chaos.holdups import free_between

# How long a result may wait for its transaction where nothing is in its way.
SETTLING = timedelta(seconds=2)


def wrong_drains(runs: Sequence[RunFacts], faults: Faults) -> Iterable[str]:
    """Attempts given up before the drain was over, and such as a scheduler that was told to stop left behind."""
    for run in runs:
        term = next((term for term in faults.terms if f"-{term.pid}-" in run.worker), None)
        if run.status != "abandoned" or run.finished_at is None:
            continue
        at = f"attempt {run.attempt} of the slot {run.slot}"
        if run.error_kind == "shutdown":
            if term is None:
                yield f"{at} was given up by {run.worker}, which nobody told to stop"
            elif run.finished_at < term.told_at + DRAIN:
                yield f"{at} was given up {run.finished_at - term.told_at} after {run.worker} was told to stop"
        elif term is not None and not any(
            window.began_at <= run.finished_at and window.ended_at >= run.claimed_at for window in faults.windows
        ):
            yield f"{at} was left behind ({run.error_kind}) by {run.worker}, told to stop at {term.told_at}"


def slots_without_run(endpoint: EndpointFacts, runs: Sequence[RunFacts]) -> Iterable[str]:
    """Slots that a claim used up and no run tells of; runs are in the order of their fences."""
    known = set()
    for run in runs:
        if run.after_slot is not None and run.after_slot not in known:
            yield f"the slot {run.after_slot} was used up without a run before {run.slot} was planned"
        known.add(run.slot)
    if endpoint.last_slot_at is not None and endpoint.last_slot_at not in known:
        yield f"the slot {endpoint.last_slot_at} was used up without a run at last"


def slots_passed_idly(
    endpoint: EndpointFacts, previous: RunFacts, run: RunFacts, windows: Sequence[Window]
) -> Iterable[str]:
    """The slots of a grid that passed when the run before was over, and for which none was due; `run` came after."""
    passed = run.due_at - endpoint.interval
    if passed > previous.slot and previous.finished_at is not None:
        free = free_between(previous.finished_at, passed, windows)
        if free > SETTLING:
            yield f"the slot {passed} passed {free} after the run of {previous.slot} was over, and none served it"
