"""Slots that were never called: each is told of by the next run, once, with its cause."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from accounts.models import User
from jobs import authoring, services
from jobs.models import Author, Endpoint, EndpointStatus, JobStatus, Run
from jobs.owners import plan_reactivated
from jobs.replan import replan
from scheduling.ledger.claims import Claim, claim_due
from scheduling.ledger.leases import reap, release
from scheduling.ledger.settlement import settle
from tests.chaos.clock import ShiftedClock, own_clock
from tests.scheduling.test_claims import lose_lease
from tests.scheduling.test_settlement import FAILURE, result_of
from tests.support.factories import make_endpoint

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LEASE = timedelta(seconds=60)
INTERVAL: dict[str, Any] = {"baseline_interval_ms": 300_000}
CRON: dict[str, Any] = {"baseline_cron": "*/5 * * * *"}


def noon(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


class Day:
    """One endpoint, every five minutes from noon on, and the database's clock."""

    def __init__(self, clock: ShiftedClock, **fields: Any) -> None:
        self.clock = clock
        self.now(0)
        made = {"created_at": NOON, "anchor_at": NOON, "planner_mode": "off", "max_interval_ms": 3_600_000}
        self.endpoint = make_endpoint(**{**made, **fields})
        replan([self.endpoint.pk])
        self.this: dict[str, Any] = {"endpoint_id": self.endpoint.pk}

    def now(self, minutes: float) -> None:
        self.clock.stand(noon(minutes))

    def claim(self, minutes: float, *, ahead: float = 0) -> Claim:
        self.now(minutes)
        (claim,) = claim_due(worker="w1", limit=9, lease=LEASE, horizon=timedelta(minutes=ahead))
        return claim

    def settle(self, claim: Claim, minutes: float, *, ended: float | None = None, **fields: Any) -> None:
        self.now(minutes)
        ended_at = noon(minutes if ended is None else ended)
        result = replace(result_of(claim, **fields), started_at=max(claim.claimed_at, claim.due_at))
        assert settle(worker="w1", results=[replace(result, finished_at=ended_at)]).accepted

    def served(self, minutes: float, *, until: float | None = None) -> Claim:
        """A call from its slot on, until then."""
        claim = self.claim(minutes)
        self.settle(claim, minutes if until is None else until)
        return claim

    def told(self, minutes: float) -> tuple[int, str | None]:
        """What the run that is due then tells of; it is served, and so is the one after it, which tells of nothing."""
        claim = self.served(minutes)
        run = Run.objects.get(pk=claim.run_id)
        assert (run.coalesced_until is None) == (run.coalesced_slots == 0)
        assert run.coalesced_until in (None, run.scheduled_for)
        assert ("without a call" in run.decision["sentence"] or "folded" in run.decision["sentence"]) == (
            run.coalesced_slots > 0
        )
        return run.coalesced_slots, run.coalesced_cause


@pytest.fixture
def clock() -> Iterator[ShiftedClock]:
    with own_clock() as found:
        yield found


@pytest.fixture(params=[INTERVAL, CRON], ids=["interval", "cron"])
def day(request: pytest.FixtureRequest, clock: ShiftedClock) -> Day:
    return Day(clock, **request.param)


def test_slots_inside_a_long_call(day: Day) -> None:
    day.served(5, until=22)
    assert day.told(25) == (3, "long_call")
    assert day.told(30) == (0, None)


def test_slots_while_a_result_waited_for_the_database(day: Day) -> None:
    claim = day.claim(5)
    day.settle(claim, 22, ended=6)
    assert day.told(25) == (3, "result_waited")
    assert day.told(30) == (0, None)


def test_slots_inside_a_call_whose_result_waited_too_count_once(day: Day) -> None:
    claim = day.claim(5)
    day.settle(claim, 32, ended=17)
    assert day.told(35) == (5, "result_waited")
    assert "2 in a long call, 3 while a result waited" in Run.objects.latest("due_at").decision["sentence"]


