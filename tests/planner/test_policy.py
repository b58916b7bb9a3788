"""Who deserves a look, and when again."""

import json
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from planner.attention.numbers import usual_numbers
from planner.attention.policy import (
    MOST_BY_THEIR_BODIES,
    Candidate,
    LastSession,
    Trigger,
    body_shape,
    next_look,
    trigger_of,
    with_places,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = UUID(int=1)
LAST = LastSession(NOW - timedelta(hours=2), 0, body_shape('{"a": 1}'), usual_numbers(['{"a": 1}', '{"a": 3}'] * 3))
QUIET = Candidate(ID, ID, 0, NOW + timedelta(hours=1), LAST, '{"a": 2}', None, 1_000)


@pytest.mark.parametrize(
    ("candidate", "trigger"),
    [
        (QUIET, None),
        (replace(QUIET, last=None), Trigger.NEVER_ANALYSED),
        (replace(QUIET, last=None, tokens_left=0), None),
        (replace(QUIET, next_analysis_at=NOW), Trigger.DUE),
        (replace(QUIET, next_analysis_at=None), Trigger.DUE),
        (replace(QUIET, failure_count=1), Trigger.FAILURES_ROSE),
        (replace(QUIET, failure_count=3, last=replace(LAST, failure_count=2)), None),
        (replace(QUIET, failure_count=4, last=replace(LAST, failure_count=2)), Trigger.FAILURES_ROSE),
        (replace(QUIET, failure_count=9, last=replace(LAST, analyzed_at=NOW - timedelta(minutes=4))), None),
        (replace(QUIET, last=replace(LAST, failure_count=2)), Trigger.RECOVERED),
        (replace(QUIET, body='{"b": 2}'), Trigger.SHAPE_CHANGED),
        (replace(QUIET, body="no JSON"), Trigger.SHAPE_CHANGED),
        (replace(QUIET, body=None), None),
        (replace(QUIET, body='{"a": 6}'), Trigger.NUMBER_OUT_OF_RANGE),
        (replace(QUIET, body='{"a": 6, "b": 1}'), Trigger.NUMBER_OUT_OF_RANGE),
        (replace(QUIET, body='{"b": 2}', ran_since=False), None),
        (replace(QUIET, next_analysis_at=NOW, ran_since=False), None),
        (replace(QUIET, failure_count=1, ran_since=False), Trigger.FAILURES_ROSE),
        (replace(QUIET, failure_count=1, last=replace(LAST, failure_count=2)), Trigger.FAILURES_ROSE),
        (replace(QUIET, last=replace(LAST, next_analysis_at=NOW)), Trigger.DUE),
        (replace(QUIET, failure_count=1, looks_this_hour=3), Trigger.FAILURES_ROSE),
        (replace(QUIET, failure_count=1, looks_this_hour=4), None),
        (replace(QUIET, last=replace(LAST, failure_count=2), looks_this_hour=4), None),
        (replace(QUIET, body='{"b": 2}', looks_this_hour=4), None),
        (replace(QUIET, failure_count=1, next_analysis_at=NOW, looks_this_hour=4), Trigger.DUE),
        (
            replace(
                QUIET,
                pause_ends_at=NOW + timedelta(minutes=4),
                last=replace(LAST, analyzed_at=NOW - timedelta(minutes=6)),
            ),
            None,
        ),
        (replace(QUIET, pause_ends_at=NOW + timedelta(minutes=9)), Trigger.PAUSE_ENDS),
        (replace(QUIET, pause_ends_at=NOW + timedelta(minutes=11)), None),
        (replace(QUIET, pause_ends_at=NOW), None),
    ],
)
def test_an_endpoint_deserves_a_look_for_a_reason(candidate: Candidate, trigger: Trigger | None) -> None:
    assert trigger_of(candidate, NOW) == trigger


@pytest.mark.parametrize(
    ("failures", "advised", "asked_in_ms", "minutes"),
    [
        (0, False, None, 60),
        (0, True, None, 15),
        (0, True, 300_000, 5),
        (1, True, None, 5),
        (2, True, None, 5),
        (2, True, 7_200_000, 120),
        (8, True, None, 20),
        (8, True, 300_000, 20),
        (5_000, False, 300_000, 60),
    ],
)
def test_the_next_look_follows_the_state(failures: int, advised: bool, asked_in_ms: int | None, minutes: int) -> None:
    due = next_look(NOW, failure_count=failures, advised=advised, asked_in_ms=asked_in_ms)
    assert due == NOW + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ('{"a": 1, "b": "x"}', '{"b": "y", "a": 2.5}', True),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": true}', '{"a": 1}', False),
        ('{"a": []}', '{"a": [1]}', False),
        ('{"a": [1]}', '{"a": [2, 3, 4]}', True),
        ('{"a": {}}', '{"a": 1}', False),
        ('{"a": {"b": {"c": {"d": 1}}}}', '{"a": {"b": {"c": {"e": 1}}}}', True),
        ("nonsense", "other nonsense", True),
    ],
)
def test_a_shape_is_keys_and_types_not_values(left: str, right: str, same: bool) -> None:
    assert (body_shape(left) == body_shape(right)) is same


def test_a_hostile_body_has_a_shape_for_little_memory() -> None:
    rows = {f"row{row}": {f"k{key}": key for key in range(100)} for row in range(100)}
    body = json.dumps({"x" * 20_000: rows})
    assert len(body) > 94_000
    tracemalloc.start()
    try:
        assert body_shape(body) is not None
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_what_is_beyond_the_first_places_and_characters_does_not_count() -> None:
    long = "x" * 150
    assert body_shape(json.dumps({f"{long}1": 1})) == body_shape(json.dumps({f"{long}2": 1}))
    wide = {f"row{row}": {f"k{key}": 1 for key in range(1_000)} for row in range(3)}
    assert body_shape(json.dumps(wide)) == body_shape(json.dumps(wide | {"more": 1}))
    assert body_shape(json.dumps(wide)) != body_shape(json.dumps({"first": 1} | wide))


def many(count: int, *, jobs: int = 1, owner: int = 1) -> list[Candidate]:
    return [replace(QUIET, owner_id=UUID(int=owner), job_id=UUID(int=number % jobs)) for number in range(count)]


def test_a_change_in_many_bodies_takes_the_places_of_its_job_and_owner_only() -> None:
    assert len(list(with_places([], many(500)))) == 10
    assert len(list(with_places([], many(500, jobs=100)))) == 50
    assert len(list(with_places(many(48, jobs=100), many(500, jobs=100)))) == 50
    chosen = many(10)
    assert list(with_places(chosen, many(500))) == chosen
    other = replace(QUIET, owner_id=UUID(int=2), job_id=UUID(int=7))
    assert list(with_places(chosen, [*many(500), other])) == [*chosen, other]


def test_bodies_are_read_no_further_than_the_places_of_the_pass_reach() -> None:
    waiting = iter([each for owner in range(10) for each in many(50, jobs=50, owner=owner)])
    assert len(list(with_places([], waiting))) == MOST_BY_THEIR_BODIES
    assert len(list(waiting)) == 500 - MOST_BY_THEIR_BODIES
