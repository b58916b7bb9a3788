"""The checker finds what a scheduler lost, left behind or gave up too soon when it was told to stop."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.facts import Faults, Freeze, RunFacts, Term, Window
from tests.chaos.planted import CALLS, ENDPOINT, LOST, REPEAT, REPEATED, RUNS, SECOND, call, checked, run, says, slot

OVER = {"finished_at": slot(2.2)}
LEFT_BEHIND = replace(RUNS[1], **LOST, **OVER)
GIVEN_UP = replace(RUNS[1], status="abandoned", error_kind="shutdown", **OVER)
SHORTLY, LONG = Term(slot(1.9), 7), Term(slot(-30), 7)


@pytest.mark.parametrize(
    ("words", "second", "faults"),
    [
        (None, RUNS[1], Faults(terms=(SHORTLY,))),
        (None, LEFT_BEHIND, Faults()),
        (None, LEFT_BEHIND, Faults(terms=(Term(slot(1.9), 77),))),
        (None, LEFT_BEHIND, Faults(terms=(SHORTLY,), others=(Window(slot(1), slot(1.6)),))),
        (None, LEFT_BEHIND, Faults(terms=(SHORTLY,), freezes=(Freeze(slot(1.6), slot(1.8), 7),))),
        (None, GIVEN_UP, Faults(terms=(LONG,))),
        ("was left behind (worker_lost)", LEFT_BEHIND, Faults(terms=(SHORTLY,))),
        ("was left behind", LEFT_BEHIND, Faults(terms=(SHORTLY,), others=(Window(slot(3), slot(4)),))),
        ("was left behind (lease_lost)", replace(LEFT_BEHIND, error_kind="lease_lost"), Faults(terms=(LONG,))),
        ("after scheduler-host-7-abc was told to stop", GIVEN_UP, Faults(terms=(SHORTLY,))),
        ("which nobody told to stop", GIVEN_UP, Faults()),
        ("which nobody told to stop", GIVEN_UP, Faults(terms=(Term(slot(-30), 77),))),
    ],
)
def test_attempt_that_a_stopping_scheduler_did_not_end_is_judged(
    words: str | None, second: RunFacts, faults: Faults
) -> None:
    calls, runs = CALLS, [RUNS[0], second, RUNS[2]]
    if second.status == "abandoned":
        calls, runs = [*CALLS[:2], REPEATED, CALLS[2]], [RUNS[0], second, REPEAT, RUNS[2]]
    report = checked(calls, runs, faults=faults)
    assert says(report, words) if words else report.violations == []


@pytest.mark.parametrize(
    ("words", "after", "last"),
    [
        (None, slot(2), slot(3)),
        ("was used up without a run before", slot(2.5), slot(3)),
        ("was used up without a run at last", slot(2), slot(4)),
    ],
)
def test_slot_that_a_claim_took_without_a_run_is_found(words: str | None, after: Any, last: Any) -> None:
    runs = [RUNS[0], replace(RUNS[1], after_slot=slot(1)), replace(RUNS[2], after_slot=after)]
    report = checked(runs=runs, endpoint=replace(ENDPOINT, last_slot_at=last))
    assert says(report, words) if words else report.violations == []


@pytest.mark.parametrize("steady", [True, False], ids=["a grid", "a grid that people change"])
def test_slot_that_was_given_back_and_planned_past_is_found(steady: bool) -> None:
    runs = [RUNS[0], replace(RUNS[2], planned_at=slot(2.1), after_slot=slot(2))]
    report = checked([CALLS[0], CALLS[2]], runs, replace(ENDPOINT, steady=steady))
    assert says(report, f"the slot {slot(2)} was used up without a run")


@pytest.mark.parametrize(
    ("found", "finished", "windows"),
    [
        (True, 1.02, ()),
        (True, 1.02, (Window(slot(9), slot(10)),)),
        (False, 1.02, (Window(slot(1), slot(4)),)),
        (False, 3.5, ()),
    ],
    ids=["idle", "a fault after it", "a fault", "a long call"],
)
def test_slot_that_passes_with_no_run_in_hand_is_found(
    found: bool, finished: float, windows: tuple[Window, ...]
) -> None:
    first = replace(RUNS[0], finished_at=slot(finished))
    calls = [replace(CALLS[0], finished_at=slot(finished)), call(5)]
    counted = run(5, planned_at=slot(4.1), coalesced_slots=3, coalesced_cause="long_call")
    report = checked(calls, [first, counted], faults=Faults(others=windows), ended=6)
    assert says(report, "and none served it") is found


def test_slot_beside_the_grid_is_found() -> None:
    second = run(2, slot=slot(2) - SECOND / 2)
    calls = [CALLS[0], replace(CALLS[1], slot=second.slot), CALLS[2]]
    assert says(checked(calls, [RUNS[0], second, RUNS[2]]), "came")
