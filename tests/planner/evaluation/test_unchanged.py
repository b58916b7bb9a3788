"""The heuristic for what does not change, in worlds whose bodies change by a timetable or by chance: never too late."""

from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from planner.evaluation.play import Played, play
from planner.evaluation.rules import RulesPlanner
from planner.evaluation.world import Member, Moment, Reply, World

START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 42
INTERVAL = timedelta(minutes=15)
MINUTE = timedelta(minutes=1)
Changes = Callable[[Random], list[datetime]]


def each_day(*times: tuple[float, float], weekdays: range = range(7), spread: float = 3) -> Changes:
    """Changes every so many minutes in each span of hours of the day, a few minutes early or late."""

    def changes(dice: Random) -> list[datetime]:
        return [
            START + timedelta(days=day, hours=begin, minutes=minute + dice.uniform(-spread, spread))
            for day in range(DAYS)
            if (START + timedelta(days=day)).weekday() in weekdays
            for begin, hours in times
            for minute in range(0, max(round(hours * 60), 1), 10)
        ]

    return changes


def by_chance(per_day: float, burst: int = 1) -> Changes:
    """Bursts of changes at random times."""

    def changes(dice: Random) -> list[datetime]:
        found, at = [], START
        while at < START + timedelta(days=DAYS):
            at += timedelta(days=dice.expovariate(per_day))
            found += [at + number * 10 * MINUTE for number in range(burst)]
        return found

    return changes


def moved_by_an_hour(dice: Random) -> list[datetime]:
    """A daily feed of 09:00 whose clock changes after four weeks."""
    return [START + timedelta(days=day, hours=9 if day < 28 else 8, minutes=4) for day in range(DAYS)]


WORLDS: dict[str, Changes] = {
    "a daily feed at 09:00": each_day((9, 0)),
    "a daily feed whose clock changes": moved_by_an_hour,
    "market hours, 09:30 to 16:00 on weekdays": each_day((9.5, 6.5), weekdays=range(5)),
    "a weekly report, Mondays at 09:00": each_day((9, 0), weekdays=range(1)),
    "two shifts": each_day((6, 1), (14, 1)),
    "once a day at random": by_chance(1),
    "five times a day at random": by_chance(5),
    "bursts of an hour, twice a day at random": by_chance(2, burst=6),
}


def played(changes: list[datetime], seed: int, *, heuristics: bool) -> Played:
    changes = sorted(changes)

    def answer(at: Moment) -> Reply:
        return Reply({"version": bisect_left(changes, at.now)})

    columns = {"baseline_interval_ms": INTERVAL // MINUTE * 60_000, "max_interval_ms": 7_200_000}
    world = World(
        "feed",
        "",
        DAYS * 1_440,
        (Member("feed", columns),),
        lambda: {"feed": answer},
        start=START,
        seed=seed,
    )
    return play(world, *([RulesPlanner()] if heuristics else []))


def delays(result: Played, changes: list[datetime]) -> list[timedelta]:
    """How long each change waited for the next call, in the time in which the heuristic may have spoken."""
    starts = [run.started_at for run in result.runs("feed")]
    last = START + timedelta(days=DAYS - 1)
    return [starts[bisect_left(starts, at)] - at for at in sorted(changes) if START <= at < last]


@pytest.mark.parametrize("name", WORLDS)
def test_the_heuristic_is_in_no_world_later_than_no_planner_by_more_than_is_documented(name: str) -> None:
    """Documented: on average a twentieth of the interval, at worst one interval, and in a timetable nothing."""
    for seed in range(1):
        changes = WORLDS[name](Random(f"{name} {seed}"))
        without = delays(played(changes, seed, heuristics=False), changes)
        result = played(changes, seed, heuristics=True)
        late = delays(result, changes)
        mean = sum(late, timedelta()) / len(late) - sum(without, timedelta()) / len(without)
        assert mean <= INTERVAL / 20, f"{mean} later on average"
        assert max(late) <= max(without) + INTERVAL, f"{max(late)} at worst"
        if "random" not in name:
            assert max(late) <= INTERVAL + timedelta(seconds=1), f"{max(late)} at worst"


def test_the_heuristic_saves_calls_of_a_daily_feed_and_none_before_it_knows_it() -> None:
    changes = WORLDS["a daily feed at 09:00"](Random(1))
    without, result = played(changes, 0, heuristics=False), played(changes, 0, heuristics=True)
    early = 14 * 1_440
    assert len(result.runs("feed", 0, early)) == len(without.runs("feed", 0, early))
    assert len(result.runs("feed", early)) < 0.75 * len(without.runs("feed", early))
