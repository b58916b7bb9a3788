"""People who edit, hint, pause and run endpoints while faults are caused, and remember what they did and when.

A change counts if and only if its transaction was committed. Where the answer to the COMMIT was lost, a row of a
journal, written in the same transaction, tells.
"""

import heapq
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import Error, connection, transaction

from cronicorn.runtime.clock import database_now, monotonic_ns
from jobs import authoring, services
from jobs.errors import ConflictError, InvalidInputError
from jobs.models import Author, Endpoint, EndpointStatus
from tests.chaos.facts import Change, ChangeKind
from tests.chaos.population import Kind, Population

HABITS: dict[Kind, tuple[ChangeKind, ...]] = {
    Kind.GRID: (),
    Kind.RETRIED: (),
    Kind.MIXED: ("edit", "hint", "oneshot", "clear", "pause", "stop", "run", "reset"),
    Kind.HINTED: ("hint", "hint", "clear", "run"),
    Kind.TIMED: ("oneshot", "oneshot", "oneshot", "oneshot", "clear", "pause", "run"),
    Kind.ONCE: ("pause", "stop", "run"),
}
# Seconds between two changes of one endpoint, on average.
PERIODS = {Kind.MIXED: 4.0, Kind.HINTED: 9.0, Kind.TIMED: 3.5, Kind.ONCE: 7.0}
STOPPED_FOR = 0.4
# Most of what runs once is paused this long before its slot, in seconds, and stopped as long before the pause ends, so
# that the stop meets a claim that was planned under the pause.
PAUSED_AHEAD, STOPPED_AHEAD, SHARE_PAUSED = (0.1, 1.4), (0.0, 0.9), 0.7
RECONNECT_EVERY, RECONNECTS = 0.2, 300


