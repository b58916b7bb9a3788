"""The checker finds each breach of the promise when it is planted, and nothing where the promise was kept."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.chaos.checker import Call, EndpointFacts, Freeze, Report, RunFacts, check

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
    return NOON + number * SECOND


def call(number: int, *, attempt: int = 1, **fields: Any) -> Call:
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


def run(number: int, **fields: Any) -> RunFacts:
    values: dict[str, Any] = {
        "endpoint_id": ENDPOINT.id,
        "slot": slot(number),
        "due_at": slot(number),
        "attempt": 1,
        "source": "baseline-interval",
        "status": "success",
        "error_kind": None,
        "claimed_at": slot(number - 0.5),
        "worker": "scheduler-host-7-abc",
        "coalesced_slots": 0,
        "planned_at": slot(number - 0.9),
    }
    return RunFacts(**{**values, **fields})


CALLS = [call(1), call(2), call(3)]
RUNS = [run(1, planned_at=NOON), run(2), run(3)]
LOST = {"status": "abandoned", "error_kind": "worker_lost"}
REPEAT = run(2, attempt=2, source="retry", due_at=slot(2.3), claimed_at=slot(2.3), planned_at=slot(2.3))
REPEATED = call(2, attempt=2, received_at=slot(2.31), finished_at=slot(2.32))


def checked(
    calls: list[Call] = CALLS, runs: list[RunFacts] = RUNS, endpoint: EndpointFacts = ENDPOINT, *freezes: Freeze
) -> Report:
    return check(calls, runs, [endpoint], freezes, ended_at=slot(4))


def test_kept_promise_has_no_violation() -> None:
    report = checked()
    assert report.violations == []
    assert report.figures["calls"] == report.figures["runs success"] == 3


def test_repeat_after_a_loss_is_no_violation() -> None:
    runs = [RUNS[0], replace(RUNS[1], **LOST), REPEAT, RUNS[2]]
    report = checked([CALLS[0], CALLS[1], REPEATED, CALLS[2]], runs)
    assert report.violations == []
    assert report.figures["repeats"] == 1


def test_folded_slots_are_no_violation() -> None:
    assert checked([CALLS[0], CALLS[2]], [RUNS[0], run(3, coalesced_slots=1, planned_at=slot(1.1))]).violations == []


def test_slots_that_pass_in_a_run_are_counted_and_no_violation() -> None:
    report = checked([CALLS[0], CALLS[2]], [RUNS[0], run(3, planned_at=slot(2.1))])
    assert report.violations == []
    assert report.figures["slots passed in a run"] == 1


@pytest.mark.parametrize(
    ("words", "calls", "runs"),
    [
        ("has no run", CALLS, [RUNS[0], RUNS[1]]),
        ("early", [replace(CALLS[0], received_at=slot(0.999)), *CALLS[1:]], RUNS),
        ("was called 2 times", [*CALLS, call(3, received_at=slot(3.1), finished_at=slot(3.2))], RUNS),
        ("different keys", [CALLS[0], CALLS[1], replace(REPEATED, key="other"), CALLS[2]], RUNS),
        ("was used for", [CALLS[0], CALLS[1], replace(CALLS[2], key="key-2")], RUNS),
        ("overlap", [replace(CALLS[0], finished_at=slot(2.5)), *CALLS[1:]], RUNS),
        ("overlap", [replace(CALLS[0], finished_at=None), *CALLS[1:]], RUNS),
        ("never answered", CALLS[:2], RUNS),
        ("is running", CALLS, [*RUNS[:2], replace(RUNS[2], status="running")]),
        ("is failed", CALLS, [*RUNS[:2], replace(RUNS[2], status="failed")]),
        ("2 results", [*CALLS[:2], REPEATED, CALLS[2]], [*RUNS[:2], REPEAT, RUNS[2]]),
        ("repeats an attempt that was not lost", [*CALLS[:2], REPEATED, CALLS[2]], [*RUNS[:2], REPEAT, RUNS[2]]),
        ("and not repeated", CALLS, [RUNS[0], replace(RUNS[1], **LOST), RUNS[2]]),
        ("came", [CALLS[0], CALLS[2]], [RUNS[0], run(3, planned_at=slot(1.1))]),
        ("before it was planned", CALLS, [*RUNS[:2], replace(RUNS[2], claimed_at=slot(2.05))]),
        ("never ran", [], []),
        ("no endpoint has that name", [*CALLS, call(3, label="e2", key="e2")], RUNS),
    ],
)
def test_breach_is_found(words: str, calls: list[Call], runs: list[RunFacts]) -> None:
    assert any(words in violation for violation in checked(calls, runs).violations)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("still held", {"lease_owner": "scheduler-host-7-abc", "lease_until": slot(3)}),
        ("has no plan", {"next_run_at": None}),
        ("has been due since", {"next_run_at": slot(0.5)}),
    ],
)
def test_stuck_endpoint_is_found(words: str, fields: dict[str, Any]) -> None:
    assert any(words in violation for violation in checked(endpoint=replace(ENDPOINT, **fields)).violations)


def test_second_call_of_a_slot_is_found_where_at_most_one_was_asked_for() -> None:
    runs = [RUNS[0], replace(RUNS[1], **LOST), REPEAT, RUNS[2]]
    report = checked([CALLS[0], CALLS[1], REPEATED, CALLS[2]], runs, replace(ENDPOINT, repeats=False))
    assert any("at most once" in violation for violation in report.violations)


@pytest.mark.parametrize(("pid", "excused"), [(7, True), (77, False)])
def test_overlap_is_excused_only_by_a_freeze_of_the_first_callers_process(pid: int, excused: bool) -> None:
    freeze = Freeze(pid, slot(1.005), slot(8))
    report = checked([replace(CALLS[0], finished_at=slot(2.5)), *CALLS[1:]], RUNS, ENDPOINT, freeze)
    assert (report.violations == []) is excused
