"""Each step of a simulation leaves the row that the real services, claims and settlements leave."""

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from jobs import authoring, services
from jobs.models import Author, Endpoint
from jobs.replan import replan
from scheduling.exchange.outcome import Outcome
from scheduling.ledger.claims import Claim, claim_due
from scheduling.ledger.settlement import settle
from scheduling.plan.facts import MODEL
from scheduling.simulation.engine import WORKER, SimulatedRun, Stage, simulate
from scheduling.simulation.scenario import (
    Change,
    ClearHints,
    Edit,
    EndpointSpec,
    OutcomeModel,
    Pause,
    ResetFailures,
    Resume,
    RunNow,
    Scenario,
    SetIntervalHint,
    SetOneShotHint,
)
from tests.chaos.clock import ShiftedClock, own_clock
from tests.scheduling.test_claim_equivalence import read_row
from tests.scheduling.test_settlement import FAILURE, result_of
from tests.support.factories import make_endpoint

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOURS = 2
LEASE = timedelta(hours=1)
FLAKY = OutcomeModel(duration_ms=(200, 90_000), pattern=(True, False, True, True, False, False, False, True))
BASELINES: dict[str, dict[str, Any]] = {
    "interval": {"baseline_interval_ms": 300_000},
    "interval with bounds and retries": {
        "baseline_interval_ms": 120_000,
        "min_interval_ms": 60_000,
        "max_interval_ms": 600_000,
        "recovery_check_ms": 480_000,
        "retry_limit": 2,
    },
    "cron": {"baseline_cron": "*/7 * * * *", "retry_limit": 1},
    "jitter": {"baseline_interval_ms": 180_000, "jitter_ms": 20_000},
    "from a start, with a back-off": {
        "baseline_interval_ms": 240_000,
        "starts_at": NOON - timedelta(minutes=7),
        "recovery_check_ms": 960_000,
    },
}


def changes(dice: Random, now: datetime) -> Change:
    """Something that a person or a planner might do now, and that the services allow."""
    who = dice.choice([None, MODEL])
    kinds: list[Callable[[], Change]] = [
        lambda: SetIntervalHint(
            dice.choice([5_000, 45_000, 900_000]), dice.choice([60_000, 1_800_000]), "busy", author_words=who
        ),
        lambda: SetIntervalHint(20_000, 600_000, "look", author="user"),
        lambda: SetOneShotHint(dice.choice([0, 30_000, 400_000]), 600_000, "look again", author_words=who),
        lambda: ClearHints(),
        lambda: ClearHints(oneshot=False),
        lambda: ClearHints(interval=False),
        lambda: Pause(now + timedelta(seconds=dice.choice([20, 300, 900])), "rest", "planner", who),
        lambda: Resume(),
        lambda: RunNow(),
        lambda: ResetFailures(),
        lambda: Edit({"baseline_interval_ms": dice.choice([120_000, 240_000])}),
        lambda: Edit({"retry_limit": dice.choice([0, 3])}),
    ]
    return dice.choice(kinds)()


def ask_service(endpoint_id: UUID, change: Change) -> None:
    """The same through the real service."""
    this: dict[str, Any] = {"endpoint_id": endpoint_id}
    match change:
        case SetIntervalHint(interval_ms=interval_ms, ttl_ms=ttl_ms, reason=reason, author=author, author_words=who):
            hint = {"interval_ms": interval_ms, "ttl_ms": ttl_ms, "reason": reason, "author_words": who}
            services.set_interval_hint(**this, **hint, author=Author(author))
        case SetOneShotHint(next_run_in_ms=in_ms, ttl_ms=ttl_ms, reason=reason, author_words=who):
            hint = {"next_run_in_ms": in_ms, "ttl_ms": ttl_ms, "reason": reason, "author_words": who}
            services.set_oneshot_hint(**this, **hint, author=Author.PLANNER)
        case ClearHints(interval=True, oneshot=True):
            services.clear_hints(**this, author=Author.PLANNER)
        case ClearHints(interval=interval):
            with services.changing(endpoint_id) as (endpoint, _):
                drop = services.drop_interval_hint if interval else services.drop_oneshot_hint
                drop(endpoint)
        case Pause(until=until, reason=reason, author_words=who):
            services.pause(**this, until=until, reason=reason, author=Author.PLANNER, author_words=who)
        case Resume():
            services.resume(**this, author=Author.PLANNER)
        case RunNow():
            services.run_now(**this, by=Endpoint.objects.get(pk=endpoint_id).owner_id)
        case ResetFailures():
            services.reset_failures(**this)
        case Edit(columns=columns):
            authoring.edit_endpoint(**this, changes=dict(columns))
        case _:
            raise AssertionError(f"{change} has no service")


