"""The checker finds what people asked for and did not get, and what they got unasked."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.facts import Change, Faults, RunFacts, Window
from tests.chaos.planted import PAUSE, PRESS, SECOND, by_hand, change, run, says, slot, steered


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
        ([], [replace(ONESHOT, until=slot(3))]),
    ],
    ids=["served", "two", "cleared", "replaced", "by the end of a pause", "out of date"],
)
def test_oneshot_hints_that_were_served_are_no_violation(runs: list[RunFacts], changes: list[Change]) -> None:
    assert steered(runs, changes).violations == []


@pytest.mark.parametrize(
    ("words", "runs", "changes"),
    [
        ("was not served", [], [ONESHOT]),
        ("was not served", [], [ONESHOT, change("clear", 15)]),
        ("was not served", [run(2, source="baseline-interval")], [ONESHOT]),
        ("was not served", [run(2, source="retry")], [ONESHOT, change("pause", 1.5, until=slot(1.8))]),
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


EDIT = change("edit", 5, at=slot(5), interval=2 * SECOND)


@pytest.mark.parametrize(
    ("found", "changes", "called"),
    [
        (False, [EDIT], 7),
        (True, [EDIT], 8),
        (False, [EDIT], 5.4),
        (False, [EDIT, change("edit", 7.5, at=slot(7.5), interval=SECOND / 2)], 8.5),
        (True, [change("reset", 5, at=slot(5), interval=2 * SECOND)], 8),
        (False, [], 8),
    ],
    ids=["new slot", "old slot", "inside the gate's bound", "edited again", "after a reset", "no edit"],
)
def test_call_for_a_slot_that_an_edit_took_away_is_found(found: bool, changes: list[Change], called: float) -> None:
    report = steered([run(called)], changes)
    assert says(report, "does not have it") is found


def test_worker_that_stood_still_is_excused_from_an_edit() -> None:
    faults = Faults(others=(Window(slot(4), slot(9)),))
    assert not says(steered([run(8)], [EDIT], faults=faults), "does not have it")