def test_slots_inside_a_pause_that_ended(day: Day) -> None:
    day.served(5)
    services.pause(**day.this, until=noon(22), reason="", author=Author.USER)
    assert day.told(22 if day.endpoint.baseline_interval_ms else 25) == (3, "pause")
    assert day.told(25 if day.endpoint.baseline_interval_ms else 30) == (0, None)


def test_slots_inside_a_pause_that_was_lifted(day: Day) -> None:
    day.served(5)
    services.pause(**day.this, until=noon(600), reason="", author=Author.USER)
    day.now(17)
    services.resume(**day.this, author=Author.USER)
    assert day.told(20) == (2, "pause")
    assert day.told(25) == (0, None)


def test_slots_of_a_pause_that_was_moved_count_once(day: Day) -> None:
    day.served(5)
    for minutes, until in ((6, 600), (11, 300), (16, 21)):
        day.now(minutes)
        services.pause(**day.this, until=noon(until), reason="", author=Author.USER)
    assert day.told(21 if day.endpoint.baseline_interval_ms else 25) == (3, "pause")


def test_slots_while_the_lease_of_a_lost_worker_ran_on(day: Day) -> None:
    day.claim(5)
    day.now(17)
    lose_lease(day.endpoint)
    assert len(reap()) == 1
    repeat = day.claim(18)
    assert (repeat.attempt, Run.objects.get(pk=repeat.run_id).coalesced_slots) == (2, 0)
    day.settle(repeat, 22)
    assert day.told(25) == (3, "worker_lost")
    assert "1 in a long call, 2 after the loss of a worker" in Run.objects.latest("due_at").decision["sentence"]
    assert day.told(30) == (0, None)


def test_slots_while_no_worker_was_there(day: Day) -> None:
    assert day.told(22) == (3, "no_worker")
    assert day.told(25) == (0, None)


def test_slots_of_a_long_call_and_of_the_outage_after_it(day: Day) -> None:
    day.served(5, until=12)
    assert day.told(32) == (4, "no_worker")
    run = Run.objects.latest("due_at")
    assert (run.scheduled_for, run.coalesced_until) == (noon(30), noon(30))
    assert day.told(35) == (0, None)


def test_missed_row_tells_of_all_slots_before_it(clock: ShiftedClock) -> None:
    day = Day(clock, **INTERVAL, misfire_grace_ms=1_000)
    day.served(5, until=12)
    day.now(32)
    assert claim_due(worker="w1", limit=9, lease=LEASE) == []
    run = Run.objects.get(status="missed")
    assert (run.scheduled_for, run.coalesced_until) == (noon(15), noon(30))
    assert (run.coalesced_slots, run.coalesced_cause) == (4, "no_worker")
    assert day.told(35) == (0, None)


@pytest.mark.parametrize("ends", ["by itself", "by a word", "in a call"])
def test_slots_that_a_hint_replaced_are_none(day: Day, ends: str) -> None:
    day.served(5)
    hint = {"interval_ms": 1_200_000, "ttl_ms": 2_400_000, "reason": "", "author": Author.USER}
    services.set_interval_hint(**day.this, **hint)
    assert day.told(25) == (0, None)
    if ends == "by a word":
        day.now(37)
        services.clear_hints(**day.this, author=Author.USER)
        assert day.told(40) == (0, None)
    elif ends == "by itself":
        assert day.told(45) == (0, None)
        assert day.told(50) == (0, None)
    else:
        day.now(26)
        services.set_interval_hint(**day.this, **{**hint, "interval_ms": 600_000, "ttl_ms": 1_000_000})
        day.served(35, until=57)
        # The hint ended in the call, at 12:42:40.
        assert day.told(60) == (3, "long_call")


