"""Random sequences of claims, results, losses and edits against the real code, under a clock that stands still."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from accounts.models import User
from jobs import authoring, services
from jobs.errors import ConflictError
from jobs.models import Author, Endpoint, EndpointStatus, Job, Run, RunStatus
from scheduling.ledger.claims import Claim, claim_due
from scheduling.ledger.leases import reap, release, renew
from scheduling.ledger.settlement import settle
from scheduling.plan.decision import Source
from scheduling.plan.row import OVERDUE_SOURCES
from tests.chaos.clock import ShiftedClock, own_clock
from tests.scheduling.test_settlement import FAILURE, result_of
from tests.support.factories import make_endpoint, make_job, make_user

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LEASE = timedelta(seconds=60)
WORKERS = ("w1", "w2", "w3")
GRIDS = {"steady10": timedelta(seconds=10), "steady60": timedelta(seconds=60), "once": timedelta(seconds=10)}
# What a person may do, by its number in `person_changes_something`.
PAUSES, RESUMES, STOPS_OR_STARTS, EVERYTHING = 4, 5, 8, range(10)
MAY_CHANGE = {"edited": EVERYTHING, "cron": EVERYTHING, "single": (0, PAUSES, RESUMES, 6, STOPS_OR_STARTS)}
# The changes that leave a slot where it is.
LEAVE_SLOTS = {0, 1, 2, 3, 6}
SINGLE_AT = NOON + timedelta(seconds=90)
pytestmark = pytest.mark.django_db
picks = st.integers(0, 9)
steps = st.sampled_from([1, 2, 5, 13, 30, 61, 200])


@dataclass
class Held:
    """A claim in a worker's hands; the worker may not know that it lost it.

    `planned` is what the row said before it, slot, attempt and source; `changes` is how many had been made by then.
    """

    worker: str
    claim: Claim
    planned: tuple[datetime, int, str]
    changes: int


class Scheduling(RuleBasedStateMachine):
    """Three workers and a person, on six endpoints; nobody touches those in GRIDS."""

    clock: ShiftedClock

    @initialize()
    def begin(self) -> None:
        self.now = NOON
        self.clock.stand(NOON)
        self.held: list[Held] = []
        self.called: set[tuple[UUID, datetime, int]] = set()
        self.last_slots: dict[UUID, datetime] = {}
        self.changes: dict[UUID, list[int]] = defaultdict(list)
        job = make_job(make_user())
        made: dict[str, Any] = {"created_at": NOON, "anchor_at": NOON, "planner_mode": "off", "max_interval_ms": 60_000}
        # The same ids each time, so that what failed once fails again: retries are spread by the id.
        ids = [{"id": UUID(int=number)} for number in range(1, 7)]
        self.endpoints = {
            "steady10": make_endpoint(
                job, baseline_interval_ms=10_000, **ids[0], **{**made, "max_interval_ms": 10_000}
            ),
            "steady60": make_endpoint(job, baseline_interval_ms=60_000, **ids[1], **made),
            "once": make_endpoint(
                job, baseline_interval_ms=10_000, on_worker_loss="skip", **ids[2], **{**made, "max_interval_ms": 10_000}
            ),
            "edited": make_endpoint(job, baseline_interval_ms=20_000, retry_limit=2, **ids[3], **made),
            "cron": make_endpoint(job, baseline_cron="* * * * *", retry_limit=1, **ids[4], **made),
            "single": make_endpoint(job, run_once_at=SINGLE_AT, **ids[5], **made),
        }
        self.names = {endpoint.pk: name for name, endpoint in self.endpoints.items()}

    def teardown(self) -> None:
        if not hasattr(self, "endpoints"):
            return
        try:
            self.everything_goes_on_once_nothing_fails()
        finally:
            for model in (Run, Endpoint, Job, User):
                model._default_manager.all().delete()

    def everything_goes_on_once_nothing_fails(self) -> None:
        """Whatever happened, leases end, what was lost is repeated, nothing stays running, and what runs once did."""
        single = self.endpoints["single"].pk
        authoring.set_endpoint_status(endpoint_id=single, status=EndpointStatus.ACTIVE)
        services.resume(endpoint_id=single, author=Author.USER)
        self.time_passes(200)
        while reap():
            pass
        # A hint or a run-now may wait behind the slot that came first, and no more than these.
        for _ in range(4):
            for claim in claim_due(worker="w9", limit=100, lease=LEASE):
                settle(worker="w9", results=[result_of(claim)])
        assert not Run.objects.filter(status=RunStatus.RUNNING).exists()
        assert not Endpoint.objects.filter(lease_owner__isnull=False).exists()
        assert not Endpoint.objects.filter(next_run_at__lte=self.now).exists()
        assert Run.objects.filter(endpoint=single, scheduled_for=SINGLE_AT).exists()

    @rule(seconds=steps)
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.clock.stand(self.now)

    @rule(worker=st.sampled_from(WORKERS), limit=st.integers(1, 5), ahead=st.sampled_from([0, 1]))
    def claim(self, worker: str, limit: int, ahead: int) -> None:
        horizon = timedelta(seconds=ahead)
        plans = {
            endpoint.pk: (endpoint.next_slot_at, endpoint.next_attempt, endpoint.next_source)
            for endpoint in Endpoint.objects.all()
        }
        for claim in claim_due(worker=worker, limit=limit, lease=LEASE, horizon=horizon):
            assert claim.run_id is not None
            assert claim.due_at <= self.now + horizon
            call = (claim.endpoint_id, claim.slot_at, claim.attempt)
            assert call not in self.called
            self.called.add(call)
            made = len(self.changes[claim.endpoint_id])
            self.held.append(Held(worker, claim, plans[claim.endpoint_id], made))

    @rule(pick=picks, ok=st.booleans())
    def result_comes(self, pick: int, ok: bool) -> None:
        if not self.held:
            return
        held = self._one(pick)
        fields: dict[str, Any] = {} if ok else FAILURE
        before = Endpoint.objects.get(pk=held.claim.endpoint_id)
        settled = settle(worker=held.worker, results=[result_of(held.claim, **fields)])
        run = Run.objects.get(pk=held.claim.run_id)
        mine = before.lease_owner == held.worker and before.fence == held.claim.fence
        assert (held.claim.run_id in settled.accepted) is mine
        if mine:
            assert run.status == (RunStatus.SUCCESS if ok else RunStatus.FAILED)
        else:
            assert run.status == RunStatus.ABANDONED
            assert Endpoint.objects.values().get(pk=before.pk) == {
                field.attname: getattr(before, field.attname) for field in Endpoint._meta.concrete_fields
            }

    @rule(pick=picks)
    def result_comes_twice(self, pick: int) -> None:
        if not self.held:
            return
        held = self._one(pick)
        settle(worker=held.worker, results=[result_of(held.claim)])
        assert not settle(worker=held.worker, results=[result_of(held.claim, **FAILURE)]).accepted

    @rule(pick=picks)
    def claim_is_given_back(self, pick: int) -> None:
        if not self.held:
            return
        held = self._one(pick)
        claim = held.claim
        before = Endpoint.objects.get(pk=claim.endpoint_id)
        release(worker=held.worker, claims=[claim])
        after = Endpoint.objects.get(pk=claim.endpoint_id)
        mine = before.lease_owner == held.worker and before.fence == claim.fence
        assert Run.objects.filter(pk=claim.run_id).exists() is not mine
        if mine:
            self.called.discard((claim.endpoint_id, claim.slot_at, claim.attempt))
            if after.last_slot_at is None:
                self.last_slots.pop(after.pk, None)
            else:
                assert Run.objects.filter(endpoint=after, scheduled_for=after.last_slot_at).exists()
                self.last_slots[after.pk] = after.last_slot_at
            self._is_planned_as_before(held, after)

    def _is_planned_as_before(self, held: Held, after: Endpoint) -> None:
        """What was given back comes next again, unless somebody changed the endpoint so that something else does."""
        changes = self.changes[after.pk][held.changes :]
        planned, source = (after.next_slot_at, after.next_attempt, after.next_source), held.planned[2]
        if not LEAVE_SLOTS.issuperset(changes) or (changes and held.claim.due_at > self.now):
            return
        if source == Source.MANUAL:
            assert after.manual_run_at is not None
        elif changes and source in (*OVERDUE_SOURCES, Source.RETRY):
            # Planned anew during the claim: of slots that were folded the latest comes next. A press may serve it too.
            assert planned[:2] == (held.claim.slot_at, held.claim.attempt)
            assert planned[2] in (source, Source.MANUAL)
        if not changes and source in (*OVERDUE_SOURCES, Source.RETRY, Source.MANUAL):
            assert planned == held.planned
        if source == Source.AI_ONESHOT and not changes:
            ends_at = after.ai_hint_next_run_expires_at
            assert ends_at is not None
            assert after.next_run_at <= max(self.now, held.claim.due_at) or ends_at <= self.now

    @rule(worker=st.sampled_from(WORKERS))
    def leases_are_renewed(self, worker: str) -> None:
        mine = [held for held in self.held if held.worker == worker]
        renewal = renew(worker=worker, held=[(h.claim.endpoint_id, h.claim.fence) for h in mine], lease=LEASE)
        for endpoint in Endpoint.objects.filter(pk__in=[endpoint_id for endpoint_id, _ in renewal.kept]):
            assert (endpoint.lease_owner, endpoint.lease_until) == (worker, self.now + LEASE)

    @rule()
    def lost_workers_are_noticed(self) -> None:
        reap()

    @rule(name=st.sampled_from([*MAY_CHANGE]), change=st.sampled_from(EVERYTHING), seconds=steps)
    def person_changes_something(self, name: str, change: int, seconds: int) -> None:
        if change not in MAY_CHANGE[name]:
            return
        endpoint_id, ms = self.endpoints[name].pk, seconds * 1000
        changes: list[Callable[[], object]] = [
            lambda: authoring.edit_endpoint(endpoint_id=endpoint_id, changes={"url": f"https://example.com/{ms}"}),
            lambda: services.set_interval_hint(
                endpoint_id=endpoint_id, interval_ms=ms, ttl_ms=90_000, reason="", author=Author.USER
            ),
            lambda: services.set_oneshot_hint(
                endpoint_id=endpoint_id, next_run_in_ms=ms, ttl_ms=300_000, reason="", author=Author.PLANNER
            ),
            lambda: services.clear_hints(endpoint_id=endpoint_id, author=Author.USER),
            lambda: services.pause(
                endpoint_id=endpoint_id, until=self.now + timedelta(seconds=seconds), reason="", author=Author.USER
            ),
            lambda: services.resume(endpoint_id=endpoint_id, author=Author.USER),
            lambda: services.run_now(endpoint_id=endpoint_id, by=self.endpoints[name].owner_id),
            lambda: services.reset_failures(endpoint_id=endpoint_id),
            lambda: self._stop_or_resume(endpoint_id),
            lambda: authoring.edit_endpoint(
                endpoint_id=endpoint_id,
                changes={"baseline_interval_ms": min(ms, 60_000), "baseline_cron": None},
            ),
        ]
        try:
            changes[change]()
        except ConflictError:
            return
        self.changes[endpoint_id].append(change)

    def _stop_or_resume(self, endpoint_id: UUID) -> None:
        active = Endpoint.objects.get(pk=endpoint_id).status == EndpointStatus.ACTIVE
        status = EndpointStatus.PAUSED if active else EndpointStatus.ACTIVE
        authoring.set_endpoint_status(endpoint_id=endpoint_id, status=status)

    def _one(self, pick: int) -> Held:
        return self.held.pop(pick % len(self.held))

    @invariant()
    def lease_and_running_run_belong_together(self) -> None:
        if not hasattr(self, "endpoints"):
            return
        running = {(run.endpoint_id, run.worker, run.fence) for run in Run.objects.filter(status=RunStatus.RUNNING)}
        leased = Endpoint.objects.filter(lease_owner__isnull=False)
        assert running == {(endpoint.pk, endpoint.lease_owner, endpoint.fence) for endpoint in leased}
        assert len({endpoint for endpoint, *_ in running}) == len(running)

    @invariant()
    def slots_only_move_on(self) -> None:
        if not hasattr(self, "endpoints"):
            return
        for endpoint in Endpoint.objects.all():
            before = self.last_slots.get(endpoint.pk)
            if endpoint.last_slot_at is not None:
                assert before is None or endpoint.last_slot_at >= before
                self.last_slots[endpoint.pk] = endpoint.last_slot_at
            if endpoint.lease_owner is not None:
                continue
            done = endpoint.run_once_at is not None and Run.objects.filter(endpoint=endpoint).exists()
            if endpoint.status == EndpointStatus.ACTIVE and not done:
                assert endpoint.next_slot_at is not None
            if endpoint.next_slot_at is not None and endpoint.last_slot_at is not None:
                repeats = endpoint.next_source == "retry"
                assert repeats or endpoint.next_slot_at > endpoint.last_slot_at

    @invariant()
    def slot_counts_once_and_is_repeated_only_for_a_reason(self) -> None:
        if not hasattr(self, "endpoints"):
            return
        runs = {(run.endpoint_id, run.scheduled_for, run.attempt): run for run in Run.objects.all()}
        successes = Counter((run.endpoint_id, run.scheduled_for) for run in runs.values() if run.status == "success")
        assert all(count == 1 for count in successes.values())
        for (endpoint_id, slot, attempt), run in runs.items():
            if attempt > 1:
                assert runs[endpoint_id, slot, attempt - 1].status in (RunStatus.FAILED, RunStatus.ABANDONED)
                assert self.names[endpoint_id] != "once"
            assert run.status != RunStatus.MISSED

    @invariant()
    def no_slot_is_lost(self) -> None:
        if not hasattr(self, "endpoints"):
            return
        for name, interval in GRIDS.items():
            endpoint = Endpoint.objects.get(pk=self.endpoints[name].pk)
            if endpoint.paused_by is not None:
                continue
            covered = set()
            for run in Run.objects.filter(endpoint=endpoint):
                covered |= {run.scheduled_for - number * interval for number in range(run.coalesced_slots + 1)}
            slot = NOON + interval
            while endpoint.last_slot_at is not None and slot <= endpoint.last_slot_at:
                assert slot in covered, f"{name}: {slot}"
                slot += interval


@pytest.mark.timeout(180)
def test_no_sequence_of_events_breaks_the_promise() -> None:
    with own_clock() as clock:
        Scheduling.clock = clock
        run_state_machine_as_test(
            Scheduling,
            settings=settings(
                max_examples=15,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
                database=None,
                print_blob=False,
            ),
        )
