"""Plays a scenario on a virtual clock, with the very functions that plan and settle in production. Pure.

Planning is `plan_row`, results are `apply_outcome`, claims are `apply_claim`; here are only the clock, the heap of
what comes next, and the dice. At one instant, calls end first, then events take effect, then the adviser is woken,
then due runs start; there is always a free worker, except in an outage. The same scenario gives the same runs, on any
machine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from typing import NamedTuple, Protocol

from scheduling.exchange.outcome import Outcome
from scheduling.plan.decision import Source
from scheduling.plan.row import PlanRow, apply_claim, apply_outcome, apply_plan, plan_row
from scheduling.plan.uncalled import IDLE, Spans, in_call
from scheduling.simulation.scenario import Change, EndpointSpec, Scenario
from scheduling.simulation.tally import EndpointTally, Report, Tally
from scheduling.simulation.targets import ModelledTarget, Target

WORKER = "simulation"

# The order of what happens at one instant.
_CREATE, _SETTLE, _CHANGE, _WAKE, _START = range(5)


class SimulatedRun(NamedTuple):
    """One call: `due_at` is when it was to start, `slot_at` the planned time that it serves."""

    endpoint: str
    source: Source
    slot_at: datetime
    due_at: datetime
    started_at: datetime
    finished_at: datetime
    attempt: int
    ok: bool


Observer = Callable[[SimulatedRun], None]


class Stage(Protocol):
    """The play under way, as an adviser sees it and steers it."""

    @property
    def now(self) -> datetime:
        """The virtual time."""

    def row(self, name: str) -> PlanRow:
        """The row of an endpoint as it stands; to be changed by `change` only."""

    def change(self, name: str, change: Change) -> None:
        """Changes an endpoint and plans it anew, at once."""

    def wake(self, at: datetime) -> None:
        """Asks for `Adviser.woken` at a time that is not over."""


class Adviser(Protocol):
    """Somebody who looks on and may change any endpoint; the same scenario and advice give the same runs."""

    def begin(self, stage: Stage) -> None:
        """The play is about to begin; nothing is planned yet."""

    def settled(self, run: SimulatedRun, outcome: Outcome) -> None:
        """A call has ended, and its endpoint is planned anew."""

    def woken(self) -> None:
        """A time has come that the adviser had asked for."""


def simulate(
    scenario: Scenario,
    observe: Observer | None = None,
    *,
    targets: Mapping[str, Target] | None = None,
    adviser: Adviser | None = None,
) -> Report:
    """Plays the scenario to its end; `observe` is told of every run as it starts, in the order of time.

    Endpoints without one of the `targets`, which go by name, answer as their `OutcomeModel` says. Runs that start
    before the end count, also where they would finish after it.
    """
    return _Simulation(scenario, observe, targets or {}, adviser).play()


@dataclass(slots=True)
class _Player:
    """An endpoint in play; `slot_at`, `attempt`, `pending` and, where somebody looks on, `run` are of its latest call.

    A plan made during the call has its own `next_attempt`; the `plan_number` counts plans, so that older ones lapse.
    """

    spec: EndpointSpec
    row: PlanRow
    tally: EndpointTally
    target: Target
    next_attempt: int = 1
    plan_number: int = 0
    slot_at: datetime | None = None
    started_at: datetime | None = None
    attempt: int = 1
    pending: Outcome | None = None
    run: SimulatedRun | None = None


class _Simulation:
    """One play of a scenario."""

    def __init__(
        self,
        scenario: Scenario,
        observe: Observer | None,
        targets: Mapping[str, Target],
        adviser: Adviser | None,
    ) -> None:
        self._scenario, self._observe, self._adviser = scenario, observe, adviser
        self._tally = Tally(scenario)
        self._players = [
            _Player(
                spec,
                row := spec.new_row(),
                self._tally.watch(spec, row),
                targets.get(spec.name) or ModelledTarget(spec, scenario.seed),
            )
            for spec in scenario.endpoints
        ]
        self.now = scenario.start
        self._outages = sorted(scenario.outages, key=lambda outage: outage.begin)
        # When, what, which endpoint or event, and for a start the number of the plan that it belongs to.
        self._heap: list[tuple[datetime, int, int, int]] = []
        self._numbers = {player.spec.name: number for number, player in enumerate(self._players)}

    def play(self) -> Report:
        """Plays to the end and returns the report."""
        heap, end = self._heap, self._scenario.end
        for number, player in enumerate(self._players):
            heappush(heap, (max(player.spec.created_at, self._scenario.start), _CREATE, number, 0))
        for number, event in enumerate(self._scenario.events):
            heappush(heap, (event.at, _CHANGE, number, 0))
        if self._adviser is not None:
            self._adviser.begin(self)
        while heap and heap[0][0] < end:
            self.now, what, number, plan_number = heappop(heap)
            now = self.now
            if what == _START:
                if self._players[number].plan_number == plan_number:
                    self._start(number, now)
            elif what == _SETTLE:
                self._settle(number, now)
            elif what == _CREATE:
                self._plan(number, now, unclaimed=True)
            elif what == _CHANGE:
                event = self._scenario.events[number]
                self.change(event.endpoint, event.change)
            else:
                assert self._adviser is not None
                self._adviser.woken()
        return self._tally.report()

    def row(self, name: str) -> PlanRow:
        """The row of an endpoint as it stands."""
        return self._players[self._numbers[name]].row

    def change(self, name: str, change: Change) -> None:
        """Lets a change take effect; a call under way is not touched, and its end plans anew."""
        number = self._numbers[name]
        row = self._players[number].row
        self._tally.before_change(name, self.now)
        change.apply(row, self.now)
        if row.lease_owner is None:
            self._plan(number, self.now, unclaimed=True)
        else:
            self._plan(number, self.now, unclaimed=False, spans=in_call(row.last_started_at))

    def wake(self, at: datetime) -> None:
        """Wakes the adviser at a time that is not over."""
        heappush(self._heap, (at, _WAKE, 0, 0))

    def _start(self, number: int, now: datetime) -> None:
        """Claims a due run and makes its call, or puts it off to the end of an outage."""
        player = self._players[number]
        row = player.row
        for outage in self._outages:
            if outage.begin <= now < outage.end:
                heappush(self._heap, (outage.end, _START, number, player.plan_number))
                return
        due_at, slot_at, source = row.next_run_at, row.next_slot_at, row.next_source
        assert due_at is not None
        assert slot_at is not None
        assert source is not None
        tardy = apply_claim(row, now, worker=WORKER, grace_ms=player.spec.misfire_grace_ms)
        if tardy is not None:
            if tardy.missed:
                player.tally.missed += tardy.folded + 1
                row.lease_owner = None
                self._plan(number, now, unclaimed=False)
                return
            player.tally.folded += tardy.folded
            slot_at = tardy.latest_at
        player.slot_at, player.started_at, player.attempt = slot_at, now, player.next_attempt
        player.pending, duration = player.target.answer(now)
        heappush(self._heap, (now + duration, _SETTLE, number, 0))
        player.tally.add(source, due_at, now, ok=player.pending.ok)
        if self._observe is not None or self._adviser is not None:
            name, attempt, ok = player.spec.name, player.attempt, player.pending.ok
            player.run = SimulatedRun(name, Source(source), slot_at, due_at, now, now + duration, attempt, ok)
            if self._observe is not None:
                self._observe(player.run)

    def _settle(self, number: int, now: datetime) -> None:
        """Ends the call under way and plans what comes next."""
        player = self._players[number]
        row, outcome = player.row, player.pending
        assert outcome is not None
        assert player.slot_at is not None
        row.lease_owner = player.pending = None
        apply_outcome(row, outcome, slot_at=player.slot_at, attempt=player.attempt, finished_at=now, now=now)
        self._plan(number, now, unclaimed=False, spans=in_call(player.started_at, now))
        if self._adviser is not None and player.run is not None:
            self._adviser.settled(player.run, outcome)

    def _plan(self, number: int, now: datetime, *, unclaimed: bool, spans: Spans = IDLE) -> None:
        player = self._players[number]
        row = player.row
        decision = plan_row(row, now, unclaimed=unclaimed, hint_floor_ms=self._scenario.hint_floor_ms, spans=spans)
        apply_plan(row, decision)
        player.next_attempt = decision.attempt
        player.plan_number += 1
        # A plan made during a call is never started: the end of the call plans anew.
        if decision.run_at is not None and row.lease_owner is None:
            heappush(self._heap, (max(decision.run_at, now), _START, number, player.plan_number))
