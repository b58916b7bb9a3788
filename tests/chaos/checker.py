"""Holds a log of calls against the table of runs, by the promise of the engine (docs/architecture.md). Pure.

Each due slot of an active endpoint is started at least once, never early and never by two workers that hold a valid
lease; a repeat carries the same key and a higher attempt; calls of one endpoint do not overlap, unless the worker of
the first stood still; slots that passed while nobody could claim are folded into one run and counted.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

LOSSES_THAT_GIVE_UP = 3
# By how much a plan may lie behind the end: a scheduler that is told to stop claims nothing more.
END_SLACK = timedelta(seconds=3)


@dataclass(frozen=True)
class Call:
    """What the target saw; `finished_at` is None for a call that never ended."""

    label: str
    key: str
    slot: datetime
    attempt: int
    received_at: datetime
    finished_at: datetime | None
    answered: bool


@dataclass(frozen=True)
class RunFacts:
    """A row of `runs`; `planned_at` is when the decision behind it was taken."""

    endpoint_id: UUID
    slot: datetime
    due_at: datetime
    attempt: int
    source: str
    status: str
    error_kind: str | None
    claimed_at: datetime
    worker: str
    coalesced_slots: int
    planned_at: datetime


@dataclass(frozen=True)
class EndpointFacts:
    """A row of `job_endpoints` at the end. `steady` tells that nobody changed it, so that its grid is known."""

    id: UUID
    label: str
    steady: bool
    repeats: bool
    interval: timedelta
    anchor_at: datetime
    next_run_at: datetime | None
    lease_owner: str | None
    lease_until: datetime | None


@dataclass(frozen=True)
class Freeze:
    """A worker process that stood still."""

    pid: int
    began_at: datetime
    ended_at: datetime


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
    freezes: Sequence[Freeze],
    *,
    ended_at: datetime,
) -> Report:
    """Everything that can be said against the schedulers, after they ended at `ended_at`."""
    report = Report()
    by_label = {endpoint.label: endpoint for endpoint in endpoints}
    by_id: dict[UUID, list[RunFacts]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.claimed_at, run.attempt)):
        by_id[run.endpoint_id].append(run)
    calls_of: dict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.received_at):
        calls_of[call.label].append(call)
    for key, deliveries in _deliveries(calls).items():
        if len(deliveries) > 1:
            report.violations.append(f"the key {key} was used for {sorted(deliveries)}")
    for label in sorted(calls_of.keys() - by_label.keys()):
        report.violations.append(f"{label}: called, but no endpoint has that name")
    for endpoint in endpoints:
        own_runs, own_calls = by_id[endpoint.id], calls_of[endpoint.label]
        found = [
            *_wrong_calls(endpoint, own_calls, own_runs),
            *_overlaps(own_calls, own_runs, freezes),
            *_wrong_runs(endpoint, own_runs, own_calls),
            *_stuck(endpoint, ended_at),
        ]
        if endpoint.steady:
            found += _lost_slots(endpoint, own_runs, report.figures)
        report.violations += [f"{endpoint.label}: {text}" for text in found]
    report.figures.update(f"runs {run.status}" for run in runs)
    report.figures["calls"] = len(calls)
    report.figures["repeats"] = sum(call.attempt > 1 for call in calls)
    report.figures["slots folded"] = sum(run.coalesced_slots for run in runs)
    return report


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


def _wrong_runs(endpoint: EndpointFacts, runs: Sequence[RunFacts], calls: Sequence[Call]) -> Iterable[str]:
    """Runs that ended wrongly, successes without a call, repeats without a reason, slots that succeeded twice."""
    answered = {(call.slot, call.attempt) for call in calls if call.answered}
    statuses = {(run.slot, run.attempt): run.status for run in runs}
    for run in runs:
        at = f"attempt {run.attempt} of the slot {run.slot}"
        if run.status not in ("success", "abandoned"):
            yield f"{at} is {run.status} ({run.error_kind})"
        if run.status == "success" and (run.slot, run.attempt) not in answered:
            yield f"{at} is a success that the target never answered"
        if run.attempt > 1 and statuses.get((run.slot, run.attempt - 1)) != "abandoned":
            yield f"{at} repeats an attempt that was not lost"
        if run.claimed_at < run.planned_at:
            yield f"{at} was claimed before it was planned"
    for slot, count in Counter(run.slot for run in runs if run.status == "success").items():
        if count > 1:
            yield f"{count} results of the slot {slot} count"


def _stuck(endpoint: EndpointFacts, ended_at: datetime) -> Iterable[str]:
    """Endpoints that nothing would ever call again, or that should have been called before the end."""
    if endpoint.lease_owner is not None:
        yield f"is still held by {endpoint.lease_owner} until {endpoint.lease_until}"
    if endpoint.next_run_at is None:
        yield "has no plan"
    elif endpoint.next_run_at < ended_at - END_SLACK:
        yield f"has been due since {endpoint.next_run_at}, {ended_at - endpoint.next_run_at} before the end"


def _lost_slots(endpoint: EndpointFacts, runs: Sequence[RunFacts], figures: Counter[str]) -> Iterable[str]:
    """Slots of the grid that no run served or counted.

    Slots that pass while a run is in hand are no longer due: the next plan begins at the first slot after it was made.
    """
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
            planned_at = max(run.planned_at, served_until) if previous is not None else served_until
            expected = _grid_after(endpoint, planned_at)
            first = run.slot - run.coalesced_slots * endpoint.interval
            figures["slots passed in a run"] += max((expected - served_until) // endpoint.interval - 1, 0)
            if first != expected:
                yield f"after {served_until} came {first}, not {expected} (planned at {run.planned_at})"
            served_until = run.slot
        previous = run


def _grid_after(endpoint: EndpointFacts, after: datetime) -> datetime:
    return endpoint.anchor_at + ((after - endpoint.anchor_at) // endpoint.interval + 1) * endpoint.interval
