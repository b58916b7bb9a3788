"""Counts what a simulation did, run by run in constant memory, beside what the schedules alone ask for. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from scheduling.cron.cadence import parse_cadence
from scheduling.plan.backoff import stable_jitter
from scheduling.plan.interval import Interval
from scheduling.plan.row import PlanRow
from scheduling.simulation.scenario import EndpointSpec, Scenario

_TICK = timedelta(microseconds=1)
_MILLISECOND = timedelta(milliseconds=1)
_COUNT_LIMIT = 2**53


@dataclass(slots=True)
class EndpointTally:
    """What an endpoint's runs add up to. `longest_gap` lies between two starts and began at `longest_gap_from`."""

    name: str
    counted_from: datetime
    expected: int = 0
    runs: int = 0
    failed: int = 0
    folded: int = 0
    missed: int = 0
    by_source: dict[str, int] = field(default_factory=dict)
    lateness: Counter[timedelta] = field(default_factory=Counter)
    last_started_at: datetime | None = None
    longest_gap: timedelta | None = None
    longest_gap_from: datetime | None = None

    def add(self, source: str, due_at: datetime, started_at: datetime, *, ok: bool) -> None:
        """Counts a run."""
        self.runs += 1
        self.failed += not ok
        self.by_source[source] = self.by_source.get(source, 0) + 1
        self.lateness[started_at - due_at] += 1
        if self.last_started_at is not None:
            gap = started_at - self.last_started_at
            if self.longest_gap is None or gap > self.longest_gap:
                self.longest_gap, self.longest_gap_from = gap, self.last_started_at
        self.last_started_at = started_at


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """An endpoint's share: `expected` counts the slots of its own schedule, as if nothing else had ever spoken.

    `folded` counts slots that passed unclaimed and were served by a later run, `missed` those beyond their grace.
    """

    name: str
    expected: int
    runs: int
    failed: int
    folded: int
    missed: int
    by_source: dict[str, int]
    longest_gap_ms: int | None
    longest_gap_from: datetime | None
    latest_ms: int

    def to_json(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "name": self.name,
            "expected": self.expected,
            "runs": self.runs,
            "failed": self.failed,
            "folded": self.folded,
            "missed": self.missed,
            "by_source": self.by_source,
            "longest_gap_ms": self.longest_gap_ms,
            "longest_gap_from": None if self.longest_gap_from is None else self.longest_gap_from.isoformat(),
            "latest_ms": self.latest_ms,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What a simulation did. Lateness runs from due to started, in milliseconds; 0 where there were no runs."""

    scenario: str
    start: datetime
    end: datetime
    endpoints: tuple[EndpointReport, ...]
    by_source: dict[str, int]
    lateness_p50_ms: int
    lateness_p99_ms: int
    lateness_max_ms: int

    @property
    def runs(self) -> int:
        """How many runs were started."""
        return sum(endpoint.runs for endpoint in self.endpoints)

    @property
    def expected(self) -> int:
        """How many slots the schedules have."""
        return sum(endpoint.expected for endpoint in self.endpoints)

    @property
    def failed(self) -> int:
        """How many runs failed."""
        return sum(endpoint.failed for endpoint in self.endpoints)

    @property
    def folded(self) -> int:
        """How many slots were served by a later run."""
        return sum(endpoint.folded for endpoint in self.endpoints)

    @property
    def missed(self) -> int:
        """How many slots were written off."""
        return sum(endpoint.missed for endpoint in self.endpoints)

    @property
    def longest_gap(self) -> EndpointReport | None:
        """The endpoint that waited longest between two starts; None where none ran twice."""
        waited = [endpoint for endpoint in self.endpoints if endpoint.longest_gap_ms is not None]
        return max(waited, key=lambda endpoint: endpoint.longest_gap_ms or 0, default=None)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON: the same for the same scenario."""
        return {
            "scenario": self.scenario,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "runs": self.runs,
            "expected": self.expected,
            "failed": self.failed,
            "folded": self.folded,
            "missed": self.missed,
            "by_source": self.by_source,
            "lateness_ms": {"p50": self.lateness_p50_ms, "p99": self.lateness_p99_ms, "max": self.lateness_max_ms},
            "endpoints": [endpoint.to_json() for endpoint in self.endpoints],
        }


class Tally:
    """The counts of a simulation under way."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._endpoints: dict[str, tuple[EndpointTally, PlanRow]] = {}

    def watch(self, spec: EndpointSpec, row: PlanRow) -> EndpointTally:
        """A new tally for an endpoint in play, whose row is looked at when its schedule ends or changes."""
        tally = EndpointTally(spec.name, max(spec.created_at, self._scenario.start))
        self._endpoints[spec.name] = tally, row
        return tally

    def before_change(self, name: str, now: datetime) -> None:
        """Counts the slots of the schedule that may be about to change."""
        tally, row = self._endpoints[name]
        tally.expected += slots_between(row, tally.counted_from, now)
        tally.counted_from = now

    def report(self) -> Report:
        """The counts so far, the schedules counted to the end of the scenario."""
        by_source: Counter[str] = Counter()
        lateness: Counter[timedelta] = Counter()
        endpoints = []
        for name, (tally, _) in self._endpoints.items():
            self.before_change(name, self._scenario.end)
            by_source.update(tally.by_source)
            lateness.update(tally.lateness)
            endpoints.append(
                EndpointReport(
                    name=name,
                    expected=tally.expected,
                    runs=tally.runs,
                    failed=tally.failed,
                    folded=tally.folded,
                    missed=tally.missed,
                    by_source=dict(sorted(tally.by_source.items())),
                    longest_gap_ms=None if tally.longest_gap is None else tally.longest_gap // _MILLISECOND,
                    longest_gap_from=tally.longest_gap_from,
                    latest_ms=max(tally.lateness, default=timedelta(0)) // _MILLISECOND,
                )
            )
        return Report(
            scenario=self._scenario.name,
            start=self._scenario.start,
            end=self._scenario.end,
            endpoints=tuple(endpoints),
            by_source=dict(sorted(by_source.items())),
            lateness_p50_ms=_percentile(lateness, 50),
            lateness_p99_ms=_percentile(lateness, 99),
            lateness_max_ms=_percentile(lateness, 100),
        )


def slots_between(row: PlanRow, begin: datetime, end: datetime) -> int:
    """How many runs in [begin, end) the endpoint's own schedule asks for: slots in its window, started after jitter."""
    jitter = stable_jitter(row.id, row.jitter_ms)
    # Slots in (after, until]; a schedule starts strictly after its creation or anchor.
    after, until = begin - jitter - _TICK, end - jitter - _TICK
    if row.starts_at is not None:
        after = max(after, row.starts_at - _TICK)
    if row.ends_at is not None:
        until = min(until, row.ends_at - _TICK)
    if row.run_once_at is not None:
        return int(after < row.run_once_at <= until)
    if row.baseline_cron is not None:
        after = max(after, row.created_at)
        return parse_cadence(row.baseline_cron, row.timezone).count_between(after, until, limit=_COUNT_LIMIT)
    assert row.baseline_interval_ms is not None
    if row.starts_at is None or row.starts_at < row.anchor_at:
        after = max(after, row.anchor_at)
    grid = Interval.of(row.baseline_interval_ms, row.anchor_at, row.starts_at, row.timezone)
    return grid.count_between(after, until)


def _percentile(counts: Counter[timedelta], percent: int) -> int:
    """The smallest value, in whole milliseconds, that is not below `percent` of the values; 0 without values."""
    rank = -(-counts.total() * percent // 100)
    for value in sorted(counts):
        rank -= counts[value]
        if rank <= 0:
            return value // _MILLISECOND
    return 0
