"""Which endpoints a pass of the model takes, on a real database: all that deserve it, fairly, and each once."""

import json
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection

from accounts.models import User
from jobs.models import Author, Endpoint, Job, RunResponse
from planner.attention import discovery
from planner.attention.discovery import candidates, lease, release, remembered_numbers
from planner.attention.numbers import from_json, to_json, usual_numbers
from planner.attention.policy import Candidate, LastSession, Trigger, body_shape, trigger_of
from planner.models import AnalysisSession, Backend, SessionStatus
from tests.planner.scenes import ran, utc_now
from tests.support.factories import make_endpoint, make_job, make_user

pytestmark = pytest.mark.django_db

BODY = '{"queue_depth": 10}'
HOUR = timedelta(hours=1)


def fleet(count: int, *, job: Job | None = None, **fields: Any) -> list[Endpoint]:
    """Endpoints of one job that ran just now, without a plan."""
    job = job or make_job()
    values = {"baseline_interval_ms": 60_000, "last_run_at": utc_now(), "url": "https://example.com/", **fields}
    return Endpoint.objects.bulk_create(
        Endpoint(pk=uuid4(), job=job, owner_id=job.owner_id, name=f"e{number}", host="example.com", **values)
        for number in range(count)
    )


def looked_at(
    endpoints: Sequence[Endpoint], *, ago: timedelta = 2 * HOUR, again_in: timedelta = HOUR, **fields: Any
) -> None:
    """A completed analysis of each, `ago`; due again `again_in` from now."""
    values = {"status": SessionStatus.COMPLETED, "backend": Backend.OPENAI, "trigger": "due", **fields}
    AnalysisSession.objects.bulk_create(
        AnalysisSession(
            endpoint=endpoint,
            owner_id=endpoint.owner_id,
            analyzed_at=utc_now() - ago,
            next_analysis_at=utc_now() + again_in,
            **values,
        )
        for endpoint in endpoints
    )
    Endpoint.objects.filter(pk__in=[endpoint.pk for endpoint in endpoints]).update(
        next_analysis_at=utc_now() + again_in
    )


def answered(endpoint: Endpoint, body: str) -> None:
    """A response, and nothing else that a run leaves."""
    RunResponse.objects.create(run_id=endpoint.pk, endpoint=endpoint, received_at=utc_now(), body=body)


def found() -> list[UUID]:
    return [candidate.endpoint_id for candidate in candidates(utc_now())]


def triggers(at: datetime | None = None) -> list[Trigger | None]:
    at = at or utc_now()
    return [trigger_of(candidate, at) for candidate in candidates(at)]


def test_the_statement_and_the_policy_agree_on_every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    at = utc_now()
    job = make_job()
    states = list(
        product(
            (None, timedelta(minutes=4), timedelta(minutes=6), timedelta(hours=30)),  # since the last look
            (0, 2),  # failures at the last look
            (0, 1, 3, 4),  # failures now
            (None, -HOUR, HOUR),  # due, on the endpoint
            (-HOUR, HOUR),  # due, as the session noted
            (None, timedelta(minutes=3), timedelta(minutes=15), -HOUR),  # the pause ends
            (True, False),  # has run since
            (0, 4),  # other looks in the hour
        )
    )
    endpoints, sessions, expected = [], [], {}
    for number, (since, before, failures, due, noted, pause, has_run, looks) in enumerate(states):
        looked = at - since if since is not None else None
        endpoint = Endpoint(
            pk=UUID(int=number + 1),
            job=job,
            owner_id=job.owner_id,
            name=f"e{number}",
            url="https://example.com/",
            host="example.com",
            baseline_interval_ms=60_000,
            failure_count=failures,
            next_analysis_at=at + due if due is not None else None,
            last_run_at=at if has_run else at - timedelta(days=9),
            **({"paused_until": at + pause, "paused_by": Author.PLANNER} if pause is not None else {}),
        )
        endpoints.append(endpoint)
        times = [] if looked is None else [looked, *(looked - timedelta(seconds=n + 1) for n in range(looks))]
        sessions += [
            AnalysisSession(
                endpoint=endpoint,
                owner_id=job.owner_id,
                trigger="due",
                status="completed",
                backend="openai",
                analyzed_at=time,
                endpoint_failure_count=before if time == looked else 77,
                next_analysis_at=at + noted,
            )
            for time in times
        ]
        candidate = Candidate(
            endpoint_id=endpoint.pk,
            owner_id=job.owner_id,
            failure_count=failures,
            next_analysis_at=endpoint.next_analysis_at,
            last=LastSession(looked, before, None, {}, at + noted) if looked is not None else None,
            body=None,
            pause_ends_at=endpoint.paused_until,
            tokens_left=1,
            ran_since=has_run,
            looks_this_hour=sum(time > at - HOUR for time in times),
        )
        expected[endpoint.pk] = trigger_of(candidate, at)
    Endpoint.objects.bulk_create(endpoints)
    AnalysisSession.objects.bulk_create(sessions)
    for name in ("MOST_OF_A_JOB", "MOST_OF_AN_OWNER", "MOST_IN_A_PASS"):
        monkeypatch.setattr(discovery, name, 10_000)
    monkeypatch.setattr(discovery, "USUAL_TOKENS", 0)
    seen = {candidate.endpoint_id: trigger_of(candidate, at) for candidate in candidates(at)}
    assert seen == {key: trigger for key, trigger in expected.items() if trigger is not None}
    assert {*expected.values()} >= {Trigger.FAILURES_ROSE, Trigger.RECOVERED, Trigger.PAUSE_ENDS, Trigger.DUE, None}


