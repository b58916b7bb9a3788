"""The daily budgets: what is spent, what is set aside, and that analyses side by side do not overdraw."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from accounts.models import User
from cronicorn.runtime.stopping import Stop
from planner.analyst.budgets import LEAST_TOKENS, budgets_of, owners_used_up
from planner.analyst.llm import ModelAccess
from planner.analyst.modelpass import Analyst
from planner.attention.discovery import LEASE_SECONDS
from planner.models import AnalysisSession
from tests.planner.scenes import busy_endpoint, utc_now
from tests.support.factories import make_endpoint, make_job, make_user
from tests.support.model_server import ModelServer, completion, submit

pytestmark = pytest.mark.django_db(transaction=True)


def spent(owner: User, tokens: int, ago: timedelta = timedelta(0), **fields: Any) -> None:
    AnalysisSession.objects.create(
        endpoint=make_endpoint(make_job(owner)),
        owner=owner,
        trigger="due",
        backend="openai",
        analyzed_at=utc_now() - ago,
        prompt_tokens=tokens - 10,
        completion_tokens=10,
        **{"status": "completed", **fields},
    )


@pytest.fixture
def limits(settings: Any) -> None:
    settings.ENV = replace(
        settings.ENV, ai_owner_daily_token_limit=50_000, ai_daily_token_limit=80_000, ai_session_token_limit=20_000
    )


@pytest.mark.usefixtures("limits")
def test_the_owner_and_the_service_have_a_budget_each() -> None:
    one, other = make_user(), make_user()
    spent(one, 30_000)
    spent(one, 40_000, timedelta(days=1))
    spent(other, 45_000)
    budgets = budgets_of(one.pk, utc_now())
    assert (budgets.owner.spent, budgets.owner.left, budgets.service.left, budgets.left) == (
        30_000,
        20_000,
        5_000,
        5_000,
    )
    assert not budgets.used_up
    spent(other, 3_000)
    assert budgets_of(one.pk, utc_now()).service.used_up
    assert owners_used_up(utc_now()) == 2


@pytest.mark.usefixtures("limits")
def test_an_owners_own_limit_counts() -> None:
    owner = make_user(ai_daily_token_limit=10_000)
    spent(owner, 10_000 - LEAST_TOKENS)
    assert not budgets_of(owner.pk, utc_now()).used_up
    spent(owner, 10)
    assert budgets_of(owner.pk, utc_now()).used_up
    assert owners_used_up(utc_now()) == 1


@pytest.mark.usefixtures("limits")
def test_what_is_in_flight_is_set_aside_until_its_lease_is_over() -> None:
    owner = make_user()
    in_flight = {"status": "failed", "error_kind": "interrupted"}
    spent(owner, 2_000, **in_flight)
    spent(owner, 2_000, timedelta(seconds=LEASE_SECONDS + 1), **in_flight)
    budgets = budgets_of(owner.pk, utc_now())
    assert (budgets.owner.spent, budgets.owner.set_aside, budgets.left) == (4_000, 18_000, 28_000)
    assert not budgets.used_up


def test_analyses_side_by_side_do_not_overdraw_and_use_what_there_is(model_server: ModelServer, settings: Any) -> None:
    settings.ENV = replace(settings.ENV, ai_owner_daily_token_limit=30_000)
    owner = make_user()
    usage = {"prompt_tokens": 4_900, "completion_tokens": 100, "total_tokens": 5_000}
    for _ in range(12):
        busy_endpoint(job=make_job(owner), rules=[])
    model_server.script(completion(submit(), usage=usage))
    access = ModelAccess("sk-test", model_server.base_url, "scripted-1")
    assert Analyst(worker="planner-1", access=access, concurrency=8).run(Stop()) == 6
    assert budgets_of(owner.pk, utc_now()).owner.spent == 30_000
