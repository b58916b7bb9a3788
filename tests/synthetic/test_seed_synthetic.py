"""The synthetic jobs, as `seed_synthetic` leaves them."""

import dataclasses
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from jobs.authoring import set_job_status
from jobs.models import Endpoint, Job, JobStatus
from scheduling.egress.policy import EgressPolicy
from synthetic.monitoring import CORE, FAULTS
from tests.support.factories import make_job, make_operator, make_user

pytestmark = pytest.mark.django_db
HALF_A_MINUTE_MS = 30_000


def seed() -> str:
    out = StringIO()
    call_command("seed_synthetic", stdout=out)
    return out.getvalue()


def test_both_jobs_belong_to_the_first_operator_and_run_within_half_a_minute() -> None:
    make_user()
    first = make_operator()
    make_operator()

    seed()

    assert set(Job.objects.filter(is_synthetic=True, owner=first).values_list("name", flat=True)) == {CORE, FAULTS}
    endpoints = list(Endpoint.objects.all())
    assert {endpoint.name for endpoint in endpoints} == {"health", "echo", "slow", "flaky"}
    for endpoint in endpoints:
        assert endpoint.owner_id == first.pk
        assert endpoint.next_run_at is not None
        assert (endpoint.next_run_at - endpoint.created_at).total_seconds() * 1000 <= HALF_A_MINUTE_MS
        assert endpoint.retry_limit == 0
        assert endpoint.max_interval_ms is not None
        assert (endpoint.recovery_check_ms is not None) is (endpoint.name == "flaky")


def test_addresses_are_the_one_exception_of_the_egress_policy() -> None:
    make_operator()
    seed()
    policy = EgressPolicy.from_settings("", settings.ENV.synthetic_url)

    for url in Endpoint.objects.values_list("url", flat=True):
        assert policy.judge_url(url, synthetic=True).allowed, url
        assert not policy.judge_url(url).allowed, url


def test_repeating_changes_nothing() -> None:
    make_operator()
    seed()
    before = list(Endpoint.objects.order_by("id").values())

    said = seed()

    assert list(Endpoint.objects.order_by("id").values()) == before
    assert said.count("there already.") == 2


def test_what_people_changed_stays() -> None:
    make_operator()
    seed()
    Endpoint.objects.filter(name="health").update(baseline_interval_ms=60_000)
    set_job_status(job_id=Job.objects.get(name=FAULTS).pk, status=JobStatus.ARCHIVED)

    seed()

    assert Endpoint.objects.get(name="health").baseline_interval_ms == 60_000
    assert Job.objects.get(name=FAULTS).status == JobStatus.ARCHIVED


def test_a_changed_base_url_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    make_operator()
    seed()
    environment = dataclasses.replace(settings.ENV, synthetic_base_url="http://web:8000")
    monkeypatch.setattr(settings, "ENV", environment)

    said = seed()

    assert said.count("2 addresses changed.") == 2
    assert Endpoint.objects.get(name="echo").url == "http://web:8000/api/synthetic/echo"


def test_a_job_of_the_same_name_by_somebody_is_no_synthetic_job() -> None:
    make_job(name=CORE)
    make_operator()

    seed()

    assert Job.objects.filter(name=CORE, is_synthetic=True).count() == 1


def test_without_an_operator_it_says_what_to_do() -> None:
    with pytest.raises(CommandError, match="create_first_admin"):
        seed()