def test_an_endpoint_that_ran_since_its_last_look_is_seen_however_long_ago() -> None:
    (weekly,) = fleet(1, last_run_at=utc_now() - timedelta(days=40))
    looked_at([weekly], ago=timedelta(days=47), again_in=-timedelta(days=46))
    (new,) = fleet(1, last_run_at=utc_now() - timedelta(days=20))
    fleet(1, last_run_at=None)
    assert {*found()} == {weekly.pk, new.pk}
    looked_at([weekly, new], ago=timedelta(days=3), again_in=-HOUR)
    assert found() == []


def test_an_endpoint_that_rests_under_the_planners_pause_is_seen_once_before_its_end() -> None:
    ends = utc_now() + timedelta(minutes=8)
    (resting,) = fleet(1, last_run_at=utc_now() - timedelta(days=1), paused_by=Author.PLANNER, paused_until=ends)
    (by_a_person,) = fleet(1, paused_by=Author.USER, paused_until=ends)
    looked_at([resting, by_a_person], ago=timedelta(hours=5), again_in=-HOUR)
    assert triggers() == [Trigger.PAUSE_ENDS]
    assert triggers(ends - timedelta(minutes=11)) == []
    looked_at([resting], ago=timedelta(0), again_in=-HOUR)
    assert triggers(ends - timedelta(minutes=1)) == []


@pytest.mark.parametrize(("held_for", "is_seen"), [(timedelta(minutes=59), True), (timedelta(hours=2), False)])
def test_an_endpoint_held_for_long_by_a_person_costs_no_analyses(held_for: timedelta, is_seen: bool) -> None:
    (endpoint,) = fleet(1, planner_hold_until=utc_now() + held_for, failure_count=3)
    looked_at([endpoint])
    assert found() == ([endpoint.pk] if is_seen else [])


def test_an_interrupted_analysis_is_made_up_for_though_the_endpoint_is_not_due() -> None:
    (endpoint,) = fleet(1, failure_count=3)
    looked_at([endpoint], ago=timedelta(minutes=11), endpoint_failure_count=3, status=SessionStatus.FAILED)
    assert triggers() == []
    AnalysisSession.objects.update(next_analysis_at=utc_now() - timedelta(minutes=1))
    assert triggers() == [Trigger.DUE]


def test_a_session_of_the_rules_is_no_look_by_the_model() -> None:
    (endpoint,) = fleet(1)
    looked_at([endpoint], backend=Backend.RULES)
    assert triggers() == [Trigger.NEVER_ANALYSED]


def test_a_storm_takes_its_own_places_and_nobody_elses() -> None:
    storm = make_job()
    looked_at(fleet(400, job=storm, failure_count=9))
    waiting = fleet(5, job=storm)
    looked_at(waiting, again_in=-HOUR)
    fleet(60, job=make_job(storm.owner))
    other = fleet(1)
    looked_at(other, again_in=-HOUR)
    order = candidates(utc_now())
    jobs = Counter(candidate.job_id for candidate in order)
    assert jobs[storm.pk] == 10
    assert sum(jobs.values()) == 21
    assert other[0].pk in [candidate.endpoint_id for candidate in order[:2]]
    assert {endpoint.pk for endpoint in waiting} <= {candidate.endpoint_id for candidate in order}


def test_where_a_pass_has_few_places_the_owners_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MOST_IN_A_PASS", 4)
    looked_at(fleet(20, failure_count=9))
    due = [fleet(1)[0] for _ in range(3)]
    looked_at(due, again_in=-HOUR)
    assert {endpoint.pk for endpoint in due} < {*found()}