def test_slots_before_a_hint_came_in_the_call_count_and_those_after_do_not(day: Day) -> None:
    claim = day.claim(5)
    day.now(17)
    services.set_interval_hint(**day.this, interval_ms=1_500_000, ttl_ms=3_600_000, reason="", author=Author.USER)
    day.settle(claim, 28)
    assert Endpoint.objects.get().next_source == "ai-interval"
    assert day.told(30) == (2, "long_call")


def test_slots_that_a_back_off_passes_over_are_none(clock: ShiftedClock) -> None:
    day = Day(clock, **INTERVAL, recovery_check_ms=1_200_000)
    for minute in (5, 10):
        day.settle(day.claim(minute), minute + 0.1, **FAILURE)
    assert day.told(20) == (0, None)
    assert day.told(25) == (0, None)


def test_retry_that_ends_a_back_off_leaves_its_slots_uncounted(clock: ShiftedClock) -> None:
    day = Day(clock, **INTERVAL, recovery_check_ms=1_200_000, retry_limit=1)
    for minute in (5, 6, 10):
        day.settle(day.claim(minute), minute + 0.1, **FAILURE)
    retry = day.claim(11)
    assert retry.attempt == 2
    day.settle(retry, 22)
    # The back-off would have waited for 12:20; from then on the call is what kept the slots from being called.
    assert day.told(25) == (1, "long_call")


@pytest.mark.parametrize("answer", [{"retry-after": "720"}, {"ratelimit-remaining": "0", "ratelimit-reset": "720"}])
def test_slots_while_the_server_had_asked_to_wait(day: Day, answer: dict[str, str]) -> None:
    day.settle(day.claim(5), 5.1, **{**FAILURE, "status_code": 429, "wait_headers": tuple(answer.items())})
    day.now(11)
    replan([day.endpoint.pk])
    assert day.told(17.2) == (1, "server_asked")
    assert day.told(20) == (0, None)


def switch(day: Day, what: str, status: str) -> None:
    if what == "job":
        authoring.set_job_status(job_id=day.endpoint.job_id, status=JobStatus(status))
    else:
        authoring.set_endpoint_status(**day.this, status=EndpointStatus(status))


@pytest.mark.parametrize("what", ["endpoint", "job"])
def test_slots_inside_a_pause_without_end_that_was_lifted(day: Day, what: str) -> None:
    day.served(5, until=12)
    day.now(13)
    switch(day, what, "paused")
    for minutes in (22, 33):
        day.now(minutes)
        replan([day.endpoint.pk])
    day.now(41)
    switch(day, what, "active")
    # 12:10 in the call, 12:15 to 12:40 in the pause.
    assert day.told(45) == (7, "pause")
    assert "1 in a long call, 6 in a pause" in Run.objects.latest("due_at").decision["sentence"]
    assert day.told(50) == (0, None)


@pytest.mark.parametrize("planned_again", [False, True])
def test_of_causes_with_as_many_slots_the_upper_one_of_the_table_is_told(day: Day, planned_again: bool) -> None:
    day.served(5, until=12)
    services.pause(**day.this, until=noon(600), reason="", author=Author.USER)
    day.now(17)
    services.resume(**day.this, author=Author.USER)
    if planned_again:
        # This plan reads the counts from the database, which keeps them in an order of its own.
        replan([day.endpoint.pk])
    assert day.told(20) == (2, "long_call")
    assert "1 in a long call, 1 in a pause" in Run.objects.latest("due_at").decision["sentence"]


@pytest.mark.parametrize("what", ["endpoint", "job"])
def test_slots_before_a_pause_without_end_keep_their_cause(day: Day, what: str) -> None:
    day.served(5)
    day.now(17)
    switch(day, what, "paused")
    day.now(21)
    switch(day, what, "active")
    assert day.told(25) == (3, "no_worker")


