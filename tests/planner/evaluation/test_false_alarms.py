"""A rule on the error rate of a healthy endpoint with a few errors: how often it is wrong, and how soon it is right."""

import json
import re
from typing import Any

from cronicorn.env import PROJECT_DIR
from planner.evaluation.play import Played, play
from planner.evaluation.rules import RulesPlanner
from planner.evaluation.world import Member, Moment, Reply, World
from planner.proposals.wishes import ProposeInterval

DAY = 1_440
ALARM_MS = 30_000


def documented_rule() -> dict[str, Any]:
    """The rule on the error rate that the planner's page shows."""
    page = (PROJECT_DIR / "docs/planner.md").read_text()
    example = next(each for each in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if '"degraded"' in each)
    rules: list[dict[str, Any]] = json.loads(example)
    return rules[0]


def played(days: float, *, seed: int, errors: float, bad_after: float = 1e9) -> Played:
    """An endpoint that is called every minute and fails by chance; 20 % of the calls fail from a minute on."""

    def answer(at: Moment) -> Reply:
        failed = at.dice.random() < (0.2 if at.minute >= bad_after else errors)
        return Reply(status=503) if failed else Reply({"ok": True})

    # The maximum keeps back-off out of the picture.
    columns = {"baseline_interval_ms": 60_000, "max_interval_ms": 60_000, "min_interval_ms": 10_000}
    member = Member("api", columns, rules=[documented_rule()])
    world = World("errors", "", days * DAY, (member,), lambda: {"api": answer}, seed=seed)
    return play(world, RulesPlanner(heuristics=False))


def alarms(result: Played) -> list[float]:
    return [result.world.minute_of(entry.at) for entry in result.entries if isinstance(entry.wish, ProposeInterval)]


def test_documented_rule_is_wrong_less_than_once_in_ten_days_at_one_percent_of_errors() -> None:
    days = 12
    found = [len(alarms(played(days, seed=seed, errors=0.01))) for seed in range(2)]
    assert sum(found) / (2 * days) < 0.1


def test_documented_rule_notices_twenty_percent_of_errors_after_some_25_calls() -> None:
    first = [alarms(played(0.2, seed=seed, errors=0, bad_after=60))[0] - 60 for seed in range(12)]
    assert min(first) > 0
    assert sum(first) / len(first) < 30
    assert max(first) < 90