def prepare_journal() -> None:
    """Makes the table of committed changes."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE chaos_changes (number bigint PRIMARY KEY)")


class Editors:
    """They are at work for as long as the block lasts; `settle` then lets everything run again."""

    def __init__(self, population: Population, *, seed: int) -> None:
        self._kinds = {key: kind for key, kind in population.kinds.items() if HABITS[kind]}
        self._by = population.owner_id
        self._once_at = population.once_at
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._numbers = itertools.count(1)
        self._thread = threading.Thread(target=self._work)
        self.changes: list[Change] = []
        self.done: Counter[str] = Counter()

    def __enter__(self) -> "Editors":
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def settle(self) -> None:
        """Ends stops and pauses, so that at the end every endpoint must have a plan."""
        connection.close()
        for endpoint_id in self._kinds:
            self._make("start", endpoint_id)
            self._make("resume", endpoint_id)

    def _work(self) -> None:
        """Goes from endpoint to endpoint as the time of each comes."""
        began = monotonic_ns() / 1e9
        queue: list[tuple[float, int, UUID, ChangeKind | None]] = []
        for number, (endpoint_id, kind) in enumerate(self._kinds.items()):
            due_at = self._once_at.get(endpoint_id)
            if due_at is not None and self._random.random() < SHARE_PAUSED:
                ahead = _seconds_to(due_at) - self._random.uniform(*PAUSED_AHEAD)
                heapq.heappush(queue, (began + ahead, number, endpoint_id, "pause"))
            else:
                heapq.heappush(queue, (began + self._random.random() * PERIODS[kind], number, endpoint_id, None))
        while queue and not self._stop.wait(max(queue[0][0] - monotonic_ns() / 1e9, 0)):
            _, number, endpoint_id, promised = heapq.heappop(queue)
            kind = self._kinds[endpoint_id]
            change = promised or self._random.choice(HABITS[kind])
            made = self._make(change, endpoint_id)
            pause = self._random.uniform(0.5, 1.5) * PERIODS[kind]
            following: ChangeKind | None = None
            if change == "stop" or (change == "start" and not made):
                pause, following = STOPPED_FOR, "start"
            elif kind is Kind.ONCE and change == "pause" and made and (until := self.changes[-1].until) is not None:
                pause, following = max(_seconds_to(until) - self._random.uniform(*STOPPED_AHEAD), 0), "stop"
            heapq.heappush(queue, (monotonic_ns() / 1e9 + pause, number, endpoint_id, following))
        connection.close()

    def _make(self, kind: ChangeKind, endpoint_id: UUID) -> bool:
        """Makes one change and remembers it with the bounds of its commit. Returns whether it was committed."""
        number, change = next(self._numbers), None
        acts: dict[ChangeKind, Callable[[UUID, datetime], tuple[Endpoint, dict[str, Any]]]] = {
            "edit": self._edit,
            "hint": self._hint,
            "oneshot": self._oneshot,
            "clear": self._clear,
            "pause": self._pause,
            "resume": self._resume,
            "stop": self._halt,
            "start": self._start,
            "run": self._run,
            "reset": self._reset,
        }
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("INSERT INTO chaos_changes VALUES (%s)", [number])
                before = database_now(cursor)
                endpoint, facts = acts[kind](endpoint_id, before)
                change = Change(endpoint_id, kind, before, before, endpoint.fence, **facts)
        except (ConflictError, InvalidInputError):
            self.done["refused"] += 1
            return False
        except Error:
            connection.close()
        after, committed = self._verify(number)
        if change is None or not committed:
            self.done["database away"] += 1
            return False
        self.changes.append(
            Change(**{name: getattr(change, name) for name in Change.__dataclass_fields__} | {"after": after})
        )
        self.done[kind] += 1
        return True

    def _verify(self, number: int) -> tuple[datetime, bool]:
        """Whether a change was committed, and a moment by which it was; waits for a database that is away.

        Writing the same number again waits for a transaction that is still ending, and is then refused by its row.
        """
        for _ in range(RECONNECTS):
            try:
                with connection.cursor() as cursor:
                    cursor.execute("INSERT INTO chaos_changes VALUES (%s) ON CONFLICT DO NOTHING", [number])
                    committed = cursor.rowcount == 0
                    return database_now(cursor), committed
            except Error:
                connection.close()
                threading.Event().wait(RECONNECT_EVERY)
        raise TimeoutError("The database did not come back.")

    def _edit(self, endpoint_id: UUID, _now: datetime) -> tuple[Endpoint, dict[str, Any]]:
        interval = self._random.choice([1000, 2000, 3000])
        endpoint = authoring.edit_endpoint(endpoint_id=endpoint_id, changes={"baseline_interval_ms": interval})
        return endpoint, {"at": endpoint.anchor_at, "interval": timedelta(milliseconds=interval)}

    def _hint(self, endpoint_id: UUID, _now: datetime) -> tuple[Endpoint, dict[str, Any]]:
        mixed = self._kinds[endpoint_id] is Kind.MIXED
        interval_ms = 1000 if mixed else self._random.choice([1000, 2000, 3000])
        endpoint = services.set_interval_hint(
            endpoint_id=endpoint_id,
            interval_ms=interval_ms,
            ttl_ms=4000 if mixed else 30_000,
            reason="chaos",
            author=Author.USER,
        )
        return endpoint, {
            "interval": timedelta(milliseconds=interval_ms),
            "until": endpoint.ai_hint_interval_expires_at,
        }

    def _oneshot(self, endpoint_id: UUID, _now: datetime) -> tuple[Endpoint, dict[str, Any]]:
        endpoint = services.set_oneshot_hint(
            endpoint_id=endpoint_id,
            next_run_in_ms=self._random.choice([0, 500, 1500]),
            ttl_ms=60_000,
            reason="chaos",
            author=Author.USER,
        )
        return endpoint, {"at": endpoint.ai_hint_next_run_at, "until": endpoint.ai_hint_next_run_expires_at}

    def _clear(self, endpoint_id: UUID, _now: datetime) -> tuple[Endpoint, dict[str, Any]]:
        return services.clear_hints(endpoint_id=endpoint_id, author=Author.USER), {}

    def _pause(self, endpoint_id: UUID, now: datetime) -> tuple[Endpoint, dict[str, Any]]:
        until = now + timedelta(seconds=self._random.choice([1.5, 3]))
        author = self._random.choice([Author.USER, Author.PLANNER])
        return services.pause(endpoint_id=endpoint_id, until=until, reason="chaos", author=author), {"until": until}

    def _resume(self, endpoint_id: UUID, _now: datetime) -> tuple[Endpoint, dict[str, Any]]:
        return services.resume(endpoint_id=endpoint_id, author=Author.USER), {}

    def _halt(self, endpoint_id: UUID, _now: datetime) -> tuple[Endpoint, dict[str, Any]]:
        return authoring.set_endpoint_status(endpoint_id=endpoint_id, status=EndpointStatus.PAUSED), {}

    def _start(self, endpoint_id: UUID, _now: datetime) -> tuple[Endpoint, dict[str, Any]]:
        return authoring.set_endpoint_status(endpoint_id=endpoint_id, status=EndpointStatus.ACTIVE), {}

    def _run(self, endpoint_id: UUID, _now: datetime) -> tuple[Endpoint, dict[str, Any]]:
        endpoint = services.run_now(endpoint_id=endpoint_id, by=self._by)
        return endpoint, {"at": endpoint.manual_run_at}

    def _reset(self, endpoint_id: UUID, _now: datetime) -> tuple[Endpoint, dict[str, Any]]:
        endpoint = services.reset_failures(endpoint_id=endpoint_id)
        return endpoint, {
            "at": endpoint.anchor_at,
            "interval": timedelta(milliseconds=endpoint.baseline_interval_ms or 0),
        }


def _seconds_to(instant: datetime) -> float:
    """Until a time that the database gave; its clock and this one are the same machine's."""
    return (instant - datetime.now(UTC)).total_seconds()
