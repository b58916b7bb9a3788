"""The report says when runs showed a trouble, and what was decided."""

from dataclasses import replace
from datetime import timedelta

import pytest

from planner.evaluation.desk import Desk
from planner.evaluation.history import History, PlayedRun
from planner.evaluation.play import Played, play
from planner.evaluation.report import Comparison, Noticed, noticed
from planner.evaluation.rules import RulesPlanner
from planner.evaluation.scenarios import SCENARIOS
from planner.evaluation.world import Member, Moment, Reply, Spell, World
from planner.proposals.wishes import PauseUntil, ProposeInterval, ProposeNextTime, Speaker


def world(*spells: Spell) -> World:
    def down(at: Moment) -> Reply:
        return Reply(status=503 if at.during(20, 45) else 200)

    member = Member("a", {"baseline_interval_ms": 600_000, "min_interval_ms": 60_000})
    return World("w", "A world.", 120, (member,), lambda: {"a": down}, spells=spells)


@pytest.mark.parametrize(
    ("spell", "expected", "words"),
    [
        # Runs at 10, 20 (fails), 30 (fails), 40 (fails), 50, ...
        (Spell("a", "down", 20, 45), (0, 30), "seen 0 ms, over 30 min"),
        (Spell("a", "down", 15, 45), (5, 35), "seen 5 min, over 35 min"),
        (Spell("a", "down", 15, 30), (5, 35), "seen 5 min, over 35 min"),
        (Spell("a", "down", 21, 29), (None, None), "not seen"),
        (Spell("a", "called", 90, 119, shows=lambda run: run.ok), (0, None), "seen 0 ms, never over"),
    ],
)
def test_trouble_is_seen_with_the_first_run_that_shows_it(
    spell: Spell, expected: tuple[int | None, int | None], words: str
) -> None:
    seen, over = (None if minutes is None else timedelta(minutes=minutes) for minutes in expected)
    found = noticed(play(world(spell)), spell)
    assert found == Noticed(seen, over)
    assert found.words() == words


class Decides:
    """Asks for one thing of each kind."""

    def begin(self, desk: Desk) -> None:
        self.desk = desk
        desk.stage.wake(desk.world.at(5))

    def settled(self, run: PlayedRun) -> None:
        pass

    def woken(self) -> None:
        at = self.desk.now + timedelta(minutes=2)
        for wish in (
            ProposeInterval(interval_ms=1_000, ttl_minutes=30, reason="quick"),
            ProposeNextTime(next_run_at=at, reason="soon"),
            PauseUntil(until=at + timedelta(minutes=1), reason="rest"),
            PauseUntil(until=None, reason="enough"),
            ProposeInterval(interval_ms=3_600_000, ttl_minutes=30, reason="ends first"),
        ):
            self.desk.file("a", wish, speaker=Speaker.MODEL)


def test_every_kind_of_decision_is_told_in_words() -> None:
    comparison = Comparison(play(world(), Decides()), "model", play(world()), "baseline")
    lines = [line.strip() for line in comparison.lines()]
    for line in (
        "12:05:00 a: every 1 min until 12:35 UTC: applied (interval clamped from 1 s), by model because quick",
        "12:05:00 a: one run at 12:07 UTC: applied, by model because soon",
        "12:05:00 a: pause until 12:08 UTC: applied, by model because rest",
        "12:05:00 a: resume: applied, by model because enough",
    ):
        assert line in lines
    refused = next(line for line in lines if "ends first" in line)
    assert "every 1 h: refused (The hint would end before its first run" in refused
    assert "What the planner did (5)" in lines
    assert not any(line.startswith(("wanted", "trouble")) for line in lines[:12])


def test_long_worlds_show_the_day_of_each_decision() -> None:
    long = replace(world(), minutes=2_000)
    text = "\n".join(Comparison(play(long, Decides()), "model", play(long), "baseline").lines())
    assert "  03-02 12:05:00 a: resume" in text


def test_runs_from_before_a_record_began_are_not_drawn() -> None:
    before = PlayedRun("a", world().at(-5), world().at(-5), world().at(-4), "baseline-interval", True, 200)
    beside = Played(world(), History([before]), ())
    lines = list(Comparison(play(world()), "none", beside, "recorded").lines())
    assert next(line for line in lines if "recorded" in line and "..." in line).count(".") == 80


def test_report_is_the_same_each_time() -> None:
    given = SCENARIOS["flashsale"]
    one, two = (Comparison(play(given, RulesPlanner()), "rules", play(given), "baseline") for _ in range(2))
    assert one.to_json() == two.to_json()
    assert list(one.lines()) == list(two.lines())
