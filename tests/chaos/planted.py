"""Calls, runs and changes in which a kept promise, or a breach of it, is planted for the checker."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tests.chaos.checker import Report, check
from tests.chaos.facts import Call, Change, ChangeKind, EndpointFacts, Faults, RunFacts

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ENDPOINT = EndpointFacts(
    id=UUID(int=1),
    label="e1",
    steady=True,
    repeats=True,
    interval=SECOND,
    anchor_at=NOON,
    next_run_at=NOON + 4 * SECOND,
    lease_owner=None,
    lease_until=None,
)


def slot(number: float) -> datetime:
    """So many seconds after noon."""
    return NOON + number * SECOND


def call(number: float, *, attempt: int = 1, **fields: Any) -> Call:
    """A call in time, of the slot at that second."""
    values: dict[str, Any] = {
        "label": "e1",
        "key": f"key-{number}",
        "slot": slot(number),
        "attempt": attempt,
        "received_at": slot(number + 0.01),
        "finished_at": slot(number + 0.02),
        "answered": True,
    }
    return Call(**{**values, **fields})


def run(number: float, **fields: Any) -> RunFacts:
    """A successful run of the baseline, of the slot at that second; its fence is ten times that."""
    values: dict[str, Any] = {
        "endpoint_id": ENDPOINT.id,
        "slot": slot(number),
        "due_at": slot(number),
        "attempt": 1,
        "source": "baseline-interval",
        "status": "success",
        "error_kind": None,
        "claimed_at": slot(number - 0.5),
        "started_at": slot(number + 0.005),
        "finished_at": slot(number + 0.02),
        "fence": int(number * 10),
        "worker": "scheduler-host-7-abc",
        "coalesced_slots": 0,
        "planned_at": slot(number - 0.9),
    }
    return RunFacts(**{**values, **fields})


CALLS = [call(1), call(2), call(3)]
RUNS = [run(1, planned_at=NOON), run(2), run(3)]
LOST: dict[str, Any] = {"status": "abandoned", "error_kind": "worker_lost", "started_at": None}
REPEAT = run(
    2,
    attempt=2,
    source="retry",
    due_at=slot(2.3),
    claimed_at=slot(2.3),
    started_at=slot(2.305),
    finished_at=slot(2.32),
    planned_at=slot(2.3),
    fence=22,
)
REPEATED = call(2, attempt=2, received_at=slot(2.31), finished_at=slot(2.32))


def checked(
    calls: Sequence[Call] = CALLS,
    runs: Sequence[RunFacts] = RUNS,
    endpoint: EndpointFacts = ENDPOINT,
    *,
    changes: Sequence[Change] = (),
    faults: Faults = Faults(),  # noqa: B008  frozen
    ended: float = 4,
) -> Report:
    """Judges one endpoint."""
    return check(calls, runs, [endpoint], changes, faults, ended_at=slot(ended))


def says(report: Report, words: str) -> bool:
    """Whether a violation contains the words."""
    return any(words in violation for violation in report.violations)


# An endpoint that nobody but people wake: its own schedule is ten minutes.
STEERED = replace(ENDPOINT, steady=False, interval=600 * SECOND, next_run_at=NOON + 600 * SECOND)


def change(kind: ChangeKind, number: float, **fields: Any) -> Change:
    """Committed within 10 ms of its second, under the fence of the runs before."""
    values: dict[str, Any] = {
        "endpoint_id": ENDPOINT.id,
        "kind": kind,
        "before": slot(number - 0.005),
        "after": slot(number + 0.005),
        "fence": int(number * 10) - 1,
    }
    return Change(**{**values, **fields})


def steered(runs: Sequence[RunFacts], changes: Sequence[Change], *, ended: float = 20, **fields: Any) -> Report:
    """Judges runs, each with its call, under changes."""
    calls = [
        call(
            (run.slot - NOON).total_seconds(),
            attempt=run.attempt,
            received_at=run.begun_at + 0.005 * SECOND,
            finished_at=run.begun_at + 0.01 * SECOND,
            ok=run.status != "failed",
        )
        for run in runs
    ]
    return checked(calls, runs, fields.pop("endpoint", STEERED), changes=changes, ended=ended, **fields)


def by_hand(number: float, **fields: Any) -> RunFacts:
    """A run by run-now, pressed at that second."""
    return run(number, **{"source": "manual", "claimed_at": slot(number), "planned_at": slot(number), **fields})


PRESS = change("run", 1, at=slot(1))
PAUSE = change("pause", 1, until=slot(4))