def test_an_owner_with_many_jobs_has_so_many_places_and_those_looked_at_longest_ago_come_first() -> None:
    owner = make_user()
    jobs = [make_job(owner) for _ in range(12)]
    endpoints = [fleet(10, job=job, failure_count=1) for job in jobs]
    for number, job_endpoints in enumerate(endpoints):
        for place, endpoint in enumerate(job_endpoints):
            looked_at([endpoint], ago=timedelta(hours=2 + 12 * place + number))
    taken = candidates(utc_now())
    assert len(taken) == 50
    ranks = Counter(
        place
        for job_endpoints in endpoints
        for place, endpoint in enumerate(job_endpoints)
        if endpoint.pk in {candidate.endpoint_id for candidate in taken}
    )
    assert ranks == {9: 12, 8: 12, 7: 12, 6: 12, 5: 2}


def test_every_endpoint_of_a_storm_has_its_turn() -> None:
    job = make_job()
    looked_at(fleet(25, job=job, failure_count=1))
    seen: list[UUID] = []
    for _ in range(3):
        turn = candidates(utc_now())
        seen += [candidate.endpoint_id for candidate in turn]
        looked_at(
            Endpoint.objects.filter(pk__in=[candidate.endpoint_id for candidate in turn]),
            ago=timedelta(0),
            endpoint_failure_count=1,
        )
    assert len(seen) == len({*seen}) == 25
    assert candidates(utc_now()) == []


def test_an_owner_gets_no_more_places_than_the_day_s_tokens_pay_for() -> None:
    poor, rich = make_job(), make_job()
    User.objects.filter(pk=poor.owner_id).update(ai_daily_token_limit=10_000)
    spending = fleet(20, job=poor)
    fleet(20, job=rich)
    assert Counter(each.job_id for each in candidates(utc_now())) == {poor.pk: 4, rich.pk: 10}
    looked_at(spending[:1], ago=timedelta(0), prompt_tokens=6_000, completion_tokens=1_000)
    assert Counter(each.job_id for each in candidates(utc_now())) == {poor.pk: 2, rich.pk: 10}
    looked_at(spending[:1], ago=timedelta(0), prompt_tokens=3_000)
    assert Counter(each.job_id for each in candidates(utc_now())) == {rich.pk: 10}


