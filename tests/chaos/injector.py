"""Causes faults at random, from a seed: kills, stops, freezes, cut connections, restarts. Remembers when."""

import random
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tests.chaos.arena import LEASE_SECONDS, Fleet, Postgres
from tests.chaos.facts import Faults, Window

FAULTS = ("kill", "term", "freeze", "terminate", "restart-fast", "restart-immediate", "outage")
# How long schedulers may need after a fault: to connect again, and to start.
CONNECTING, RECOVERING, STARTING = timedelta(seconds=1), timedelta(seconds=3), timedelta(seconds=10)
# Longer than from one claim to the next.
CLAIMING_S = 0.4
WEIGHTS = {"kill": 4, "term": 6, "freeze": 2, "terminate": 8, "restart-fast": 1, "restart-immediate": 1, "outage": 0}


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
        self._windows: list[Window] = []
        self.done: Counter[str] = Counter()

    @property
    def faults(self) -> Faults:
        """What was done so far."""
        return Faults(tuple(self._fleet.freezes), tuple(self._windows), self._fleet.terms)

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
        awake, began_at = self._fleet.awake, datetime.now(UTC)
        pause: timedelta | None = CONNECTING
        match kind:
            case "kill":
                self._fleet.replace(self._random.choice(awake))
                # While another scheduler is up, a kill holds up only what the killed one had in hand.
                pause = STARTING if len(self._fleet.settled(STARTING)) == 0 else None
            case "term":
                settled = self._fleet.settled(STARTING)
                if len(settled) < 2:
                    return
                # Long enough for each scheduler to be in the middle of a claim, which the signal then finds there.
                with self._postgres.held_up_claims():
                    self._never.wait(CLAIMING_S)
                    self._fleet.retire(self._random.choice(settled))
                pause = None
            case "freeze":
                if len(awake) < 2:
                    return
                self._fleet.freeze(self._random.choice(awake), LEASE_SECONDS + self._random.uniform(0.5, 3))
                pause = None
            case "terminate":
                self._postgres.terminate_backends(self._random.randint(1, 3))
            case "restart-fast":
                pause = RECOVERING
                self._postgres.restart("fast", 0, self._never)
            case "restart-immediate":
                pause = RECOVERING
                self._postgres.restart("immediate", 0, self._never)
            case "outage":
                pause = RECOVERING
                self._postgres.restart("fast", self._outage, self._never)
        if pause is not None:
            self._windows.append(Window(began_at, datetime.now(UTC) + pause))
        self.done[kind] += 1
