"""Holds a log of calls against the table of runs, by the promise of the engine (docs/architecture.md). Pure.

Each due slot of an active endpoint is started at least once, never early and never by two workers that hold a valid
lease; a repeat carries the same key and a higher attempt; calls of one endpoint do not overlap, unless the worker of
the first stood still; slots that were not called, for whatever reason, are counted by the next run. What people
ask for is served in its time (`people`), each attempt that is lost or failed is made again (`attempts`), and a
scheduler that is told to stop loses and repeats nothing (`stops`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

from tests.chaos.attempts import LOSSES_THAT_GIVE_UP, lost_attempts, wrong_results, wrong_retries
from tests.chaos.facts import SLACK, Call, Change, EndpointFacts, Faults, Freeze, RunFacts, Window
from tests.chaos.holdups import closed, free_between, in_hand
from tests.chaos.people import (
    calls_in_pauses,
    calls_of_an_old_schedule,
    pauses_of_nobody,
    wrong_intervals,
    wrong_oneshots,
    wrong_presses,
)
from tests.chaos.stops import slots_passed_idly, slots_without_run, wrong_drains

# By how much a plan may lie behind the end: a scheduler that is told to stop claims nothing more.
END_SLACK = timedelta(seconds=3)


@dataclass
class Report:
    """What was found; no violation means that the promise was kept."""

    violations: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """The report for people, at most 50 violations in words."""
        found = [f"{name:28} {value:>8}" for name, value in sorted(self.figures.items())]
        found += [f"violations {len(self.violations):>26}"]
        return found + [f"  {violation}" for violation in self.violations[:50]]


def check(
    calls: Sequence[Call],
    runs: Sequence[RunFacts],
    endpoints: Sequence[EndpointFacts],
    changes: Sequence[Change],
    faults: Faults,
    *,
    ended_at: datetime,
) -> Report:
    """Everything that can be said against the schedulers, after they ended at `ended_at`.

    The changes of one endpoint stand in the order in which they were made.
    """
    report = Report()
    by_label = {endpoint.label: endpoint for endpoint in endpoints}
    by_id: dict[UUID, list[RunFacts]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.fence):
        by_id[run.endpoint_id].append(run)
    calls_of: dict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.received_at):
        calls_of[call.label].append(call)
    changes_of: dict[UUID, list[Change]] = defaultdict(list)
    for change in changes:
        changes_of[change.endpoint_id].append(change)
    for key, deliveries in _deliveries(calls).items():
        if len(deliveries) > 1:
            report.violations.append(f"the key {key} was used for {sorted(deliveries)}")
    for label in sorted(calls_of.keys() - by_label.keys()):
        report.violations.append(f"{label}: called, but no endpoint has that name")
    for endpoint in endpoints:
        own = by_id[endpoint.id], calls_of[endpoint.label], changes_of[endpoint.id]
        found = _against(endpoint, *own, faults, ended_at)
        report.violations += [f"{endpoint.label}: {text}" for text in found]
    report.figures.update(f"runs {run.status}" for run in runs)
    report.figures.update(f"due by {run.source}" for run in runs)
    report.figures["calls"] = len(calls)
    report.figures["repeats"] = sum(call.attempt > 1 for call in calls)
    for run in runs:
        report.figures[f"slots not called: {run.coalesced_cause}"] += run.coalesced_slots
    del report.figures["slots not called: None"]
    return report


def _against(
    endpoint: EndpointFacts,
    runs: Sequence[RunFacts],
    calls: Sequence[Call],
    changes: Sequence[Change],
    faults: Faults,
    ended_at: datetime,
) -> Iterable[str]:
    """What is wrong with one endpoint; its runs are in the order of their fences."""
    busy = [*faults.windows, *map(in_hand, runs)]
    held = [*busy, *closed(changes, ended_at)]
    yield from _wrong_calls(endpoint, calls, runs)
    yield from _late_calls(calls, runs, [*faults.windows, *closed(changes, ended_at)])
    yield from _overlaps(calls, runs, faults.freezes)
    yield from wrong_results(endpoint, runs, calls)
    yield from lost_attempts(endpoint, runs, changes, held, ended_at)
    yield from wrong_presses(runs, changes, busy, ended_at)
    yield from wrong_oneshots(runs, changes, held, ended_at)
    yield from wrong_intervals(runs, changes, held, ended_at)
    yield from calls_in_pauses(runs, calls, changes, faults, ended_at)
    yield from pauses_of_nobody(runs, changes)
    yield from wrong_drains(runs, faults)
    yield from slots_without_run(endpoint, runs)
    yield from calls_of_an_old_schedule(runs, calls, changes, faults, ended_at)
    yield from _counts_without_cause(runs)
    yield from _stuck(endpoint, runs, ended_at)
    if endpoint.retry_limit:
        yield from wrong_retries(endpoint, runs, held, ended_at)
    if endpoint.once_at is not None:
        yield from _wrong_once(endpoint.once_at, runs, held, ended_at)
    if endpoint.steady:
        yield from _lost_slots(endpoint, runs, faults.windows)


def _deliveries(calls: Sequence[Call]) -> dict[str, set[tuple[str, datetime]]]:
    found: dict[str, set[tuple[str, datetime]]] = defaultdict(set)
    for call in calls:
        found[call.key].add((call.label, call.slot))
    return found


def _wrong_calls(endpoint: EndpointFacts, calls: Sequence[Call], runs: Sequence[RunFacts]) -> Iterable[str]:
    """Calls without a run, before their time, twice, or under different keys."""
    known = {(run.slot, run.attempt): run for run in runs}
    for (slot, attempt), count in Counter((call.slot, call.attempt) for call in calls).items():
        if count > 1:
            yield f"attempt {attempt} of the slot {slot} was called {count} times"
    if not endpoint.repeats:
        for slot, count in Counter(call.slot for call in calls).items():
            if count > 1:
                yield f"the slot {slot} was called {count} times, although at most once was asked for"
    for slot in {call.slot for call in calls}:
        if len({call.key for call in calls if call.slot == slot}) > 1:
            yield f"the slot {slot} was called with different keys"
    for call in calls:
        run = known.get((call.slot, call.attempt))
        if run is None:
            yield f"attempt {call.attempt} of the slot {call.slot} was called and has no run"
        elif call.received_at < run.due_at:
            yield f"the slot {call.slot} was called {run.due_at - call.received_at} early"


def _overlaps(calls: Sequence[Call], runs: Sequence[RunFacts], freezes: Sequence[Freeze]) -> Iterable[str]:
    """Calls that began while another was under way, unless the worker of that one stood still meanwhile."""
    workers = {(run.slot, run.attempt): run.worker for run in runs}
    for first, second in pairwise(calls):
        if first.finished_at is not None and first.finished_at <= second.received_at:
            continue
        worker = workers.get((first.slot, first.attempt), "")
        frozen = any(
            f"-{freeze.pid}-" in worker
            and freeze.began_at <= second.received_at
            and freeze.ended_at >= first.received_at
            for freeze in freezes
        )
        if not frozen:
            yield f"the slots {first.slot} and {second.slot} overlap by {first.finished_at} > {second.received_at}"


def _late_calls(calls: Sequence[Call], runs: Sequence[RunFacts], held: Sequence[Window]) -> Iterable[str]:
    """Calls that came long after they were due, although no fault, no pause and no other call held them up."""
    known = {(run.slot, run.attempt): run for run in runs}
    for call in calls:
        run = known.get((call.slot, call.attempt))
        if run is None or run.begun_at - run.due_at <= SLACK:
            continue
        others = [in_hand(other) for other in runs if other.fence != run.fence]
        free = free_between(run.due_at, run.begun_at, [*held, *others])
        if free > SLACK:
            yield f"the slot {call.slot} was due at {run.due_at} and called {free} late, with nothing in its way"


def _stuck(endpoint: EndpointFacts, runs: Sequence[RunFacts], ended_at: datetime) -> Iterable[str]:
    """Endpoints that nothing would ever call again, or that should have been called before the end."""
    if endpoint.lease_owner is not None:
        yield f"is still held by {endpoint.lease_owner} until {endpoint.lease_until}"
    if endpoint.next_run_at is None:
        if endpoint.once_at is None or not runs:
            yield "has no plan"
    elif endpoint.next_run_at < ended_at - END_SLACK:
        yield f"has been due since {endpoint.next_run_at}, {ended_at - endpoint.next_run_at} before the end"


def _wrong_once(
    once_at: datetime, runs: Sequence[RunFacts], held: Sequence[Window], ended_at: datetime
) -> Iterable[str]:
    """Slots beside the one that was asked for, other than by hand, and the one if it never ran.

    A press of run-now serves it where a pause held it back.
    """
    by_hand = {run.slot for run in runs if run.source == "manual"}
    slots = {run.slot for run in runs}
    for slot in sorted(slots - by_hand - {once_at}):
        yield f"runs once, at {once_at}, and ran for {slot}"
    if once_at not in slots:
        free = free_between(once_at, ended_at, held)
        if free > SLACK:
            yield f"runs once, at {once_at}, and never did, with {free} in which it could"


def _counts_without_cause(runs: Sequence[RunFacts]) -> Iterable[str]:
    for run in runs:
        if (run.coalesced_slots > 0) != (run.coalesced_cause is not None):
            yield f"the run of {run.slot} counts {run.coalesced_slots} slots, for the cause {run.coalesced_cause}"


def _lost_slots(endpoint: EndpointFacts, runs: Sequence[RunFacts], windows: Sequence[Window]) -> Iterable[str]:
    """Slots of the grid that no run served or counted, or that two did."""
    if not runs:
        yield "never ran"
        return
    losses, served_until = 0, endpoint.anchor_at
    previous: RunFacts | None = None
    for run in runs:
        repeated = previous is not None and run.slot == previous.slot
        if previous is not None:
            losses = losses + 1 if previous.error_kind == "worker_lost" else 0
            lost = previous.status == "abandoned"
            given_up = losses > 0 and losses % LOSSES_THAT_GIVE_UP == 0
            if lost and endpoint.repeats and not repeated and not given_up:
                yield f"the slot {previous.slot} was lost with {previous.worker} and not repeated"
            if repeated and run.attempt != previous.attempt + 1:
                yield f"the slot {run.slot} went from attempt {previous.attempt} to {run.attempt}"
        if not repeated:
            expected = _grid_after(endpoint, served_until)
            first = run.slot - run.coalesced_slots * endpoint.interval
            if first != expected:
                yield f"after {served_until} came {first}, not {expected} (planned at {run.planned_at})"
            if previous is not None:
                yield from slots_passed_idly(endpoint, previous, run, windows)
            served_until = run.slot
        previous = run


def _grid_after(endpoint: EndpointFacts, after: datetime) -> datetime:
    return endpoint.anchor_at + ((after - endpoint.anchor_at) // endpoint.interval + 1) * endpoint.interval
