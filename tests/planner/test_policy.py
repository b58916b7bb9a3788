"""Who deserves a look, and when again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from planner.policy import Candidate, LastSession, Trigger, body_shape, next_look, trigger_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = UUID(int=1)
LAST = LastSession(NOW - timedelta(hours=2), 0, body_shape('{"a": 1}'))
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
        (replace(QUIET, pause_ends_at=NOW + timedelta(minutes=9)), Trigger.PAUSE_ENDS),
        (replace(QUIET, pause_ends_at=NOW + timedelta(minutes=11)), None),
        (replace(QUIET, pause_ends_at=NOW), None),
    ],
)
def test_an_endpoint_deserves_a_look_for_a_reason(candidate: Candidate, trigger: Trigger | None) -> None:
    assert trigger_of(candidate, NOW) == trigger


@pytest.mark.parametrize(
    ("failures", "advised", "asked_in_ms", "minutes"),
    [(0, False, None, 60), (0, True, None, 15), (2, True, None, 5), (2, True, 7_200_000, 120)],
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