def test_slots_of_a_call_that_outlives_a_pause_without_end(day: Day) -> None:
    claim = day.claim(5)
    day.now(11)
    switch(day, "endpoint", "paused")
    day.now(16)
    switch(day, "endpoint", "active")
    day.settle(claim, 22)
    assert day.told(25) == (3, "long_call")


def test_slots_of_a_schedule_that_was_edited_in_a_pause_without_end(day: Day) -> None:
    day.served(5)
    switch(day, "endpoint", "paused")
    day.now(22)
    authoring.edit_endpoint(**day.this, changes={"baseline_interval_ms": 420_000, "baseline_cron": None})
    day.now(37)
    switch(day, "endpoint", "active")
    # 12:10, 12:15 and 12:20 of the old schedule, 12:29 and 12:36 of the new one.
    assert day.told(43) == (5, "pause")
    assert day.told(50) == (0, None)


def test_slots_while_the_owner_was_deactivated_are_none_and_earlier_ones_stay_counted(day: Day) -> None:
    day.served(5, until=12)
    User.objects.filter(pk=day.endpoint.owner_id).update(is_active=False)
    day.now(22)
    replan([day.endpoint.pk])
    day.now(41)
    User.objects.filter(pk=day.endpoint.owner_id).update(is_active=True)
    assert plan_reactivated()
    assert day.told(45) == (1, "long_call")
    assert day.told(50) == (0, None)


def test_slots_of_the_old_schedule_that_passed_before_an_edit(day: Day) -> None:
    day.now(22)
    authoring.edit_endpoint(**day.this, changes={"baseline_interval_ms": 420_000, "baseline_cron": None})
    assert day.told(29) == (4, "no_worker")
    assert day.told(36) == (0, None)


def test_slots_of_a_long_call_with_an_edit_inside(day: Day) -> None:
    claim = day.claim(5)
    day.now(17)
    authoring.edit_endpoint(**day.this, changes={"baseline_interval_ms": 420_000, "baseline_cron": None})
    day.settle(claim, 32)
    # 12:10 and 12:15 of the old schedule, 12:24 and 12:31 of the new one.
    assert day.told(38) == (4, "long_call")


def test_run_that_a_person_asked_for_tells_of_what_passed_before_it(day: Day) -> None:
    day.served(5, until=22)
    services.run_now(**day.this, by=day.endpoint.owner_id)
    assert day.told(22) == (3, "long_call")
    assert Run.objects.latest("due_at").source == "manual"
    assert day.told(25) == (0, None)


def test_claim_that_is_given_back_takes_no_slot_from_the_count(day: Day) -> None:
    day.served(5, until=22)
    claim = day.claim(24, ahead=2)
    replan([day.endpoint.pk])
    release(worker="w1", claims=[claim])
    assert day.told(25) == (3, "long_call")


def test_plans_made_meanwhile_change_no_count(day: Day) -> None:
    claim = day.claim(5)
    for minutes in (7, 11, 13, 19):
        day.now(minutes)
        replan([day.endpoint.pk])
    day.settle(claim, 22)
    for minutes in (22.5, 23, 24):
        day.now(minutes)
        replan([day.endpoint.pk])
    assert day.told(25) == (3, "long_call")


def test_slot_whose_jitter_is_still_to_come_has_not_passed(clock: ShiftedClock) -> None:
    day = Day(clock, **INTERVAL, jitter_ms=240_000)
    due = Endpoint.objects.get().next_run_at
    assert due is not None
    late = (due - noon(5)) / timedelta(minutes=1)
    claim = day.claim(5 + late)
    day.settle(claim, 10 + late / 2)
    run = day.told(10 + late)
    assert run == (0, None)


def test_one_run_and_slots_out_of_the_window_count_nothing(clock: ShiftedClock) -> None:
    day = Day(clock, **INTERVAL, ends_at=noon(12))
    day.served(5, until=40)
    endpoint = Endpoint.objects.get()
    assert (endpoint.next_run_at, endpoint.uncalled) == (
        None,
        {**(endpoint.uncalled or {}), "counts": {"long_call": 1}},
    )
    once = Day(clock, run_once_at=noon(5))
    once.served(5, until=50)
    assert once.endpoint.pk not in set(Run.objects.filter(coalesced_slots__gt=0).values_list("endpoint", flat=True))


