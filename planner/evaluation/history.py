"""The runs of a play, or of a record, as planners and reports read them. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256

from jobs.conditions import Observation
from scheduling.exchange.bodies import Unparsable, safe_json
from scheduling.exchange.jsonpath import MISSING, lookup, parse_path
from scheduling.exchange.outcome import Outcome
from scheduling.simulation.engine import SimulatedRun


@dataclass(frozen=True)
class PlayedRun:
    """A finished run. `body` None: no response came; `truncated`: only the beginning of it was kept.

    `headers` are those by which the server may ask to be left alone.
    """

    endpoint: str
    due_at: datetime
    started_at: datetime
    finished_at: datetime
    source: str
    ok: bool
    status_code: int | None
    error_kind: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    truncated: bool = False
    content_type: str | None = None
    verdicts: Mapping[str, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, run: SimulatedRun, outcome: Outcome) -> "PlayedRun":
        """A run of the simulation and what came of it."""
        return cls(
            endpoint=run.endpoint,
            due_at=run.due_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
            source=run.source.value,
            ok=run.ok,
            status_code=outcome.status_code,
            error_kind=outcome.error_kind.value if outcome.error_kind is not None else None,
            headers=outcome.wait_headers,
            body=outcome.body if outcome.status_code is not None else None,
            truncated=outcome.truncated,
            content_type=outcome.content_type,
        )

    @cached_property
    def duration_ms(self) -> float:
        """How long the call took."""
        return (self.finished_at - self.started_at) / timedelta(milliseconds=1)

    @cached_property
    def observation(self) -> Observation:
        """The run as the owner's rules see it."""
        document = MISSING if self.body is None or self.truncated else safe_json(self.body)
        return Observation(
            failed=not self.ok,
            status_code=self.status_code,
            duration_ms=self.duration_ms,
            document=MISSING if isinstance(document, Unparsable) else document,
            digest=sha256(self.body.encode()).hexdigest() if self.body is not None else None,
            verdicts=self.verdicts,
        )

    def value(self, path: str) -> object:
        """The value at a JSON path of the body, MISSING where there is none."""
        return lookup(self.observation.document, parse_path(path))

    def number(self, path: str) -> float:
        """The number at a JSON path of the body, 0 where there is none."""
        value = self.value(path)
        return float(value) if isinstance(value, int | float) else 0.0


class History:
    """Runs by endpoint, in the order in which they ended."""

    def __init__(self, runs: Iterable[PlayedRun] = ()) -> None:
        self._runs: dict[str, list[PlayedRun]] = {}
        for run in runs:
            self.add(run)

    def __iter__(self) -> Iterator[PlayedRun]:
        """All runs, endpoint by endpoint."""
        for runs in self._runs.values():
            yield from runs

    def add(self, run: PlayedRun) -> None:
        """Adds a run that ended after all others of its endpoint."""
        self._runs.setdefault(run.endpoint, []).append(run)

    def of(self, endpoint: str) -> list[PlayedRun]:
        """All runs of an endpoint, oldest first."""
        return self._runs.get(endpoint, [])

    def latest(self, endpoint: str, count: int, *, skip: int = 0) -> list[PlayedRun]:
        """The last runs of an endpoint, newest first."""
        runs = self.of(endpoint)
        end = max(len(runs) - skip, 0)
        return runs[max(end - count, 0) : end][::-1]
