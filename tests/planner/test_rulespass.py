"""The rules pass on a real database: what it writes, and what it leaves alone."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import ProgrammingError, connection

from jobs import services as hints
from jobs.models import Author, Endpoint, EndpointStatus, PlannerMode, RunStatus, WorkerHeartbeat
from jobs.replan import replan
from planner.analyst.dossier import briefing_of, subject_of
from planner.attention.discovery import candidates
from planner.models import AnalysisSession, Backend, Proposal, ProposalStatus, SessionStatus
from planner.proposals.inforce import advised_on
from planner.proposals.wishes import DAY_MS, ClearHints, Speaker
from planner.rules.advice import MOST_TURNS, Advice, Watched, advise
from planner.rules.changetimes import ChangeTimes
from planner.rules.memory import Memory
from planner.rules.rulespass import rules_pass
from scheduling.plan.decision import Source
from tests.planner.scenes import FASTER, QUEUE_RULE, busy_endpoint, file, ran, utc_now
from tests.support.factories import make_endpoint, make_job

pytestmark = pytest.mark.django_db


def look(**options: Any) -> int:
    """One pass; returns how many proposals it stored."""
    return rules_pass(last_pass_at=None, **{"heuristics": True, **options}).stored


def statuses(endpoint: Endpoint) -> list[tuple[str, str]]:
    return list(Proposal.objects.filter(endpoint=endpoint).order_by("created_at", "id").values_list("tool", "status"))


def test_a_rule_that_matches_sets_a_hint_and_the_schedule_says_why() -> None:
    endpoint = busy_endpoint()
    assert look() == 1
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms == 30_000
    assert endpoint.ai_hint_interval_set_by == Author.PLANNER
    assert endpoint.next_run_at == endpoint.last_started_at + timedelta(seconds=30)
    sentence = endpoint.next_decision["sentence"]
    assert sentence.startswith("Every 30 s until ")
    assert "because queue_depth is 412, above 100; baseline would be" in sentence
    proposal = Proposal.objects.get()
    assert (proposal.cause, proposal.cause_key, proposal.status) == ("rule", "rules[0]", ProposalStatus.APPLIED)
    assert proposal.pk == endpoint.ai_hint_interval_proposal_id
    assert proposal.next_run_after == endpoint.next_run_at < proposal.next_run_before
    assert proposal.hint_expires_at == endpoint.ai_hint_interval_expires_at


def test_the_baseline_is_back_once_the_hint_has_expired() -> None:
    endpoint = busy_endpoint()
    look()
    before = Endpoint.objects.get(pk=endpoint.pk).next_decision["candidates"]
    Endpoint.objects.update(ai_hint_interval_expires_at=utc_now() - timedelta(milliseconds=1))
    replan([endpoint.pk])
    endpoint.refresh_from_db()
    assert endpoint.next_source == Source.BASELINE_INTERVAL
    assert endpoint.next_run_at == endpoint.anchor_at + timedelta(hours=1)
    assert [candidate["source"] for candidate in before] == ["ai-interval", "baseline-interval"]


def test_the_command_makes_one_pass() -> None:
    endpoint = busy_endpoint()
    call_command("run_ai_planner", "--once")
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms == 30_000
    assert not WorkerHeartbeat.objects.exists()


def test_the_same_word_is_written_once_and_renewed_at_half_of_its_life() -> None:
    endpoint = busy_endpoint()
    assert look() == 1
    assert look() == 0
    ran(endpoint, {"queue_depth": 500}, ago=0.5)
    assert look() == 0
    Endpoint.objects.update(ai_hint_interval_expires_at=utc_now() + timedelta(minutes=29))
    ran(endpoint, {"queue_depth": 600}, ago=0.2)
    assert look() == 0
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_expires_at > utc_now() + timedelta(minutes=59)
    assert "600" in endpoint.ai_hint_interval_reason
    proposal = Proposal.objects.get()
    assert (proposal.pk, proposal.status) == (endpoint.ai_hint_interval_proposal_id, ProposalStatus.APPLIED)
    assert (proposal.renewals, proposal.hint_expires_at) == (1, endpoint.ai_hint_interval_expires_at)
    assert AnalysisSession.objects.count() == 1


def test_a_rules_hint_is_cleared_after_two_runs_that_no_rule_matched() -> None:
    endpoint = busy_endpoint()
    look()
    ran(endpoint, {"queue_depth": 3}, ago=0.5)
    assert look() == 0
    ran(endpoint, {"queue_depth": 2}, ago=0.2)
    assert look() == 1
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms is None
    assert endpoint.next_source == Source.BASELINE_INTERVAL
    assert statuses(endpoint) == [("propose_interval", "cleared"), ("clear_hints", "applied")]


def test_a_mode_of_off_is_never_looked_at() -> None:
    busy_endpoint(planner_mode=PlannerMode.OFF)
    passed = rules_pass(last_pass_at=None, heuristics=True)
    assert (passed.looked_at, passed.stored) == (0, 0)
    assert not Proposal.objects.exists()


@pytest.mark.parametrize(
    ("mode", "status"),
    [(PlannerMode.SHADOW, ProposalStatus.SHADOW), (PlannerMode.APPROVE, ProposalStatus.PENDING)],
)
def test_shadow_and_approve_store_once_and_apply_nothing(mode: PlannerMode, status: ProposalStatus) -> None:
    endpoint = busy_endpoint(planner_mode=mode)
    assert look() == 1
    ran(endpoint, {"queue_depth": 500}, ago=0.5)
    assert look() == 0
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms is None
    assert statuses(endpoint) == [("propose_interval", status.value)]


def test_a_shadow_lives_as_its_hint_would_have_lived() -> None:
    endpoint = busy_endpoint(planner_mode=PlannerMode.SHADOW, max_interval_ms=7_200_000)
    look()
    shadow = Proposal.objects.get()
    refused = file(endpoint, FASTER.model_copy(update={"interval_ms": 60_000}))
    assert refused is not None
    assert (refused.status, refused.status_reason) == ("refused", "What the rule set is in force and comes first.")
    Proposal.objects.filter(pk=shadow.pk).update(hint_expires_at=utc_now() + timedelta(minutes=29))
    ran(endpoint, {"queue_depth": 500}, ago=0.5)
    assert look() == 0
    shadow.refresh_from_db()
    assert (shadow.renewals, shadow.ended_at) == (1, None)
    assert shadow.hint_expires_at > utc_now() + timedelta(minutes=59)
    for depth in (3, 2, 1):
        ran(endpoint, {"queue_depth": depth}, ago=0.3)
        look()
    shadow.refresh_from_db()
    clear = Proposal.objects.get(tool="clear_hints")
    assert (shadow.status, shadow.ended_by, shadow.ended_at) == ("shadow", "cleared", clear.created_at)
    endpoint.refresh_from_db()
    assert (endpoint.ai_hint_interval_ms, endpoint.config_version) == (None, 1)
    ran(endpoint, {"queue_depth": 500}, ago=0.1)
    assert look() == 1


def test_the_model_is_told_of_a_shadow_as_of_the_hint_it_stands_for() -> None:
    endpoint = busy_endpoint(planner_mode=PlannerMode.SHADOW)
    look()
    briefing = briefing_of(subject_of(endpoint.pk), trigger="never_analysed", limits_ms=(10_000, DAY_MS), now=utc_now())
    assert len(briefing.in_force) == 1
    assert briefing.in_force[0].startswith("every 30 s until ")
    assert briefing.in_force[0].endswith(" by rule")


def test_a_persons_hint_comes_before_a_shadow() -> None:
    endpoint = busy_endpoint(planner_mode=PlannerMode.SHADOW)
    look()
    hints.set_interval_hint(
        endpoint_id=endpoint.pk, interval_ms=60_000, ttl_ms=3_600_000, reason="mine", author=Author.USER
    )
    endpoint.refresh_from_db()
    hint = advised_on(endpoint, utc_now()).interval
    assert hint is not None
    assert (hint.speaker, hint.shadow) == (Speaker.PERSON, False)


def test_a_persons_word_holds_the_rules_back_and_is_told_once() -> None:
    endpoint = busy_endpoint()
    hints.clear_hints(endpoint_id=endpoint.pk, author=Author.USER)
    assert look() == 1
    ran(endpoint, {"queue_depth": 500}, ago=0.5)
    assert look() == 0
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms is None
    assert statuses(endpoint) == [("propose_interval", "held")]


def test_the_bounds_of_the_owner_hold_for_rules_too() -> None:
    endpoint = busy_endpoint(min_interval_ms=60_000)
    look()
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms == 60_000
    assert Proposal.objects.get().status_reason == "interval clamped from 30 s"


def test_run_sibling_wakes_the_sibling_once_for_each_new_match() -> None:
    job = make_job()
    rule = {"when": {"failing_for": 1}, "then": {"run_sibling": "recover"}}
    check = make_endpoint(job=job, name="check", rules=[rule])
    recover = make_endpoint(job=job, name="recover", baseline_cron="0 3 * * *")
    make_endpoint(name="recover")
    ran(check, status=RunStatus.FAILED, status_code=500, ago=2)
    assert look(heuristics=False) == 1
    recover.refresh_from_db()
    assert recover.next_source == Source.AI_ONESHOT
    sentence = recover.next_decision["sentence"]
    assert (
        'set by the rule "rules[0]" of endpoint "check" because the last call failed (of endpoint "check")' in sentence
    )
    Endpoint.objects.update(rules_through_run_at=None)
    assert look(heuristics=False) == 0
    ran(check, status=RunStatus.FAILED, status_code=500, ago=0.1)
    assert look(heuristics=False) == 0
    assert Proposal.objects.get().endpoint == recover


def test_many_rules_that_wake_one_sibling_wake_it_once() -> None:
    job = make_job()
    rules = [
        {"name": f"{name} {number}", "when": {"failing_for": 1}, "then": {"run_sibling": name}}
        for name in ("recover", "report")
        for number in range(3)
    ]
    checks = [make_endpoint(job=job, name=f"check {number}", rules=rules) for number in range(5)]
    for name in ("recover", "report"):
        make_endpoint(job=job, name=name, baseline_cron="0 3 * * *")
    for check in checks:
        ran(check, status=RunStatus.FAILED, status_code=500, ago=2)
    assert look(heuristics=False) == 2
    for check in checks:
        ran(check, status=RunStatus.FAILED, status_code=500, ago=0.01)
    assert look(heuristics=False) == 0
    Proposal.objects.update(created_at=utc_now() - timedelta(minutes=61))
    Endpoint.objects.update(rules_through_run_at=None)
    assert look(heuristics=False) == 2


def test_a_second_match_is_not_lost_where_the_run_that_ended_the_first_came_in_the_same_pass() -> None:
    job = make_job()
    rule = {"when": {"path": "$.state", "op": "==", "value": "down"}, "then": {"run_sibling": "recover"}}
    check = make_endpoint(job=job, name="check", rules=[rule])
    make_endpoint(job=job, name="recover", baseline_cron="0 3 * * *")
    ran(check, {"state": "down"}, ago=9)
    assert look(heuristics=False) == 1
    Proposal.objects.update(created_at=utc_now() - timedelta(seconds=8))
    for state, ago in (("up", 7), ("down", 6), ("down", 5)):
        ran(check, {"state": state}, ago=ago)
    assert look(heuristics=False) == 1
    Proposal.objects.update(created_at=utc_now() - timedelta(seconds=4))
    for ago in (3, 2, 1):
        ran(check, {"state": "down"}, ago=ago)
    assert look(heuristics=False) == 0


DOWN = {"path": "$.state", "op": "==", "value": "down"}


def down_check(**then: Any) -> tuple[Endpoint, Endpoint]:
    """A check whose rule wakes a recovery, which ran a moment ago and may run every ten minutes."""
    job = make_job()
    rule = {"name": "down", "when": DOWN, "then": {"run_sibling": "recover", **then}}
    check = make_endpoint(job=job, name="check", rules=[rule])
    recover = make_endpoint(job=job, name="recover", baseline_cron="0 3 * * *", min_interval_ms=600_000)
    ran(recover, {}, ago=30)
    return check, recover


def age(seconds: float) -> None:
    """As if all proposals and memories were that much older."""
    back = timedelta(seconds=seconds)
    for proposal in Proposal.objects.all():
        Proposal.objects.filter(pk=proposal.pk).update(created_at=proposal.created_at - back)
    for endpoint in Endpoint.objects.exclude(rules_state=None):
        for each in endpoint.rules_state["rules"]:
            each["since"] = (datetime.fromisoformat(each["since"]) - back).isoformat()
        Endpoint.objects.filter(pk=endpoint.pk).update(rules_state=endpoint.rules_state)


def test_run_sibling_speaks_on_the_change_to_true_only_however_long_it_lasts() -> None:
    check, _ = down_check()
    ran(check, {"state": "down"}, ago=9)
    assert look(heuristics=False) == 1
    for _ in range(3):
        age(7_200)
        ran(check, {"state": "down"}, ago=1)
        assert look(heuristics=False) == 0
    Endpoint.objects.filter(pk=check.pk).update(
        rules=[{"when": {"failing_for": 9}, "then": {"clear": True}}, *check.rules]
    )
    ran(check, {"state": "down"}, ago=0.8)
    assert look(heuristics=False) == 0
    ran(check, "no answer", status=RunStatus.FAILED, status_code=503, ago=0.7)
    assert look(heuristics=False) == 0
    ran(check, {"state": "down"}, ago=0.6)
    assert look(heuristics=False) == 0
    ran(check, {"state": "up"}, ago=0.5)
    assert look(heuristics=False) == 0
    ran(check, {"state": "down"}, ago=0.4)
    assert look(heuristics=False) == 1


def test_run_sibling_repeats_where_that_is_asked_for() -> None:
    check, _ = down_check(every_minutes=20)
    ran(check, {"state": "down"}, ago=9)
    assert look(heuristics=False) == 1
    for seconds, stored in ((900, 0), (400, 1), (60, 0)):
        age(seconds)
        ran(check, {"state": "down"}, ago=0.1)
        assert look(heuristics=False) == stored


@pytest.mark.parametrize("mode", [PlannerMode.AUTO, PlannerMode.APPROVE, PlannerMode.SHADOW])
def test_a_siblings_run_that_was_put_off_is_dropped_when_its_reason_is_gone(mode: PlannerMode) -> None:
    check, recover = down_check()
    Endpoint.objects.filter(pk=recover.pk).update(planner_mode=mode)
    ran(check, {"state": "down"}, ago=9)
    assert look(heuristics=False) == 1
    recover.refresh_from_db()
    assert (recover.next_source == Source.AI_ONESHOT) is (mode == PlannerMode.AUTO)
    ran(check, {"state": "up"}, ago=8)
    look(heuristics=False)
    recover.refresh_from_db()
    assert recover.ai_hint_next_run_at is None
    assert recover.next_source == Source.BASELINE_CRON
    proposal = Proposal.objects.get()
    assert proposal.ended_by == "withdrawn"
    assert proposal.status_reason == 'the rule "down" of endpoint "check" no longer matches'
    ran(check, {"state": "down"}, ago=0.1)
    assert look(heuristics=False) == 1


def test_a_persons_one_shot_on_a_sibling_is_not_dropped_with_the_reason_of_a_rule() -> None:
    check, recover = down_check()
    ran(check, {"state": "down"}, ago=9)
    look(heuristics=False)
    at = utc_now() + timedelta(minutes=20)
    hints.set_oneshot_hint(endpoint_id=recover.pk, next_run_at=at, ttl_ms=DAY_MS, reason="mine", author=Author.USER)
    ran(check, {"state": "up"}, ago=8)
    look(heuristics=False)
    recover.refresh_from_db()
    assert recover.ai_hint_next_run_at == at


@pytest.mark.django_db(transaction=True)
def test_two_planners_that_see_the_same_run_file_once() -> None:
    job = make_job()
    wake = {"name": "help", "when": {"failing_for": 1}, "then": {"run_sibling": "recover"}}
    rest = {"name": "rest", "when": {"failing_for": 1}, "then": {"pause_minutes": 30}}
    check = make_endpoint(job=job, name="check", rules=[QUEUE_RULE, wake, rest])
    make_endpoint(job=job, name="recover", baseline_cron="0 3 * * *")
    ran(check, {"queue_depth": 412}, status=RunStatus.FAILED, status_code=500)
    barrier = Barrier(3)

    def planner(_: int) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(30)
            look()
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as planners:
        list(planners.map(planner, range(3)))
    tools = sorted(Proposal.objects.values_list("tool", flat=True))
    assert tools == ["pause_until", "propose_interval", "propose_next_time"]
    assert not Proposal.objects.filter(session=None).exists()


def test_a_rule_for_a_sibling_that_is_not_there_or_is_switched_off_says_so_once_on_its_own_endpoint() -> None:
    job = make_job()
    rules = [{"when": {"failing_for": 1}, "then": {"run_sibling": name}} for name in ("nobody", "off", "resting")]
    check = make_endpoint(job=job, name="check", rules=rules)
    make_endpoint(job=job, name="off", planner_mode=PlannerMode.OFF)
    make_endpoint(job=job, name="resting", status=EndpointStatus.PAUSED)
    make_endpoint(name="nobody")
    for _ in range(3):
        ran(check, status=RunStatus.FAILED, status_code=500, ago=0.1)
        look(heuristics=False)
    told = Proposal.objects.order_by("cause_key").values_list("endpoint", "cause_key", "status", "status_reason")
    assert list(told) == [
        (check.pk, "rules[0]", "refused", 'This job has no other endpoint called "nobody".'),
        (check.pk, "rules[1]", "refused", 'The planner is off for "off".'),
    ]
    assert [each.arguments_asked["endpoint"] for each in Proposal.objects.order_by("cause_key")] == ["nobody", "off"]
    Proposal.objects.update(created_at=utc_now() - timedelta(hours=1))
    ran(check, status=RunStatus.FAILED, status_code=500, ago=0.1)
    assert look(heuristics=False) == 2


def test_one_endpoint_that_breaks_the_pass_disturbs_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, endpoint = busy_endpoint(), busy_endpoint()

    def advise_or_break(item: Watched, *args: Any, **options: Any) -> list[Advice]:
        if item.endpoint_id == broken.pk:
            raise RuntimeError("A fault of ours.")
        return advise(item, *args, **options)

    monkeypatch.setattr("planner.rules.rulespass.advise", advise_or_break)
    assert look() == 1
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms == 30_000
    assert [record.facts["endpoint"] for record in caplog.records if record.message == "pass_failed"] == [broken.pk]


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_keeps_locked_delays_no_other_endpoint_and_is_looked_at_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept, endpoint = busy_endpoint(), busy_endpoint()
    somebody = connection.copy()
    try:
        somebody.set_autocommit(False)
        with somebody.cursor() as cursor:
            cursor.execute("SELECT 1 FROM job_endpoints WHERE id = %s FOR UPDATE", [kept.pk])
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
        assert look() == 1
        somebody.rollback()
    finally:
        somebody.close()
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
    assert [record.facts["endpoint"] for record in caplog.records if record.message == "pass_failed"] == [kept.pk]
    assert Proposal.objects.get().endpoint == endpoint
    assert look() == 1


def test_runs_are_looked_at_again_where_nothing_could_be_stored_for_a_reason_of_the_schema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy_endpoint()

    def refused(*_: object) -> None:
        raise ProgrammingError("relation is missing") from psycopg.errors.UndefinedTable("relation is missing")

    with monkeypatch.context() as patched:
        patched.setattr("planner.rules.rulespass._file", refused)
        with pytest.raises(ProgrammingError):
            look()
    assert not Proposal.objects.exists()
    assert look() == 1
    assert Proposal.objects.exists()


def test_a_pause_by_a_rule_lets_the_endpoint_rest() -> None:
    rule = {"name": "rest", "when": {"status": {"op": "==", "value": 500}}, "then": {"pause_minutes": 30}}
    endpoint = make_endpoint(rules=[rule])
    ran(endpoint, status=RunStatus.FAILED, status_code=500)
    assert look() == 1
    endpoint.refresh_from_db()
    assert endpoint.paused_by == Author.PLANNER
    assert endpoint.next_source == Source.PAUSED
    assert look() == 0


def test_clear_drops_what_the_planner_set() -> None:
    endpoint = busy_endpoint(rules=[QUEUE_RULE, {"when": {"path": "$.calm", "op": "exists"}, "then": {"clear": True}}])
    look()
    ran(endpoint, {"calm": 1}, ago=0.2)
    assert look() == 1
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms is None


def test_what_a_server_asks_for_is_left_to_the_scheduler() -> None:
    endpoint = make_endpoint(max_interval_ms=86_400_000)
    ran(endpoint, "", status=RunStatus.FAILED, status_code=429, headers={"retry-after": "3600"})
    assert look() == 0
    endpoint.refresh_from_db()
    assert endpoint.paused_until is None


def test_heuristics_can_be_switched_off() -> None:
    endpoint = make_endpoint(baseline_interval_ms=60_000, max_interval_ms=300_000)
    for number in range(11):
        ran(endpoint, {"state": "idle"}, ago=100 - number)
    assert look(heuristics=False) == 0


def known_for_long(endpoint: Endpoint, body: Any) -> None:
    """As if the rules pass had watched the endpoint for three weeks, and its body had never changed."""
    digest, at = hashlib.sha256(json.dumps(body).encode()).hexdigest(), utc_now() - timedelta(hours=1)
    memory = Memory({}, (), ChangeTimes(at - timedelta(days=21), digest, at))
    Endpoint.objects.filter(pk=endpoint.pk).update(rules_state=memory.to_json())


def test_an_unchanged_body_slows_down_once_it_is_known_and_a_change_brings_the_baseline_back() -> None:
    endpoint = make_endpoint(baseline_interval_ms=60_000, max_interval_ms=300_000)
    for number in range(11):
        ran(endpoint, {"state": "idle"}, ago=100 - number)
    assert look() == 0
    known_for_long(endpoint, {"state": "idle"})
    ran(endpoint, {"state": "idle"}, ago=80)
    assert look() == 1
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms == 120_000
    assert "set by a heuristic because the response did not change for 10 runs" in endpoint.next_decision["sentence"]
    ran(endpoint, {"state": "busy"}, ago=1)
    assert look() == 1
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms is None
    ran(endpoint, {"state": "busy"}, ago=0.5)
    assert look() == 0
    endpoint.refresh_from_db()
    assert len(endpoint.rules_state["times"]["days"]) >= 1


@pytest.mark.parametrize("mode", [PlannerMode.AUTO, PlannerMode.SHADOW])
def test_a_slower_pace_that_the_model_cleared_is_not_set_again_within_the_hour(mode: PlannerMode) -> None:
    endpoint = make_endpoint(baseline_interval_ms=60_000, max_interval_ms=300_000, planner_mode=mode)
    for number in range(11):
        ran(endpoint, {"state": "idle"}, ago=100 - number)
    known_for_long(endpoint, {"state": "idle"})
    assert look() == 1
    assert file(endpoint, ClearHints(reason="the deployment begins")) is not None
    ran(endpoint, {"state": "idle"}, ago=1)
    assert look() == 0
    Proposal.objects.update(created_at=utc_now() - timedelta(hours=1))
    ran(endpoint, {"state": "idle"}, ago=0.5)
    assert look() == 1


def test_nothing_is_slowed_down_without_a_maximum_of_the_owner() -> None:
    endpoint = make_endpoint(baseline_interval_ms=60_000)
    for number in range(12):
        ran(endpoint, {"state": "idle"}, ago=100 - number)
    assert look() == 0


def test_a_model_or_heuristic_never_replaces_an_owners_rule() -> None:
    endpoint = busy_endpoint(max_interval_ms=7_200_000)
    look()
    for number in range(12):
        ran(endpoint, {"queue_depth": 412}, ago=0.9 - number / 100)
    look()
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms == 30_000


def test_what_a_pass_filed_on_an_endpoint_belongs_to_one_session() -> None:
    job = make_job()
    rules = [QUEUE_RULE, {"name": "help", "when": {"failing_for": 1}, "then": {"run_sibling": "recover"}}]
    check = make_endpoint(job=job, name="check", rules=rules)
    make_endpoint(job=job, name="recover", baseline_cron="0 3 * * *")
    ran(check, {"queue_depth": 412}, status=RunStatus.FAILED, status_code=500)
    assert look() == 2
    session = AnalysisSession.objects.get()
    assert (session.endpoint_id, session.owner_id, session.backend) == (check.pk, check.owner_id, Backend.RULES)
    assert (session.status, session.prompt_tokens, session.completion_tokens) == (SessionStatus.COMPLETED, 0, 0)
    assert (
        session.reasoning == 'rules[0]: queue_depth is 412, above 100\nhelp: the last call failed (of endpoint "check")'
    )
    assert [(call["name"], call["result"]) for call in session.tool_calls] == [
        ("propose_interval", "applied."),
        ("propose_next_time", "applied."),
    ]
    assert set(Proposal.objects.values_list("session", flat=True)) == {session.pk}


def test_a_pass_that_files_nothing_leaves_no_session() -> None:
    endpoint = busy_endpoint()
    look()
    ran(endpoint, {"queue_depth": 500}, ago=0.5)
    assert look() == 0
    assert AnalysisSession.objects.count() == 1


def test_a_session_of_the_rules_is_no_look_by_the_model() -> None:
    endpoint = busy_endpoint()
    look()
    assert [candidate.endpoint_id for candidate in candidates(utc_now())] == [endpoint.pk]


def test_a_rule_that_turned_about_often_keeps_its_hint() -> None:
    endpoint = busy_endpoint()
    for _ in range(2 * MOST_TURNS + 3):
        for depth in (3, 3, 412):
            ran(endpoint, {"queue_depth": depth}, ago=0.1)
            Endpoint.objects.update(rules_through_run_at=None)
            look()
    cleared = Proposal.objects.filter(tool="clear_hints", status=ProposalStatus.APPLIED)
    assert cleared.count() == MOST_TURNS
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms == 30_000


def test_a_rule_that_lasts_until_keeps_its_hint_between_its_limits() -> None:
    rule = {**QUEUE_RULE, "until": {"path": "$.queue_depth", "op": "<", "value": 10}}
    endpoint = busy_endpoint(rules=[rule])
    look()
    for depth, interval_ms in ((50, 30_000), (50, 30_000), (50, 30_000), (9, None)):
        ran(endpoint, {"queue_depth": depth}, ago=0.1)
        look()
        endpoint.refresh_from_db()
        assert endpoint.ai_hint_interval_ms == interval_ms


def test_rules_that_cannot_be_read_disturb_no_other_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    broken = make_endpoint(rules=[{"when": 1}])
    ran(broken, {})
    endpoint = busy_endpoint()
    assert look() == 1
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms == 30_000
    assert [record.facts["endpoint"] for record in caplog.records if record.message == "pass_failed"] == [broken.pk]


def test_a_pass_costs_a_few_statements_whatever_it_looks_at(django_assert_max_num_queries: Any) -> None:
    for _ in range(15):
        ran(make_endpoint(rules=[QUEUE_RULE]), {"queue_depth": 3})
    with django_assert_max_num_queries(7):
        assert rules_pass(last_pass_at=None, heuristics=True).looked_at == 15
    assert rules_pass(last_pass_at=None, heuristics=True).looked_at == 0