def test_endpoint_that_was_stopped_before_slots_were_counted_starts_afresh(day: Day) -> None:
    day.served(5)
    authoring.set_endpoint_status(**day.this, status=EndpointStatus.PAUSED)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE job_endpoints SET next_decision = next_decision - 'uncalled'")
    day.now(41)
    authoring.set_endpoint_status(**day.this, status=EndpointStatus.ACTIVE)
    assert day.told(45) == (0, None)


def test_slot_whose_jitter_is_taken_away_in_a_long_call_is_counted(clock: ShiftedClock) -> None:
    day = Day(clock, **INTERVAL, jitter_ms=280_000)
    due = Endpoint.objects.get().next_run_at
    assert due is not None
    late = (due - noon(5)) / timedelta(minutes=1)
    claim = day.claim(5 + late)
    day.now(10 + late / 2)
    authoring.edit_endpoint(**day.this, changes={"jitter_ms": 0})
    day.settle(claim, 17)
    assert day.told(20) == (2, "long_call")


ASKED: dict[str, Any] = {**FAILURE, "status_code": 503, "wait_headers": (("retry-after", "720"),)}


@pytest.fixture
def daily(clock: ShiftedClock) -> Day:
    """Daily at 12:07, asked at 12:05 to wait until 12:17."""
    day = Day(clock, baseline_cron="7 12 * * *")
    services.run_now(**day.this, by=day.endpoint.owner_id)
    day.settle(day.claim(5), 5, **ASKED)
    return day


def test_slot_that_a_server_put_off_is_not_counted_beside_itself(day: Day) -> None:
    day.settle(day.claim(5), 5, **ASKED)
    day.now(16)
    replan([day.endpoint.pk])
    assert day.told(17) == (1, "server_asked")
    assert Run.objects.latest("due_at").scheduled_for == noon(15)


@pytest.mark.parametrize("edited", [True, False])
def test_daily_slot_that_a_server_put_off_stands_for_no_other(daily: Day, edited: bool) -> None:
    daily.now(10)
    if edited:
        authoring.edit_endpoint(**daily.this, changes={"ends_at": noon(14_400)})
    else:
        replan([daily.endpoint.pk])
    assert daily.told(17) == (0, None)
    assert Run.objects.latest("due_at").scheduled_for == noon(7)


@pytest.mark.parametrize("how", ["url", "reset"])
def test_daily_slot_that_was_put_off_runs_at_once_where_the_wait_is_dropped(daily: Day, how: str) -> None:
    daily.now(10)
    if how == "url":
        authoring.edit_endpoint(**daily.this, changes={"url": "https://example.com/elsewhere"})
    else:
        services.reset_failures(**daily.this)
    assert daily.told(10) == (0, None)
    assert Run.objects.latest("due_at").scheduled_for == noon(7)


def test_slot_that_is_still_to_come_is_not_called_sooner_where_the_wait_is_dropped(day: Day) -> None:
    day.settle(day.claim(5), 5, **ASKED)
    day.now(11)
    authoring.edit_endpoint(**day.this, changes={"url": "https://example.com/elsewhere"})
    assert day.told(15) == (1, "server_asked")


def test_slots_after_a_hint_that_a_server_put_off_are_told_of_with_their_cause(day: Day) -> None:
    day.settle(day.claim(5), 5, **ASKED)
    day.now(6)
    services.set_oneshot_hint(**day.this, next_run_in_ms=60_000, ttl_ms=3_600_000, reason="", author=Author.PLANNER)
    day.served(17)
    assert day.told(20) == (2, "server_asked")
