"""Plays a scenario on a virtual clock, with the very functions that plan and settle in production. Pure.

Planning is `plan_next_run`, results are `apply_outcome`, claims are `apply_claim`; here are only the clock, the heap of
what comes next, and the dice. At one instant, calls end first, then events take effect, then due runs start; there is
always a free worker, except in an outage. The same scenario gives the same runs, on any machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

from scheduling.exchange.criteria import SuccessCriteria
from scheduling.exchange.outcome import Blame, Call, ErrorKind, Outcome, Timings
from scheduling.plan.decision import Decision, Source
from scheduling.plan.governor import plan_next_run
from scheduling.plan.row import PlanRow, apply_claim, apply_outcome, apply_plan, facts_of
from scheduling.simulation.scenario import EndpointSpec, OutcomeModel, Scenario
from scheduling.simulation.tally import EndpointTally, Report, Tally

WORKER = "simulation"

# The order of what happens at one instant.
_CREATE, _SETTLE, _CHANGE, _START = range(4)


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


def simulate(scenario: Scenario, observe: Observer | None = None) -> Report:
    """Plays the scenario to its end; `observe` is told of every run as it starts, in the order of time.

    Runs that start before the end count, also where they would finish after it.
    """
    return _Simulation(scenario, observe).play()


@dataclass(slots=True)
class _Player:
    """An endpoint in play; `slot_at` and `pending` are of the call under way."""

    spec: EndpointSpec
    row: PlanRow
    tally: EndpointTally
    target: "_Target"
    attempt: int = 1
    plan_number: int = 0
    slot_at: datetime | None = None
    pending: Outcome | None = None


class _Simulation:
    """One play of a scenario."""

    def __init__(self, scenario: Scenario, observe: Observer | None) -> None:
        self._scenario, self._observe = scenario, observe
        self._tally = Tally(scenario)
        self._players = [
            _Player(spec, row := spec.new_row(), self._tally.watch(spec, row), _Target(spec, scenario.seed))
            for spec in scenario.endpoints
        ]
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
        while heap and heap[0][0] < end:
            now, what, number, plan_number = heappop(heap)
            if what == _START:
                if self._players[number].plan_number == plan_number:
                    self._start(number, now)
            elif what == _SETTLE:
                self._settle(number, now)
            elif what == _CREATE:
                self._plan(number, now, unclaimed=True)
            else:
                self._change(number, now)
        return self._tally.report()

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
        player.slot_at = slot_at
        player.pending, duration = player.target.answer()
        heappush(self._heap, (now + duration, _SETTLE, number, 0))
        player.tally.add(source, due_at, now, ok=player.pending.ok)
        if self._observe is not None:
            name, attempt, ok = player.spec.name, player.attempt, player.pending.ok
            self._observe(SimulatedRun(name, Source(source), slot_at, due_at, now, now + duration, attempt, ok))

    def _settle(self, number: int, now: datetime) -> None:
        """Ends the call under way and plans what comes next."""
        player = self._players[number]
        row, outcome = player.row, player.pending
        assert outcome is not None
        assert player.slot_at is not None
        row.lease_owner = player.pending = None
        apply_outcome(row, outcome, slot_at=player.slot_at, attempt=player.attempt, now=now)
        self._plan(number, now, unclaimed=False)

    def _change(self, event_number: int, now: datetime) -> None:
        """Lets an event take effect; a call under way is not touched, and its end plans anew."""
        event = self._scenario.events[event_number]
        number = self._numbers[event.endpoint]
        player = self._players[number]
        self._tally.before_change(event.endpoint, now)
        event.change.apply(player.row, now)
        if player.row.lease_owner is None:
            self._plan(number, now, unclaimed=True)

    def _plan(self, number: int, now: datetime, *, unclaimed: bool) -> None:
        player = self._players[number]
        row = player.row
        facts = facts_of(row, now, unclaimed=unclaimed, hint_floor_ms=self._scenario.hint_floor_ms)
        decision: Decision = plan_next_run(facts, now)
        apply_plan(row, decision)
        player.attempt = decision.attempt
        player.plan_number += 1
        if decision.run_at is not None:
            heappush(self._heap, (max(decision.run_at, now), _START, number, player.plan_number))


class _Target:
    """What an endpoint's calls meet, drawn from a stream of its own: other endpoints do not change it."""

    def __init__(self, spec: EndpointSpec, seed: int) -> None:
        self._model = spec.outcome
        self._random = Random(f"{seed}/{spec.name}")  # noqa: S311  dice that must fall the same way each time
        self._calls = 0
        self._ok, self._failed = _outcomes(spec)
        low, high = spec.outcome.duration_ms
        self._fixed_duration = timedelta(milliseconds=low) if low == high else None

    def answer(self) -> tuple[Outcome, timedelta]:
        """The outcome of the next call, and how long it takes."""
        outcome = self._ok if self._next_is_ok() else self._failed
        if self._fixed_duration is not None:
            return outcome, self._fixed_duration
        low, high = self._model.duration_ms
        return outcome, timedelta(milliseconds=low + int(self._random.random() * (high - low + 1)))

    def _next_is_ok(self) -> bool:
        if self._model.pattern:
            self._calls += 1
            return self._model.pattern[(self._calls - 1) % len(self._model.pattern)]
        return self._model.fail_probability == 0 or self._random.random() >= self._model.fail_probability


def _outcomes(spec: EndpointSpec) -> tuple[Outcome, Outcome]:
    """What a call that succeeds and one that fails bring back, as far as settling looks at it."""
    call = Call(
        run_id=spec.id,
        endpoint_id=spec.id,
        fence=0,
        method="GET",
        url="",
        headers=(),
        body=None,
        timeout_ms=0,
        max_response_bytes=0,
        success=SuccessCriteria(),
        owner_id=spec.id,
    )
    return _outcome(call, spec.outcome, ok=True), _outcome(call, spec.outcome, ok=False)


def _outcome(call: Call, model: OutcomeModel, *, ok: bool) -> Outcome:
    kind = ErrorKind.TIMEOUT if model.status_code is None else ErrorKind.HTTP_ERROR
    return Outcome(
        call=call,
        ok=ok,
        error_kind=None if ok else kind,
        error_message=None if ok else "The scenario lets this call fail.",
        blame=None if ok else Blame.REMOTE,
        status_code=200 if ok else model.status_code,
        timings=Timings(),
        started_ns=0,
        finished_ns=0,
        retry_after=None if ok else model.retry_after,
    )
