"""The checker finds attempts that are owed, too many or too early, and one-shot endpoints that do not run once."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.facts import Change, RunFacts
from tests.chaos.planted import LOST, PAUSE, PRESS, REPEAT, SECOND, STEERED, by_hand, change, run, says, slot, steered

ONCE = replace(STEERED, once_at=slot(2), next_run_at=None)


@pytest.mark.parametrize(
    ("words", "runs", "changes"),
    [
        (None, [run(2, source="run-once")], []),
        (None, [by_hand(1), run(2, source="run-once")], [PRESS]),
        (None, [run(2, source="paused", due_at=slot(4), claimed_at=slot(4), started_at=slot(4))], [PAUSE]),
        (None, [run(2, source="run-once", **LOST), REPEAT], []),
        (
            None,
            [by_hand(2, due_at=slot(3), claimed_at=slot(3), started_at=slot(3))],
            [change("run", 3, at=slot(3), fence=19)],
        ),
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


def test_lost_slot_is_not_owed_when_a_pause_came_after_the_manual_run_that_went_first() -> None:
    runs = [run(2, **LOST), by_hand(8, fence=80), run(10, source="paused")]
    press, pause = change("run", 8, at=slot(8)), change("pause", 8.1, until=slot(10), fence=80)
    assert says(steered(runs, [press]), "and not repeated")
    assert steered(runs, [press, pause]).violations == []
