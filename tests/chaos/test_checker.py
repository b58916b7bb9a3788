"""The checker finds each breach of the promise when it is planted, and nothing where the promise was kept."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.facts import Call, Faults, Freeze, RunFacts, Window
from tests.chaos.planted import CALLS, ENDPOINT, LOST, REPEAT, REPEATED, RUNS, call, checked, run, says, slot


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
    counted = run(3, due_at=slot(2), coalesced_slots=1, coalesced_cause="no_worker", planned_at=slot(1.1))
    report = checked([CALLS[0], CALLS[2]], [RUNS[0], counted])
    assert report.violations == []
    assert report.figures["slots not called: no_worker"] == 1


@pytest.mark.parametrize("slots", [0, 1, 2])
def test_slots_that_pass_in_a_run_are_counted_by_the_next_one(slots: int) -> None:
    long = replace(RUNS[0], finished_at=slot(2.1))
    counted = run(3, planned_at=slot(2.1), coalesced_slots=slots, coalesced_cause="long_call" if slots else None)
    report = checked([replace(CALLS[0], finished_at=slot(2.1)), CALLS[2]], [long, counted])
    assert says(report, "came") is (slots != 1)
    assert len(report.violations) == (slots != 1)


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
        ("for the cause None", [CALLS[0], CALLS[2]], [RUNS[0], run(3, coalesced_slots=1)]),
        ("for the cause pause", CALLS, [*RUNS[:2], replace(RUNS[2], coalesced_cause="pause")]),
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
