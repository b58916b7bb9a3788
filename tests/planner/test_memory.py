"""What the rules pass remembers between passes: where rules stand, and when bodies change."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.conditions import Observation
from jobs.rules import parse_rules
from planner.rules.advice import SeenRun
from planner.rules.changetimes import CALM, REMEMBERED_DAYS, ChangeTimes, observed
from planner.rules.memory import Memory, stepped

NOW = datetime(2030, 1, 1, 12, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MIDNIGHT = datetime(2030, 1, 1, tzinfo=UTC)


def run(state: str, minutes: float, *, failed: bool = False) -> SeenRun:
    if failed:
        return SeenRun(NOW + timedelta(minutes=minutes), Observation(True, 503))
    return SeenRun(NOW + timedelta(minutes=minutes), Observation(False, 200, 5.0, {"state": state}, state))


def rules(*names: str | None, state: str = "down", sibling: str = "recover", **then: Any) -> Any:
    when = {"path": "$.state", "op": "==", "value": state}
    return parse_rules([{"name": name, "when": when, "then": {"run_sibling": sibling, **then}} for name in names])


def after(memory: Memory | None, its: Any, *runs: SeenRun, unseen: int = 1) -> Memory:
    return stepped(memory, its, runs, unseen=unseen, rule_in_force=None)


HELD = after(Memory(), rules("a"), run("down", 0))


def test_a_rule_holds_since_the_run_that_made_it_true_and_is_stored_so() -> None:
    assert HELD.holding["a"].since == NOW
    assert Memory.from_json(json.loads(json.dumps(HELD.to_json()))) == HELD
    again = after(HELD, rules("a"), run("down", 0))
    assert again == HELD
    assert after(HELD, rules("a"), run("down", 1), run("down", 0)).holding["a"].since == NOW


def test_what_came_and_went_between_two_passes_is_not_lost() -> None:
    found = after(HELD, rules("a"), run("down", 3), run("up", 2), run("down", 0), unseen=2)
    assert found.holding["a"].since == NOW + timedelta(minutes=3)
    assert found.ended == ()
    found = after(HELD, rules("a"), run("up", 2), run("down", 0))
    assert (found.holding, [each.key for each in found.ended]) == ({}, ["a"])


@pytest.mark.parametrize(
    ("edited", "since"),
    [
        (rules("a", ttl_minutes=5, every_minutes=9), {"a": NOW}),
        (rules("renamed"), {"renamed": NOW}),
        (rules("new", "a"), {"new": NOW, "a": NOW}),
        (rules("a", sibling="other"), {"a": NOW + timedelta(minutes=1)}),
        (rules("b", sibling="other"), {"b": NOW + timedelta(minutes=1)}),
    ],
)
def test_an_edit_of_the_rules_keeps_the_state_of_a_rule_that_is_known_again(edited: Any, since: Any) -> None:
    found = after(HELD, edited, run("down", 1), run("down", 0))
    assert {key: each.since for key, each in found.holding.items()} == since


def test_a_rule_whose_condition_was_edited_is_known_by_its_name() -> None:
    found = after(HELD, rules("a", state="worse"), run("worse", 1), run("down", 0))
    assert found.holding["a"].since == NOW


def test_a_rule_that_is_gone_has_ended() -> None:
    assert [each.key for each in after(HELD, (), run("down", 1)).ended] == ["a"]


def test_a_failed_run_without_a_body_ends_no_rule_on_the_body_and_begins_none() -> None:
    assert after(HELD, rules("a"), run("", 1, failed=True), run("down", 0)).holding["a"].since == NOW
    assert after(Memory(), rules("a"), run("", 1, failed=True)).holding == {}


def test_without_a_memory_what_held_before_holds_since_an_unknown_time() -> None:
    assert after(None, rules("a"), run("down", 1), run("down", 0)).holding["a"].since is None
    assert after(None, rules("a"), run("down", 1)).holding["a"].since == NOW + timedelta(minutes=1)


@pytest.mark.parametrize(
    "stored", [None, {}, [], {"rules": [{}], "times": None}, {"rules": [], "times": {"since": "x"}}]
)
def test_what_cannot_be_read_is_no_memory(stored: Any) -> None:
    assert Memory.from_json(stored) is None


def known(*hours: float, since: datetime = NOW - 2 * CALM, at: datetime = NOW - HOUR) -> ChangeTimes:
    days = {int(hour * 2): NOW.toordinal() - 1 for hour in hours}
    return ChangeTimes(since, "a", at, days)


@pytest.mark.parametrize(
    ("times", "until"),
    [
        (known(), NOW + DAY),
        (known(since=NOW - CALM + HOUR), None),
        (known(12), None),
        (known(13), None),
        (known(11), None),
        (known(16), MIDNIGHT + 15 * HOUR),
        (known(10), MIDNIGHT + DAY + 9 * HOUR),
    ],
)
def test_it_is_quiet_until_an_hour_before_changes_were_seen(times: ChangeTimes, until: datetime | None) -> None:
    assert times.quiet_until(NOW) == until


def test_a_change_is_noted_for_all_half_hours_in_which_it_may_have_come() -> None:
    found = observed(known(12, at=NOW - HOUR), "b", NOW)
    assert found is not None
    assert (found.digest, found.at, sorted(found.days), found.since) == ("b", NOW, [22, 23, 24], NOW - 2 * CALM)


def test_a_change_that_was_not_foreseen_begins_the_record_anew() -> None:
    found = observed(known(3), "b", NOW)
    assert found is not None
    assert found.since == NOW
    assert found.quiet_until(NOW + CALM) is None
    assert found.quiet_until(NOW + CALM + 6 * HOUR) == MIDNIGHT + CALM + DAY + 2 * HOUR


def test_what_was_not_seen_for_four_weeks_is_forgotten() -> None:
    later = NOW + REMEMBERED_DAYS * DAY
    found = observed(known(12, at=later - HOUR), "b", later)
    assert found is not None
    assert found.since == later


@pytest.mark.parametrize(("digest", "at"), [(None, NOW), ("b", NOW - HOUR), ("b", NOW - 2 * HOUR)])
def test_failed_runs_and_runs_of_before_tell_nothing(digest: str | None, at: datetime) -> None:
    assert observed(known(3), digest, at) == known(3)
    assert observed(None, None, NOW) is None
