"""Whether the model answers, told from stored sessions and heartbeats, in health and on the dashboard."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from jobs.heartbeats import beat, farewell
from jobs.models import WorkerKind
from planner.analyst.llm import ModelAccess
from planner.analyst.state import ModelWord, model_state, service_mark, word_of_others
from planner.models import AnalysisSession
from tests.planner.scenes import utc_now
from tests.support.factories import make_endpoint, make_job, make_user

pytestmark = pytest.mark.django_db(transaction=True)

ACCESS = ModelAccess("sk-secret-1", "http://127.0.0.1:9/v1", "scripted-1")


def session(ago: timedelta, kind: str | None = None, **fields: Any) -> AnalysisSession:
    """A session that began so long ago; `kind` None answered."""
    endpoint = fields.pop("endpoint", None) or make_endpoint()
    return AnalysisSession.objects.create(
        endpoint=endpoint,
        owner_id=endpoint.owner_id,
        trigger="due",
        analyzed_at=utc_now() - ago,
        backend="openai",
        **{"status": "failed" if kind else "completed", "error_kind": kind, **fields},
    )


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def planner(name: str = "planner-1", **facts: Any) -> None:
    beat(worker=name, kind=WorkerKind.PLANNER, facts={"model": "scripted-1", "breaker": None, **facts})


def test_nothing_is_known_before_the_first_session_and_off_is_told_by_the_planner() -> None:
    assert model_state().word is ModelWord.UNKNOWN
    planner(model=None)
    assert model_state().word is ModelWord.OFF
    planner("planner-2")
    assert model_state().word is ModelWord.UNKNOWN


@pytest.mark.parametrize(
    ("kinds", "word", "kind"),
    [
        ([None], ModelWord.ANSWERING, None),
        ([None, "timeout", "timeout"], ModelWord.ANSWERING, None),
        ([None, "timeout", "server_error", "bad_arguments"], ModelWord.FAILING, "bad_arguments"),
        ([None, "unauthorized"], ModelWord.FAILING, "unauthorized"),
        (["timeout", "timeout", "timeout", None], ModelWord.ANSWERING, None),
        ([None, "interrupted", "stopped", "planner_fault"], ModelWord.ANSWERING, None),
    ],
)
def test_failures_in_a_row_tell_and_an_answer_ends_them(
    kinds: list[str | None], word: ModelWord, kind: str | None
) -> None:
    planner()
    for number, each in enumerate(kinds):
        session(minutes(60 - number), each)
    state = model_state()
    assert (state.word, state.kind) == (word, kind)
    assert bool(state.why) == (kind is not None)
    failed = AnalysisSession.objects.filter(status="failed").order_by("analyzed_at")
    assert state.since == (failed[0].analyzed_at if kind else None)


def test_a_session_cut_by_its_budget_is_an_answer_only_where_the_model_gave_one() -> None:
    planner()
    session(minutes(9), "not_found")
    session(minutes(8), "token_limit", status="budget_exceeded", prompt_tokens=0)
    assert model_state().word is ModelWord.FAILING
    session(minutes(7), "token_limit", status="budget_exceeded", prompt_tokens=900)
    assert model_state().word is ModelWord.ANSWERING


def test_health_says_since_when_the_model_is_dead_and_why() -> None:
    planner()
    session(timedelta(hours=25))
    first = session(timedelta(hours=24), "timeout")
    for hours in (18, 12, 6):
        session(timedelta(hours=hours), "connection_failed")
    told = Client().get("/api/health").json()["model"]
    assert (told["state"], told["error"], told["ownersOverBudget"]) == ("failing", "connection_failed", 0)
    assert datetime.fromisoformat(told["failingSince"]) - first.analyzed_at < timedelta(milliseconds=1)
    assert datetime.fromisoformat(told["lastAnswerAt"]) < first.analyzed_at


def test_an_open_breaker_of_a_live_planner_is_told_and_that_of_a_stopped_one_is_not() -> None:
    session(minutes(9))
    session(minutes(1), "rate_limited")
    planner(breaker="rate_limited: The service answered 429.", breaker_seconds=30)
    state = model_state()
    assert (state.word, state.waiting, state.kind) == (ModelWord.FAILING, True, "rate_limited")
    farewell(worker="planner-1")
    assert model_state().word is ModelWord.ANSWERING


def test_an_old_answer_tells_nothing_where_no_planner_lives() -> None:
    last = session(timedelta(hours=30))
    assert (model_state().word, model_state().answered_at) == (ModelWord.UNKNOWN, last.analyzed_at)
    planner()
    assert model_state().word is ModelWord.ANSWERING
    farewell(worker="planner-1")
    session(minutes(30))
    assert model_state().word is ModelWord.ANSWERING


def dashboard(user: Any) -> str:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client.get("/").content.decode()


def test_the_dashboard_says_since_when_and_why() -> None:
    user = make_user()
    assert "does not answer" not in dashboard(user)
    planner()
    for hours in (24, 12, 6):
        failed = session(timedelta(hours=hours), "server_error")
    page = dashboard(user)
    first = AnalysisSession.objects.order_by("analyzed_at")[0]
    assert f"since {first.analyzed_at:%Y-%m-%d %H:%M:%S}" in page
    assert "the service answers with server errors" in page
    assert str(failed.endpoint_id) not in page


def test_an_owner_whose_tokens_are_used_up_is_told_and_another_is_not(settings: Any) -> None:
    settings.ENV = replace(settings.ENV, ai_owner_daily_token_limit=10_000)
    one, other = make_user(), make_user()
    session(minutes(0), endpoint=make_endpoint(make_job(one)), prompt_tokens=7_000, completion_tokens=1_000)
    assert "8000 of 10000. Until midnight UTC only rules decide." in dashboard(one)
    assert "Until midnight UTC" not in dashboard(other)
    settings.ENV = replace(settings.ENV, ai_daily_token_limit=10_000)
    assert "of this installation are used up" in dashboard(other)


def test_what_a_service_asked_for_concerns_planners_of_the_same_service_key_and_model() -> None:
    mark = service_mark(ACCESS)
    assert "secret" not in mark
    assert mark != service_mark(replace(ACCESS, api_key="sk-secret-2"))
    word = "rate_limited: The service answered 429."
    planner("planner-2", service=mark, breaker=word, breaker_seconds=60.0)
    found = word_of_others(mark, "planner-1")
    assert found is not None
    assert found[0] == word
    assert 50 < found[1] <= 60
    assert word_of_others(mark, "planner-2") is None
    assert word_of_others(service_mark(replace(ACCESS, model="other")), "planner-1") is None
    planner("planner-2", service=mark, breaker=word, breaker_seconds=-1.0)
    assert word_of_others(mark, "planner-1") is None
    planner("planner-2", service=mark, breaker=None, breaker_seconds=None)
    assert word_of_others(mark, "planner-1") is None


def test_what_health_reads_does_not_grow_with_the_sessions_of_rules() -> None:
    endpoint = make_endpoint()
    AnalysisSession.objects.bulk_create(
        AnalysisSession(
            endpoint=endpoint, owner_id=endpoint.owner_id, trigger="rules", backend="rules", status="completed"
        )
        for _ in range(3_000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE sessions")
        cursor.execute(
            "EXPLAIN SELECT analyzed_at FROM sessions WHERE backend = 'openai' AND status = 'completed'"
            " ORDER BY analyzed_at DESC LIMIT 1"
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "sessions_of_the_model" in plan