class Mirror:
    """Does each step in the database too, at the same time, and holds the rows against each other."""

    def __init__(self, clock: ShiftedClock, endpoint: Endpoint, dice: Random) -> None:
        self.clock, self.endpoint_id, self.dice = clock, endpoint.pk, dice
        self.steps: list[str] = []
        self.claim: Claim | None = None

    def begin(self, stage: Stage) -> None:
        self.stage = stage
        for _ in range(40):
            stage.wake(NOON + timedelta(milliseconds=self.dice.randrange(HOURS * 3_600_000)))

    def started(self, run: SimulatedRun) -> None:
        self.clock.stand(run.started_at)
        (self.claim,) = claim_due(worker=WORKER, limit=10, lease=LEASE)
        assert (self.claim.slot_at, self.claim.due_at) == (run.slot_at, run.due_at)
        assert (self.claim.attempt, self.claim.source) == (run.attempt, run.source)
        self.compare(f"{run.source} started")

    def settled(self, run: SimulatedRun, outcome: Outcome) -> None:
        self.clock.stand(run.finished_at)
        assert self.claim is not None
        fields: dict[str, Any] = {} if outcome.ok else {**FAILURE, "wait_headers": outcome.wait_headers}
        result = replace(result_of(self.claim, **fields), started_at=run.started_at, finished_at=run.finished_at)
        settled = settle(worker=WORKER, results=[result])
        assert settled.accepted
        self.claim = None
        self.compare(f"settled, {outcome.ok=}")

    def woken(self) -> None:
        change = changes(self.dice, self.stage.now)
        self.clock.stand(self.stage.now)
        self.stage.change("a", change)
        ask_service(self.endpoint_id, change)
        during = "" if self.claim is None else " during a call"
        self.compare(f"{change}{during}")

    def compare(self, step: str) -> None:
        self.steps.append(step)
        assert asdict(self.stage.row("a")) == asdict(read_row(self.endpoint_id)), self.steps[-5:]


@pytest.mark.parametrize("retry_after", [None, "240"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("baseline", BASELINES)
def test_simulated_steps_leave_the_row_that_the_real_ones_leave(
    baseline: str, seed: int, retry_after: str | None
) -> None:
    columns = BASELINES[baseline]
    endpoint_id = UUID(int=seed + 1)
    with own_clock() as clock:
        clock.stand(NOON)
        anchor_at = columns.get("starts_at", NOON)
        endpoint = make_endpoint(id=endpoint_id, created_at=NOON, anchor_at=anchor_at, **columns)
        replan([endpoint.pk])
        mirror = Mirror(clock, endpoint, Random(f"{baseline} {seed}"))
        spec = EndpointSpec("a", endpoint_id, NOON, columns, FLAKY)
        simulate(
            Scenario("mirror", NOON, NOON + timedelta(hours=HOURS), (spec,), seed=seed), mirror.started, adviser=mirror
        )
    assert len(mirror.steps) > 70
    assert sum("started" in step for step in mirror.steps) > 10


def test_changes_of_the_test_are_all_that_a_scenario_knows() -> None:
    dice = Random(0)
    seen = {type(changes(dice, NOON)) for _ in range(300)}
    assert seen == {ClearHints, Edit, Pause, ResetFailures, Resume, RunNow, SetIntervalHint, SetOneShotHint}
