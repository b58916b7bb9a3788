"""The endpoints of a chaos run: one kind for each part of the promise, and one to which everything happens at once."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from django.db import connection

from cronicorn.runtime.clock import database_now
from tests.chaos.facts import LONGEST_CALL
from tests.chaos.target import Target
from tests.support.factories import make_endpoint, make_job, make_user

# Run-once endpoints come due at random from a little after the start to a little before the end of the faults.
LEAD = timedelta(seconds=5)


class Kind(Enum):
    """What happens to an endpoint."""

    GRID = "interval grid that nobody touches"
    RETRIED = "interval grid whose target fails, with retries"
    MIXED = "every change that people make"
    HINTED = "interval hints and run-now"
    TIMED = "one-shot hints, pauses and run-now"
    ONCE = "runs once; pauses, stops and run-now"


# Of ten endpoints.
SHARES = (*(Kind.GRID,) * 4, Kind.RETRIED, *(Kind.MIXED,) * 2, Kind.HINTED, Kind.TIMED, Kind.TIMED)


@dataclass(frozen=True)
class Population:
    """Who is who, when what runs once is due, and by whom run-now is pressed."""

    kinds: dict[UUID, Kind]
    once_at: dict[UUID, datetime]
    owner_id: UUID


def make_population(target: Target, count: int, *, seed: int, seconds: float) -> Population:
    """`count` endpoints of 1 to 5 s, some slow, some that want to be called at most once, and more that run once."""
    jobs = [make_job(make_user()) for _ in range(3)]
    chance = random.Random(seed)
    with connection.cursor() as cursor:
        now = database_now(cursor)
    kinds, slots = {}, {}
    for number in range(count + max(6, int(seconds / 4))):
        kind = SHARES[number % len(SHARES)] if number < count else Kind.ONCE
        label = f"e{number}-{kind.name.lower()}"
        slow = number % 6 == 5
        endpoint = make_endpoint(
            jobs[number % 3],
            name=label,
            url=target.url(
                label,
                milliseconds=int(LONGEST_CALL.total_seconds() * 1000) if slow else 0,
                failing=50 if kind is Kind.RETRIED else 0,
                host=f"127.0.0.{1 + number % 7}",
            ),
            on_worker_loss="skip" if number % 10 in (3, 9) and number % 20 < 10 else "retry",
            planner_mode="off",
            **_schedule(kind, number, now + LEAD + timedelta(seconds=chance.uniform(0, max(seconds - 3, 1)))),
        )
        kinds[endpoint.pk] = kind
        if endpoint.run_once_at is not None:
            slots[endpoint.pk] = endpoint.run_once_at
    return Population(kinds, slots, jobs[0].owner_id)


def _schedule(kind: Kind, number: int, once_at: datetime) -> dict[str, object]:
    ten = number // 10
    match kind:
        case Kind.ONCE:
            return {"run_once_at": once_at}
        case Kind.RETRIED:
            # The bound keeps the back-off short, so that there are slots enough.
            return {"baseline_interval_ms": 2_000 + 1_000 * (ten % 3), "retry_limit": 2, "recovery_check_ms": 10_000}
        case Kind.HINTED:
            # Hints make these faster, and those slower.
            return {"baseline_interval_ms": 600_000 if ten % 2 else 1_000}
        case Kind.TIMED:
            return {"baseline_interval_ms": 2_000 if ten % 3 == 0 else 600_000}
        case _:
            return {"baseline_interval_ms": 1_000 * (1 + number % 5)}
