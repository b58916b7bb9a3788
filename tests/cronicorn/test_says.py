"""What the console says of what stands still: stopped jobs, expired offers, hung calls, back-off; and that it asks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from accounts.models import ApiKey
from jobs.admin.run import phases_of
from jobs.models import Endpoint, Job, JobStatus, Run
from planner.models import Proposal, ProposalStatus
from tests.cronicorn.test_console import make_proposal, signed_in
from tests.support.factories import Cast, make_api_key, make_cast, make_endpoint, make_job, make_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return make_cast()


def text_of(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, address
    return " ".join(response.content.decode().split())


@pytest.mark.parametrize("status", [JobStatus.PAUSED, JobStatus.ARCHIVED])
def test_an_endpoint_of_a_stopped_job_says_so_wherever_it_is_shown(cast: Cast, status: JobStatus) -> None:
    archived_at = datetime.now(UTC) if status == JobStatus.ARCHIVED else None
    job = make_job(cast.alice, status=status, archived_at=archived_at)
    endpoint = make_endpoint(
        job,
        name="Queue",
        failure_count=2,
        ai_hint_interval_ms=60_000,
        ai_hint_interval_expires_at=datetime.now(UTC) + timedelta(hours=1),
        ai_hint_interval_set_by="user",
    )
    client = signed_in(cast.alice)
    by_its_job = f'{status.value}</span> <span class="cc-dim">by its job</span>'
    for address in ("/jobs/endpoint/", f"/jobs/job/{job.pk}/", f"/jobs/endpoint/{endpoint.pk}/"):
        assert by_its_job in text_of(client, address), address
    for address in ("/jobs/endpoint/", f"/jobs/job/{job.pk}/"):
        assert f'<span class="cc-dim">{status.value} by its job</span>' in text_of(client, address), address
    page = text_of(client, f"/jobs/endpoint/{endpoint.pk}/")
    assert f"<b>Its job is {status.value}</b>" in page
    assert f"nothing is due: {status.value} by its job" in page
    assert "do/run-now/" not in page
    assert f"This job is {status.value}" in text_of(client, f"/jobs/job/{job.pk}/")
    dashboard = text_of(client, "/")
    assert 'data-figure="hints">0 of 1' in dashboard
    assert 'data-figure="failing">0 endpoints' in dashboard
    assert f"endpoint, {status.value} by its job" in text_of(client, "/search/?s=Queue")
    if status == JobStatus.PAUSED:
        assert "The job is paused: nothing is called" in text_of(client, f"/jobs/endpoint/{endpoint.pk}/change/")


def bulk(client: Client, address: str, action: str, rows: list[Any], **more: str) -> Any:
    return client.post(address, {"action": action, "_selected_action": [str(row.pk) for row in rows], **more})


@pytest.mark.parametrize("what", ["endpoint", "job", "key"])
def test_what_cannot_be_taken_back_is_asked_before_it_is_done_to_many(cast: Cast, what: str) -> None:
    client = signed_in(cast.alice)
    jobs = [make_job(cast.alice, name=name) for name in ("One <b>", "Two")]
    if what == "key":
        address, action, rows = "/accounts/apikey/", "revoke", [make_api_key(cast.alice)[0] for _ in range(2)]
    else:
        address, action = f"/jobs/{what}/", "archive"
        rows = jobs if what == "job" else [make_endpoint(job, name=job.name) for job in jobs]

    def done() -> int:
        archived = Job.objects.filter(status="archived").count() + Endpoint.objects.filter(status="archived").count()
        return archived + ApiKey.objects.filter(revoked_at__isnull=False).count()

    page = bulk(client, address, action, rows)
    assert (page.status_code, done()) == (200, 0)
    html = page.content.decode()
    assert "these" in html
    assert html.count('name="_selected_action"') == 2
    assert "<b>" not in html.replace("&lt;b&gt;", "").split("cc-chosen-rows")[1].split("</ul>")[0]
    assert bulk(client, address, action, rows, confirmed="yes").status_code == 302
    assert done() == 2


def test_an_action_on_many_that_can_be_taken_back_is_not_asked(cast: Cast) -> None:
    endpoint = make_endpoint(make_job(cast.alice))
    assert bulk(signed_in(cast.alice), "/jobs/endpoint/", "pause", [endpoint]).status_code == 302
    assert Endpoint.objects.get().status == "paused"


def test_an_offer_that_nobody_took_has_expired_everywhere_though_no_planner_runs(cast: Cast) -> None:
    client, endpoint = signed_in(cast.alice), make_endpoint(make_job(cast.alice))
    past = datetime.now(UTC) - timedelta(minutes=1)
    offer = make_proposal(endpoint, offer_expires_at=past)
    page = text_of(client, f"/planner/proposal/{offer.pk}/")
    assert "This offer has expired" in page
    assert "pending" not in page
    assert "do/approve/" not in page
    assert ">expired<" in page
    assert "Offer ended" in page
    assert str(offer.pk) not in text_of(client, "/planner/proposal/?status=pending")
    assert str(offer.pk) in text_of(client, "/planner/proposal/?status=expired")
    assert "wait" not in text_of(client, "/").split("cc-tiles-six")[1].split("</div>")[-1]
    assert ">expired<" in text_of(client, "/")
    answer = client.post(f"/planner/proposal/{offer.pk}/do/approve/", follow=True).content.decode()
    assert "The offer expired at" in answer
    Proposal.objects.update(status=ProposalStatus.EXPIRED, ended_at=past, ended_by="expired")
    answer = client.post(f"/planner/proposal/{offer.pk}/do/approve/", follow=True).content.decode()
    assert "The offer expired at" in answer
    assert "This offer has expired" in answer


def test_a_hint_that_ran_out_is_no_longer_in_force_though_no_planner_runs(cast: Cast) -> None:
    past = datetime.now(UTC) - timedelta(minutes=1)
    hint = make_proposal(
        make_endpoint(make_job(cast.alice)),
        status=ProposalStatus.APPLIED,
        applied_at=past - timedelta(hours=1),
        hint_expires_at=past,
    )
    page = text_of(signed_in(cast.alice), f"/planner/proposal/{hint.pk}/")
    assert ">expired<" in page
    assert "do/undo/" not in page
    assert "This offer has expired" not in page


WAIT = "Waiting for the first byte"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"dns_ms": 1, "connect_ms": 2, "total_ms": 3000, "error_kind": "timeout"},
            [("DNS", 1), ("Connect", 2), (WAIT, 2997)],
        ),
        (
            {"dns_ms": 1, "connect_ms": 2, "tls_ms": 3, "total_ms": 900, "error_kind": "http_error"},
            [*"DCT", (WAIT, 894)],
        ),
        (
            {"dns_ms": 1, "connect_ms": 2, "tls_ms": 3, "first_byte_ms": 4, "total_ms": 20},
            [*"DCT", (WAIT, 4), ("Body", 10)],
        ),
        (
            {"dns_ms": 1, "connect_ms": 2, "first_byte_ms": 4, "total_ms": 5000, "error_kind": "timeout"},
            [*"DC", (WAIT, 4), ("Body", 4993)],
        ),
        ({"dns_ms": 1, "connect_ms": 2998.5, "total_ms": 3000, "error_kind": "timeout"}, [*"DC"]),
        ({"dns_ms": 1, "connect_ms": 2, "tls_ms": 40, "total_ms": 50, "error_kind": "tls_failed"}, [*"DCT"]),
        ({"dns_ms": 9, "total_ms": 12, "error_kind": "dns_failed"}, [*"D"]),
        ({"total_ms": 12, "error_kind": "destination_not_allowed"}, []),
    ],
)
def test_the_phases_of_a_call_say_where_it_was_when_it_ended(fields: dict[str, Any], expected: list[Any]) -> None:
    found = [(phase["label"], phase["ms"]) for phase in phases_of(Run(**fields))]
    assert len(found) == len(expected)
    for (label, ms), wanted in zip(found, expected, strict=True):
        if isinstance(wanted, str):
            assert label.startswith(wanted)
        else:
            assert (label, ms) == wanted


def test_back_off_is_named_in_list_page_dashboard_and_job(cast: Cast) -> None:
    now = datetime.now(UTC)
    failing = {"failure_count": 2, "failing_since": now - timedelta(hours=1), "last_slot_at": now}
    endpoint = make_endpoint(make_job(cast.alice), **failing, recovery_check_ms=3_600_000)
    make_run(endpoint)
    client = signed_in(cast.alice)
    for address in ("/jobs/endpoint/", f"/jobs/endpoint/{endpoint.pk}/", f"/jobs/job/{endpoint.job_id}/", "/"):
        assert "backed off to every" in text_of(client, address), address
    Endpoint.objects.update(failure_count=0)
    endpoint = make_endpoint(make_job(cast.alice, name="Well"), name="Well")
    assert "backed off" not in text_of(client, f"/jobs/endpoint/{endpoint.pk}/")
