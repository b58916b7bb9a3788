"""The desk carries out what the judgement grants, and no more, on the rows of a play."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from planner.evaluation.desk import Desk
from planner.evaluation.history import PlayedRun
from planner.evaluation.play import Played, play
from planner.evaluation.rules import RulesPlanner
from planner.evaluation.world import Member, Moment, Reply, World
from planner.proposals.judgement import Judged, Verdict
from planner.proposals.wishes import ClearHints, PauseUntil, ProposeInterval, ProposeNextTime, Speaker, Wish
from scheduling.simulation import scenario

EVERY_TEN = {"baseline_interval_ms": 600_000}
FASTER = ProposeInterval(interval_ms=60_000, ttl_minutes=60, reason="busy")
SLOWER = ProposeInterval(interval_ms=1_200_000, ttl_minutes=60, reason="calm")


def world(**member: Any) -> World:
    def well(at: Moment) -> Reply:
        return Reply({"depth": round(at.minute)})

    return World("w", "", 120, (Member("a", EVERY_TEN, **member),), lambda: {"a": well})


class Asks:
    """Asks for something at given minutes."""

    def __init__(self, **asked: Callable[[Desk], Judged]) -> None:
        self._asked = {float(name.removeprefix("at_")): ask for name, ask in asked.items()}
        self.judged: list[Judged] = []
        self.states: list[str] = []

    def begin(self, desk: Desk) -> None:
        self.desk = desk
        for minute in self._asked:
            desk.stage.wake(desk.world.at(minute))

    def settled(self, run: PlayedRun) -> None:
        pass

    def woken(self) -> None:
        ask = self._asked.pop(self.desk.world.minute_of(self.desk.now), None)
        if ask is not None:
            self.judged.append(ask(self.desk))
            self.states = [self.desk.state(entry) for entry in self.desk.entries]

    @property
    def verdicts(self) -> list[str]:
        return [judged.verdict.value for judged in self.judged]


def wants(wish: Wish, speaker: Speaker = Speaker.MODEL, **how: Any) -> Callable[[Desk], Judged]:
    return lambda desk: desk.file("a", wish, speaker=speaker, **how)


def rests(minutes: int, speaker: Speaker = Speaker.MODEL) -> Callable[[Desk], Judged]:
    def ask(desk: Desk) -> Judged:
        until = desk.now + timedelta(minutes=minutes)
        return desk.file("a", PauseUntil(until=until, reason="rest"), speaker=speaker)

    return ask


def played(asks: Asks, given: World | None = None) -> Played:
    return play(given or world(), asks)


def test_applied_hint_is_followed_until_it_ends() -> None:
    assert played(Asks(at_15=wants(FASTER))).minutes("a", 0, 76)[:4] == [10, 15, 16, 17]
    assert played(Asks(at_15=wants(FASTER))).minutes("a", 75) == [80, 90, 100, 110]


def test_hint_that_replaces_another_ends_it() -> None:
    asks = Asks(at_15=wants(FASTER), at_30=wants(SLOWER), at_90=wants(FASTER))
    entries = played(asks).entries
    assert [(entry.ended_by, entry.replaced_ms) for entry in entries[:2]] == [("superseded", None), (None, 60_000)]
    # The second one had run out before the third came.
    assert asks.states == ["superseded", "expired", "applied"]


def test_clearing_brings_the_baseline_back() -> None:
    asks = Asks(at_15=wants(FASTER), at_30=wants(ClearHints(reason="calm")))
    assert played(asks).minutes("a", 30) == [40, 50, 60, 70, 80, 90, 100, 110]
    assert asks.states == ["cleared", "applied"]


def test_one_shot_hint_is_used_once_and_is_not_expired() -> None:
    def soon(desk: Desk) -> Judged:
        wish = ProposeNextTime(next_run_at=desk.now + timedelta(minutes=1), ttl_minutes=5, reason="look")
        return desk.file("a", wish, speaker=Speaker.RULE, key="r")

    asks = Asks(at_13=soon, at_15=soon, at_60=soon)
    assert played(asks).minutes("a", 0, 25) == [10, 14, 16, 20]
    assert asks.states == ["applied", "applied", "applied"]


def test_one_shot_hint_of_which_only_one_kind_is_cleared() -> None:
    def later(desk: Desk) -> Judged:
        wish = ProposeNextTime(next_run_at=desk.now + timedelta(minutes=9), ttl_minutes=30, reason="look")
        return desk.file("a", wish, speaker=Speaker.MODEL)

    own = wants(ClearHints(reason="calm"), Speaker.RULE, own_only=True)
    asks = Asks(at_12=wants(FASTER, Speaker.RULE, key="r"), at_13=later, at_14=own)
    assert 22 in played(asks).minutes("a")
    assert asks.states == ["cleared", "applied", "applied"]


def test_pause_rests_and_can_be_ended() -> None:
    asks = Asks(at_15=rests(60), at_32=wants(PauseUntil(until=None, reason="enough")))
    assert played(asks).minutes("a", 0, 55) == [10, 40, 50]
    assert asks.verdicts == ["applied", "applied"]


def test_pauses_of_the_week_are_counted() -> None:
    long = replace(world(), minutes=3 * 24 * 60)
    day = 24 * 60
    asks = Asks(at_15=rests(day), at_1456=rests(day), at_2898=rests(day))
    played(asks, long)
    assert asks.verdicts == ["applied", "applied", "refused"]
    assert "48 h within a week" in asks.judged[2].why


def test_pauses_of_a_rule_are_neither_limited_nor_counted() -> None:
    long = replace(world(), minutes=4 * 24 * 60)
    day = 24 * 60
    ruled = rests(day, Speaker.RULE)
    asks = Asks(at_15=ruled, at_1456=ruled, at_2898=ruled, at_4340=rests(day))
    played(asks, long)
    assert asks.verdicts == ["applied"] * 4


def test_hint_of_a_person_is_not_replaced() -> None:
    hint = scenario.SetIntervalHint(120_000, 1_800_000, "mine", author="user")
    given = replace(world(), events=(scenario.Event(world().at(11), "a", hint),))
    asks = Asks(at_15=wants(FASTER), at_16=wants(ClearHints(reason="calm")), at_45=wants(FASTER))
    played(asks, given)
    assert asks.verdicts == ["refused", "nothing", "applied"]


@pytest.mark.parametrize(
    ("mode", "verdict", "noted"), [("shadow", "shadow", 3), ("approve", "pending", 3), ("off", "nothing", 0)]
)
def test_what_is_not_applied_changes_nothing(mode: str, verdict: str, noted: int) -> None:
    asks = Asks(at_15=wants(FASTER), at_20=wants(FASTER), at_25=wants(SLOWER), at_80=wants(FASTER))
    shadowed = played(asks, world(mode=mode))
    assert shadowed.minutes("a") == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110]
    assert set(asks.verdicts) - {"nothing"} == {verdict} - {"nothing"}
    assert len(shadowed.entries) == noted


def test_shadow_is_in_force_for_the_planner_alone() -> None:
    asks = Asks(
        at_15=wants(FASTER, Speaker.RULE, key="r"),
        at_20=wants(SLOWER),
        at_50=wants(FASTER, Speaker.RULE, key="r"),
        at_55=wants(ClearHints(reason="calm"), Speaker.RULE, own_only=True),
        at_60=wants(SLOWER),
    )
    shadowed = played(asks, world(mode="shadow"))
    assert asks.verdicts == ["shadow", "refused", "shadow", "shadow", "shadow"]
    first = shadowed.entries[0]
    at = shadowed.world.at
    assert (first.renewals, first.until, first.ended_at) == (1, at(110), at(55))
    assert len(shadowed.entries) == 4


def test_rules_of_an_endpoint_that_is_off_are_not_read() -> None:
    rules = [{"when": {"path": "$.depth", "op": ">", "value": 1}, "then": {"interval_ms": 60_000}}]
    assert play(world(rules=rules), RulesPlanner()).entries
    assert not play(world(rules=rules, mode="off"), RulesPlanner()).entries


def test_rules_that_name_no_sibling_run_nothing_and_say_so_once_an_hour() -> None:
    rules = [{"when": {"path": "$.depth", "op": ">", "value": 1}, "then": {"run_sibling": "nobody"}}]
    entries = play(world(rules=rules), RulesPlanner()).entries
    assert {(each.endpoint, each.verdict, each.note) for each in entries} == {
        ("a", Verdict.REFUSED, 'This job has no other endpoint called "nobody".')
    }
    assert len(entries) == 2


def test_turns_of_rules_are_counted_within_the_hour() -> None:
    seen: list[dict[tuple[Speaker, str | None], int]] = []

    def look(desk: Desk) -> Judged:
        seen.append(desk.turns("a"))
        return desk.file("a", FASTER, speaker=Speaker.MODEL)

    fast, slow = wants(FASTER, Speaker.RULE, key="r"), wants(SLOWER, Speaker.RULE, key="s")
    clear = wants(ClearHints(reason="calm"), Speaker.RULE, key="r")
    played(Asks(at_15=fast, at_20=slow, at_25=clear, at_30=look, at_82=look))
    assert seen == [{(Speaker.RULE, "r"): 1, (Speaker.RULE, "s"): 1}, {(Speaker.RULE, "s"): 1}]
