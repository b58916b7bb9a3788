"""Causes faults at random, from a seed: kills, freezes, cut connections, restarts; and edits by people meanwhile."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import Error, connection

from jobs import authoring, services
from jobs.errors import ConflictError
from jobs.models import Author, Endpoint, EndpointStatus
from tests.chaos.arena import LEASE_SECONDS, Fleet, Postgres

FAULTS = ("kill", "freeze", "terminate", "restart-fast", "restart-immediate", "outage")
WEIGHTS = {"kill": 4, "freeze": 2, "terminate": 8, "restart-fast": 1, "restart-immediate": 1, "outage": 0}


class Injector:
    """`run` causes faults until its time is over. `pause` is the longest time between two of them, in seconds."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        postgres: Postgres,
        seed: int,
        kinds: Sequence[str],
        pause: float,
        outage: float,
    ) -> None:
        self._fleet = fleet
        self._postgres = postgres
        self._random = random.Random(seed)
        self._kinds = kinds
        self._pause = pause
        self._outage = outage
        self._never = threading.Event()
        self.done: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        """Causes faults for so many seconds; nothing stands still any more when it returns."""
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        weights = [WEIGHTS[kind] or 1 for kind in self._kinds]
        while datetime.now(UTC) < end:
            self._never.wait(self._random.uniform(0.2, 1.0) * self._pause)
            self._fleet.thaw()
            (kind,) = self._random.choices(self._kinds, weights)
            self._cause(kind)
        self._fleet.thaw(all_of_them=True)

    def _cause(self, kind: str) -> None:
        awake = self._fleet.awake
        match kind:
            case "kill":
                self._fleet.replace(self._random.choice(awake))
            case "freeze":
                if len(awake) < 2:
                    return
                self._fleet.freeze(self._random.choice(awake), LEASE_SECONDS + self._random.uniform(0.5, 3))
            case "terminate":
                self._postgres.terminate_backends(self._random.randint(1, 3))
            case "restart-fast":
                self._postgres.restart("fast", 0, self._never)
            case "restart-immediate":
                self._postgres.restart("immediate", 0, self._never)
            case "outage":
                self._postgres.restart("fast", self._outage, self._never)
        self.done[kind] += 1


class Editors:
    """People who edit, hint, pause and run some endpoints for as long as the block lasts."""

    def __init__(self, endpoints: Sequence[Endpoint], *, seed: int, pause: float = 0.3) -> None:
        self._ids = [endpoint.pk for endpoint in endpoints]
        self._by = endpoints[0].owner_id if endpoints else None
        self._random = random.Random(seed)
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.done: Counter[str] = Counter()

    def __enter__(self) -> "Editors":
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def settle(self) -> None:
        """Lets everything run again, so that at the end every endpoint must have a plan."""
        connection.close()
        for endpoint_id in self._ids:
            authoring.set_endpoint_status(endpoint_id=endpoint_id, status=EndpointStatus.ACTIVE)
            services.resume(endpoint_id=endpoint_id, author=Author.USER)

    def _work(self) -> None:
        while self._ids and not self._stop.wait(self._pause):
            endpoint_id = self._random.choice(self._ids)
            change = self._random.choice(self._changes())
            try:
                change(endpoint_id)
                self.done[change.__name__.strip("_")] += 1
            except ConflictError:
                self.done["refused"] += 1
            except Error:
                connection.close()
                self.done["database away"] += 1
        connection.close()

    def _changes(self) -> list[Callable[[UUID], object]]:
        return [
            self._edit,
            self._hint,
            self._oneshot,
            self._clear,
            self._pause_it,
            self._stop_it,
            self._run,
            self._reset,
        ]

    def _edit(self, endpoint_id: UUID) -> None:
        interval = self._random.choice([1000, 2000, 3000])
        authoring.edit_endpoint(endpoint_id=endpoint_id, changes={"baseline_interval_ms": interval})

    def _hint(self, endpoint_id: UUID) -> None:
        services.set_interval_hint(
            endpoint_id=endpoint_id, interval_ms=1000, ttl_ms=4000, reason="chaos", author=Author.USER
        )

    def _oneshot(self, endpoint_id: UUID) -> None:
        in_ms = self._random.choice([0, 500, 1500])
        services.set_oneshot_hint(
            endpoint_id=endpoint_id, next_run_in_ms=in_ms, ttl_ms=60_000, reason="chaos", author=Author.USER
        )

    def _clear(self, endpoint_id: UUID) -> None:
        services.clear_hints(endpoint_id=endpoint_id, author=Author.USER)

    def _pause_it(self, endpoint_id: UUID) -> None:
        until = datetime.now(UTC) + timedelta(seconds=self._random.choice([1, 3]))
        services.pause(endpoint_id=endpoint_id, until=until, reason="chaos", author=Author.USER)

    def _stop_it(self, endpoint_id: UUID) -> None:
        authoring.set_endpoint_status(endpoint_id=endpoint_id, status=EndpointStatus.PAUSED)
        self._stop.wait(0.4)
        authoring.set_endpoint_status(endpoint_id=endpoint_id, status=EndpointStatus.ACTIVE)

    def _run(self, endpoint_id: UUID) -> None:
        assert self._by is not None
        services.run_now(endpoint_id=endpoint_id, by=self._by)

    def _reset(self, endpoint_id: UUID) -> None:
        services.reset_failures(endpoint_id=endpoint_id)
