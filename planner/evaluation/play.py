"""Plays a world with planners, on the virtual clock of the simulation, and keeps what came of it. Pure."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from planner.evaluation.desk import Desk, Entry
from planner.evaluation.history import History, PlayedRun
from planner.evaluation.world import World, WorldTarget
from planner.proposals.wishes import ClearHints, ProposeInterval
from scheduling.exchange.outcome import Outcome
from scheduling.simulation.engine import Observer, SimulatedRun, Stage, simulate


class Planner(Protocol):
    """Looks on at a play and files its wishes at the desk."""

    def begin(self, desk: Desk) -> None:
        """A play begins."""

    def settled(self, run: PlayedRun) -> None:
        """A run has ended."""

    def woken(self) -> None:
        """A time has come that this planner, or another one, had asked the stage for."""


@dataclass(frozen=True)
class Played:
    """What came of a play: all runs, and all that the planners asked for."""

    world: World
    history: History
    entries: tuple[Entry, ...]

    def runs(self, endpoint: str, begin: float = 0, end: float | None = None) -> list[PlayedRun]:
        """The runs that started in the minutes [begin, end) of the world."""
        first, last = self.world.at(begin), self.world.at(self.world.minutes if end is None else end)
        return [run for run in self.history.of(endpoint) if first <= run.started_at < last]

    def minutes(self, endpoint: str, begin: float = 0, end: float | None = None) -> list[float]:
        """When they started, in minutes of the world."""
        return [self.world.minute_of(run.started_at) for run in self.runs(endpoint, begin, end)]

    def longest_gap(self, endpoint: str, begin: float, end: float) -> float:
        """The longest time without a start inside [begin, end), in minutes, the ends counted as starts."""
        times = [begin, *self.minutes(endpoint, begin, end), end]
        return max(later - earlier for earlier, later in pairwise(times))

    def applied(self, endpoint: str, begin: float = 0, end: float | None = None) -> list[Entry]:
        """What was applied to the endpoint in the minutes [begin, end)."""
        first, last = self.world.at(begin), self.world.at(self.world.minutes if end is None else end)
        return [
            entry for entry in self.entries if entry.endpoint == endpoint and entry.applied and first <= entry.at < last
        ]

    def changes_of_pace(self, endpoint: str) -> int:
        """How often the planners changed the interval of an endpoint, renewals of the same not counted."""
        pace, count = None, 0
        for entry in self.applied(endpoint):
            if isinstance(entry.wish, ProposeInterval | ClearHints):
                wanted = entry.values.get("interval_ms")
                count += wanted != pace
                pace = wanted
        return count

    def unmet(self) -> list[str]:
        """What a person would want of this world and did not get."""
        return [want.words for want in self.world.wants if not want.holds(self)]


def play(world: World, *planners: Planner, observe: Observer | None = None) -> Played:
    """Plays the world to its end, with these planners or none; `observe` is told of every run as it starts."""
    scenario = world.scenario()
    responds = world.targets()
    targets = {spec.name: WorldTarget(world, spec, responds[spec.name]) for spec in scenario.endpoints}
    company = _Company(world, planners)
    simulate(scenario, observe, targets=targets, adviser=company)
    return Played(world, company.history, tuple(company.desk.entries))


class _Company:
    """The planners of a play, and the history that they read."""

    desk: Desk

    def __init__(self, world: World, planners: tuple[Planner, ...]) -> None:
        self._world, self._planners = world, planners
        self.history = History()

    def begin(self, stage: Stage) -> None:
        self.desk = Desk(self._world, stage, self.history)
        for planner in self._planners:
            planner.begin(self.desk)

    def settled(self, run: SimulatedRun, outcome: Outcome) -> None:
        played = PlayedRun.of(run, outcome)
        self.history.add(played)
        for planner in self._planners:
            planner.settled(played)

    def woken(self) -> None:
        for planner in self._planners:
            planner.woken()
