"""The checker finds each breach of the promise when it is planted, and nothing where the promise was kept."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.chaos.checker import Report, check
from tests.chaos.facts import Call, Change, ChangeKind, EndpointFacts, Faults, Freeze, RunFacts, Window

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


def call(number: float, *, attempt: int = 1, **fields: Any) -> Call:
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
    return check(calls, runs, [endpoint], changes, faults, ended_at=slot(ended))


def says(report: Report, words: str) -> bool:
    return any(words in violation for violation in report.violations)


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
        ("never answered", [*CALLS[:2], replace(CALLS[2], ok=False)], RUNS),
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
    assert says(checked(calls, runs), words)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("still held", {"lease_owner": "scheduler-host-7-abc", "lease_until": slot(3)}),
        ("has no plan", {"next_run_at": None}),
        ("has been due since", {"next_run_at": slot(0.5)}),
    ],
)
def test_stuck_endpoint_is_found(words: str, fields: dict[str, Any]) -> None:
    assert says(checked(endpoint=replace(ENDPOINT, **fields)), words)


def test_second_call_of_a_slot_is_found_where_at_most_one_was_asked_for() -> None:
    runs = [RUNS[0], replace(RUNS[1], **LOST), REPEAT, RUNS[2]]
    report = checked([CALLS[0], CALLS[1], REPEATED, CALLS[2]], runs, replace(ENDPOINT, repeats=False))
    assert says(report, "at most once")


@pytest.mark.parametrize(("pid", "excused"), [(7, True), (77, False)])
def test_overlap_is_excused_only_by_a_freeze_of_the_first_callers_process(pid: int, excused: bool) -> None:
    faults = Faults(freezes=(Freeze(slot(1.005), slot(8), pid),))
    report = checked([replace(CALLS[0], finished_at=slot(2.5)), *CALLS[1:]], RUNS, faults=faults)
    assert (report.violations == []) is excused


@pytest.mark.parametrize(
    ("faults", "found"),
    [
        (Faults(), True),
        (Faults(others=(Window(slot(2), slot(9)),)), False),
        (Faults(others=(Window(slot(2), slot(3)),)), True),
    ],
    ids=["nothing", "an outage", "a short outage"],
)
def test_call_long_after_its_due_time_is_found_unless_a_fault_held_it_up(faults: Faults, found: bool) -> None:
    late = run(2, claimed_at=slot(9), started_at=slot(9), finished_at=slot(9.1))
    report = checked(
        [CALLS[0], call(2, received_at=slot(9), finished_at=slot(9.1))], [RUNS[0], late], faults=faults, ended=9
    )
    assert says(report, "with nothing in its way") is found


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
    return run(number, **{"source": "manual", "claimed_at": slot(number), "planned_at": slot(number), **fields})


PRESS = change("run", 1, at=slot(1))


@pytest.mark.parametrize(
    ("runs", "changes"),
    [
        ([by_hand(1)], [PRESS]),
        ([by_hand(1.5)], [PRESS, change("run", 1.5, at=slot(1.5))]),
        ([by_hand(1), by_hand(2)], [PRESS, change("run", 2, at=slot(2))]),
        ([], [PRESS, change("stop", 1.1), change("start", 1.5)]),
        ([by_hand(1)], [change("pause", 0.9, until=slot(8)), PRESS]),
    ],
    ids=["served", "merged", "two", "withdrawn by a stop", "inside a pause"],
)
def test_presses_that_were_served_are_no_violation(runs: list[RunFacts], changes: list[Change]) -> None:
    assert steered(runs, changes).violations == []


@pytest.mark.parametrize(
    ("words", "runs", "changes"),
    [
        ("led to no run", [], [PRESS]),
        ("led to no run", [by_hand(1)], [PRESS, change("run", 2, at=slot(2))]),
        ("asked for by nobody", [by_hand(1)], []),
        ("asked for by nobody", [by_hand(1), by_hand(2)], [PRESS]),
        ("was due before it was asked for", [by_hand(1, fence=20)], [change("run", 2, at=slot(2), fence=19)]),
        ("in which it could be", [by_hand(9)], [PRESS]),
    ],
)
def test_breach_of_run_now_is_found(words: str, runs: list[RunFacts], changes: list[Change]) -> None:
    assert says(steered(runs, changes), words)


def once_by_hint(number: float, **fields: Any) -> RunFacts:
    return run(number, **{"source": "ai-oneshot", **fields})


ONESHOT = change("oneshot", 1, at=slot(2), until=slot(60))


@pytest.mark.parametrize(
    ("runs", "changes"),
    [
        ([once_by_hint(2)], [ONESHOT]),
        ([once_by_hint(2), once_by_hint(4)], [ONESHOT, change("oneshot", 3, at=slot(4), until=slot(60))]),
        ([], [ONESHOT, change("clear", 1.5)]),
        ([once_by_hint(3)], [ONESHOT, change("oneshot", 1.5, at=slot(3), until=slot(60))]),
        ([run(4, source="paused")], [ONESHOT, change("pause", 1.5, until=slot(4))]),
        ([run(2, source="retry", due_at=slot(2))], [ONESHOT, change("pause", 1.5, until=slot(1.8))]),
        ([], [replace(ONESHOT, until=slot(3))]),
    ],
    ids=["served", "two", "cleared", "replaced", "by the end of a pause", "given back by the gate", "out of date"],
)
def test_oneshot_hints_that_were_served_are_no_violation(runs: list[RunFacts], changes: list[Change]) -> None:
    assert steered(runs, changes).violations == []


@pytest.mark.parametrize(
    ("words", "runs", "changes"),
    [
        ("was not served", [], [ONESHOT]),
        ("was not served", [], [ONESHOT, change("clear", 15)]),
        ("was not served", [run(2, source="baseline-interval")], [ONESHOT]),
        ("was served 2 times", [once_by_hint(2), once_by_hint(3)], [ONESHOT]),
        ("before its time", [once_by_hint(1.5)], [ONESHOT]),
        ("asked for by nobody", [once_by_hint(2)], []),
        ("asked for by nobody", [once_by_hint(2)], [ONESHOT, change("clear", 1.2)]),
        ("asked for by nobody", [once_by_hint(1, fence=8)], [ONESHOT]),
    ],
)
def test_breach_of_a_oneshot_hint_is_found(words: str, runs: list[RunFacts], changes: list[Change]) -> None:
    assert says(steered(runs, changes), words)


def hinted(number: float, **fields: Any) -> RunFacts:
    return run(number, **{"source": "ai-interval", **fields})


HINT = change("hint", 1, interval=3 * SECOND, until=slot(31))
HINTED = [hinted(1), *(hinted(4.01 + 3.006 * number) for number in range(9))]
ONCE_A_SECOND = [run(number) for number in range(1, 31)]


@pytest.mark.parametrize(
    ("runs", "changes"),
    [
        (HINTED, [HINT]),
        ([run(0.9), *HINTED], [change("hint", 1, interval=3 * SECOND, until=slot(31), fence=8)]),
        (ONCE_A_SECOND, [HINT, change("clear", 1.1)]),
        ([HINTED[0], by_hand(2), *(hinted(5.01 + 3.006 * number) for number in range(8))], [HINT, PRESS]),
    ],
    ids=["kept", "what was due already", "cleared", "run now between"],
)
def test_hinted_interval_that_was_kept_is_no_violation(runs: list[RunFacts], changes: list[Change]) -> None:
    assert steered(runs, changes, ended=31).violations == []


@pytest.mark.parametrize(
    ("words", "runs", "changes"),
    [
        ("was asked for", ONCE_A_SECOND, [HINT]),
        ("was asked for", [*HINTED[:3], hinted(9), *HINTED[4:]], [HINT]),
        ("nothing ran", HINTED[:3], [HINT]),
        ("nothing ran", [*HINTED[:2], *HINTED[6:]], [HINT]),
        ("nothing ran", [HINTED[0]], [HINT, change("clear", 15)]),
    ],
    ids=["ignored", "once too soon", "forgotten", "a gap", "forgotten until it was cleared"],
)
def test_breach_of_a_hinted_interval_is_found(words: str, runs: list[RunFacts], changes: list[Change]) -> None:
    assert says(steered(runs, changes, ended=31), words)


PAUSE = change("pause", 1, until=slot(4))
STOP = [change("stop", 1), change("start", 4)]


@pytest.mark.parametrize(
    ("words", "runs", "changes"),
    [
        (None, [run(1.3), run(4, source="paused")], [PAUSE]),
        (None, [by_hand(2)], [PAUSE, change("run", 2, at=slot(2))]),
        (None, [run(2)], [PAUSE, change("resume", 1.9)]),
        (None, [run(1.3)], STOP),
        ("in the pause", [run(2)], [PAUSE]),
        ("in the pause", [run(2, source="retry", attempt=2)], [PAUSE]),
        ("in the pause", [run(2)], [PAUSE, change("resume", 3)]),
        ("in the stop", [run(2)], STOP),
        ("in the stop", [by_hand(2)], STOP),
        ("there was none", [run(4, source="paused")], []),
        ("there was none", [run(3, source="paused")], [PAUSE]),
    ],
)
def test_call_in_a_pause_is_found(words: str | None, runs: list[RunFacts], changes: list[Change]) -> None:
    report = steered(runs, changes)
    assert says(report, words) if words else report.violations == []


@pytest.mark.parametrize(
    ("window", "excused"), [(Window(slot(0.9), slot(2.1)), True), (Window(slot(2.1), slot(9)), False)]
)
def test_call_in_a_pause_is_excused_only_by_a_fault_before_it(window: Window, excused: bool) -> None:
    report = steered([run(2)], [PAUSE], faults=Faults(others=(window,)))
    assert says(report, "in the pause") is not excused


ONCE = replace(STEERED, once_at=slot(2), next_run_at=None)


@pytest.mark.parametrize(
    ("words", "runs", "changes"),
    [
        (None, [run(2, source="run-once")], []),
        (None, [by_hand(1), run(2, source="run-once")], [PRESS]),
        (None, [run(2, source="paused", due_at=slot(4), claimed_at=slot(4), started_at=slot(4))], [PAUSE]),
        (None, [run(2, source="run-once", **LOST), REPEAT], []),
        ("never did", [], []),
        ("never did", [by_hand(3)], [change("run", 3, at=slot(3))]),
        ("and ran for", [run(2, source="run-once"), run(3, source="run-once")], []),
        ("and ran for", [run(1.5, source="run-once")], []),
        ("and not repeated", [run(2, source="run-once", **LOST)], []),
        ("has no plan", [], []),
    ],
)
def test_endpoint_that_runs_once_is_judged(words: str | None, runs: list[RunFacts], changes: list[Change]) -> None:
    report = steered(runs, changes, endpoint=ONCE)
    assert says(report, words) if words else report.violations == []


RETRIED = replace(STEERED, retry_limit=2)
FAILED: dict[str, Any] = {"status": "failed", "error_kind": "status"}
SECOND_TRY = run(
    1,
    attempt=2,
    source="retry",
    due_at=slot(3.1),
    claimed_at=slot(3),
    started_at=slot(3.1),
    finished_at=slot(3.2),
    fence=20,
)
THIRD_TRY = replace(
    SECOND_TRY, attempt=3, due_at=slot(7.3), claimed_at=slot(7), started_at=slot(7.3), finished_at=slot(7.4), fence=30
)
FOURTH_TRY = replace(
    THIRD_TRY,
    attempt=4,
    due_at=slot(15.8),
    claimed_at=slot(15),
    started_at=slot(15.8),
    finished_at=slot(15.9),
    fence=40,
)


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (None, [run(1, **FAILED), SECOND_TRY]),
        (None, [run(1, **FAILED), replace(SECOND_TRY, **FAILED), THIRD_TRY]),
        (None, [run(1, **FAILED), replace(SECOND_TRY, **FAILED), replace(THIRD_TRY, **FAILED)]),
        (None, [run(1, **FAILED), replace(SECOND_TRY, **LOST), replace(THIRD_TRY, **FAILED), FOURTH_TRY]),
        (None, [run(1, **FAILED), run(2.5, planned_at=slot(1.1))]),
        ("was not retried", [run(1, **FAILED)]),
        ("was not retried", [run(1, **FAILED), run(5, planned_at=slot(1.1))]),
        ("after its failure", [run(1, **FAILED), replace(SECOND_TRY, due_at=slot(3.01))]),
        (
            "more than 2 times",
            [run(1, **FAILED), replace(SECOND_TRY, **FAILED), replace(THIRD_TRY, **FAILED), FOURTH_TRY],
        ),
        ("the attempts of the slot", [run(1, **FAILED), replace(SECOND_TRY, attempt=3)]),
        ("was not lost", [run(1), SECOND_TRY]),
    ],
)
def test_owners_retries_are_judged(words: str | None, runs: list[RunFacts]) -> None:
    report = steered(runs, [], endpoint=RETRIED)
    assert says(report, words) if words else report.violations == []


@pytest.mark.parametrize(
    ("found", "changes"),
    [
        (True, []),
        (True, [change("hint", 2, interval=SECOND, until=slot(9))]),
        (False, [change("reset", 2.1, fence=20)]),
    ],
)
def test_lost_slot_that_was_not_repeated_is_found_where_people_steer(found: bool, changes: list[Change]) -> None:
    report = steered([run(2, **LOST), run(600)], changes, ended=610)
    assert says(report, "and not repeated") is found