@pytest.mark.parametrize(
    ("limit", "spent", "is_seen"),
    [
        (None, 99_999, True),
        (None, 100_000, False),
        (400_000, 39_999, True),
        (400_000, 40_000, False),
        (30_000, 19_999, True),
        (30_000, 20_000, False),
    ],
)
def test_no_endpoint_spends_more_than_its_share_of_the_owners_day(limit: int | None, spent: int, is_seen: bool) -> None:
    owner = make_user()
    User.objects.filter(pk=owner.pk).update(ai_daily_token_limit=limit)
    greedy, modest = fleet(2, job=make_job(owner=owner))
    noon = utc_now().replace(hour=12)
    Endpoint.objects.filter(pk__in=[greedy.pk, modest.pk]).update(last_run_at=noon)
    for endpoint, tokens in ((greedy, spent), (modest, 900)):
        session = {"endpoint": endpoint, "owner": owner, "backend": Backend.OPENAI, "status": SessionStatus.COMPLETED}
        for hours, part in ((2, tokens - tokens // 2), (3, tokens // 2), (24, 10**6)):
            AnalysisSession.objects.create(analyzed_at=noon - hours * HOUR, prompt_tokens=part, **session)
    seen = {candidate.endpoint_id for candidate in candidates(noon)}
    assert seen == ({greedy.pk, modest.pk} if is_seen else {modest.pk})


@pytest.mark.parametrize(
    ("body", "trigger"),
    [
        ('{"queue_depth": 19}', None),
        ('{"queue_depth": 90}', Trigger.NUMBER_OUT_OF_RANGE),
        ('{"queue_depth": "ten"}', Trigger.SHAPE_CHANGED),
        ("x" * 65_537, None),
    ],
)
def test_a_body_that_changes_deserves_a_look_before_the_endpoint_is_due(body: str, trigger: Trigger | None) -> None:
    (endpoint,) = fleet(1)
    usual = usual_numbers([json.dumps({"queue_depth": depth}) for depth in (10, 14, 6, 12, 8)])
    looked_at([endpoint], body_shape=body_shape(BODY), body_numbers=to_json(usual))
    assert triggers() == []
    answered(endpoint, body)
    assert triggers() == ([trigger] if trigger is not None else [])


def test_no_body_is_read_of_what_deserves_a_look_anyhow(django_assert_num_queries: Any) -> None:
    (endpoint,) = fleet(1)
    looked_at([endpoint], again_in=-HOUR, body_shape=body_shape(BODY))
    answered(endpoint, '{"other": 1}')
    with django_assert_num_queries(1):
        (candidate,) = candidates(utc_now())
    assert (candidate.body, trigger_of(candidate, utc_now())) == (None, Trigger.DUE)


def test_many_bodies_are_read_some_at_once_and_a_change_in_all_is_no_storm(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(discovery, "BODIES_AT_ONCE", 20)
    quiet = fleet(50)
    looked_at(quiet, body_shape=body_shape(BODY))
    for endpoint in quiet:
        answered(endpoint, BODY)
    with django_assert_num_queries(4):
        assert candidates(utc_now()) == []
    RunResponse.objects.update(body='{"other": 1}')
    assert len(candidates(utc_now())) == 10


def test_what_the_latest_bodies_show_is_remembered() -> None:
    endpoint = make_endpoint()
    assert remembered_numbers(endpoint.pk) is None
    for number in range(30):
        ran(endpoint, {"depth": 100 - number % 3, "name": "x"}, ago=60 - number)
    numbers = remembered_numbers(endpoint.pk)
    assert numbers == {"/depth": {"low": 98, "high": 100, "last": 98, "seen": 20, "way": None}}
    (stored,) = fleet(1)
    looked_at([stored], body_numbers=numbers)
    assert to_json(from_json(AnalysisSession.objects.get().body_numbers)) == numbers


def test_the_plan_reads_no_runs_and_finds_sessions_and_bodies_by_index() -> None:
    job = make_job()
    endpoints = fleet(2_000, job=job)
    for hours in (2, 3, 4):
        looked_at(endpoints, ago=hours * HOUR)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE job_endpoints, sessions, run_responses, users, jobs")
        statement, parameters = discovery.statement(utc_now())
        cursor.execute("EXPLAIN (FORMAT JSON) " + statement, parameters)
        (plan,) = cursor.fetchone()
    text = plan if isinstance(plan, str) else json.dumps(plan)
    assert '"Relation Name": "runs"' not in text
    assert '"Relation Name": "run_responses"' not in text
    assert '"Index Name": "sessions_of_the_model"' in text
    assert text.count('"Relation Name": "job_endpoints"') == 1


@pytest.mark.django_db(transaction=True)
def test_planners_that_pass_at_once_share_the_endpoints_and_never_double_one() -> None:
    for _ in range(4):
        fleet(10)
    start = threading.Barrier(3)
    taken: dict[str, list[UUID]] = {}

    def one(worker: str) -> None:
        try:
            found = candidates(utc_now())
            start.wait(10)
            taken[worker] = [each.endpoint_id for each in found if lease(worker=worker, candidate=each)]
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(f"planner-{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    everything = [endpoint for each in taken.values() for endpoint in each]
    assert len(taken) == 3
    assert len(everything) == len({*everything}) == 40
    assert candidates(utc_now()) == []


def test_the_endpoints_of_a_planner_that_died_are_free_when_its_lease_ends_and_its_late_word_counts_no_more() -> None:
    (endpoint,) = fleet(1)
    (candidate,) = candidates(utc_now())
    assert lease(worker="dead", candidate=candidate)
    assert found() == []
    Endpoint.objects.update(analysis_lease_until=utc_now() - timedelta(milliseconds=1))
    assert found() == [endpoint.pk]
    assert lease(worker="alive", candidate=candidate)
    release(worker="dead", endpoint_id=endpoint.pk, next_analysis_at=utc_now())
    endpoint.refresh_from_db()
    assert (endpoint.analysis_lease_owner, endpoint.next_analysis_at) == ("alive", None)


@pytest.mark.parametrize(
    "change",
    [
        {"planner_mode": "off"},
        {"status": "paused"},
        {"paused_by": Author.USER, "paused_until": utc_now() + 24 * HOUR},
    ],
)
def test_what_a_person_switched_off_meanwhile_is_not_leased(change: dict[str, Any]) -> None:
    fleet(1)
    (candidate,) = candidates(utc_now())
    Endpoint.objects.update(**change)
    assert not lease(worker="planner", candidate=candidate)


def test_an_endpoint_of_a_paused_job_is_not_leased() -> None:
    (endpoint,) = fleet(1)
    (candidate,) = candidates(utc_now())
    Job.objects.filter(pk=endpoint.job_id).update(status="paused")
    assert not lease(worker="planner", candidate=candidate)
    assert found() == []
