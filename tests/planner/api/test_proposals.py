"""Proposals and sessions through the API, by their owner, by another one, and by an operator."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from accounts.models import Scope
from jobs.models import Endpoint, PlannerMode
from planner.models import Proposal
from planner.rules.rulespass import rules_pass
from tests.planner.scenes import busy_endpoint, file, offered, utc_now
from tests.support.api import Api, faults
from tests.support.factories import Cast, make_cast, make_endpoint, make_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


@pytest.fixture
def api(cast: Cast) -> Api:
    return Api(cast.alice)


@pytest.fixture
def offer(cast: Cast) -> Proposal:
    return offered(job=make_job(cast.alice))[1]


def test_an_offer_is_listed_shown_and_approved(cast: Cast, api: Api, offer: Proposal) -> None:
    listed = api.get("/api/proposals?status=pending")
    assert (listed["total"], listed["totalIsCapped"]) == (1, False)
    shown = api.get(f"/api/proposals/{offer.pk}")
    assert listed["proposals"] == [shown]
    assert (shown["tool"], shown["cause"], shown["mode"]) == ("propose_interval", "model", "approve")
    assert shown["argumentsAsked"]["intervalMs"] == 30_000
    assert shown["offerExpiresAt"] is not None
    approved = api.post(f"/api/proposals/{offer.pk}/approve")
    assert (approved["status"], approved["decidedBy"]) == ("applied", str(cast.alice.pk))
    endpoint = Endpoint.objects.get(pk=offer.endpoint_id)
    shown = api.get(f"/api/jobs/{endpoint.job_id}/endpoints/{endpoint.pk}")
    assert (shown["aiHintIntervalMs"], shown["aiHintIntervalProposalId"]) == (30_000, str(offer.pk))
    assert approved["hintExpiresAt"] == shown["aiHintIntervalExpiresAt"]
    status, body = api.send("POST", f"/api/proposals/{offer.pk}/approve")
    assert (status, faults(body)) == (409, [("not_pending", None)])


def test_a_rejected_offer_holds_the_planner_back(api: Api, offer: Proposal) -> None:
    assert api.post(f"/api/proposals/{offer.pk}/reject")["status"] == "rejected"
    assert Endpoint.objects.get(pk=offer.endpoint_id).planner_hold_until > utc_now()
    assert api.get("/api/proposals?status=pending")["proposals"] == []


def test_an_applied_proposal_is_undone_once(cast: Cast, api: Api) -> None:
    hint = file(make_endpoint(make_job(cast.alice)))
    assert hint is not None
    undone = api.post(f"/api/proposals/{hint.pk}/undo")
    assert (undone["status"], undone["endedBy"]) == ("undone", "undone")
    status, body = api.send("POST", f"/api/proposals/{hint.pk}/undo")
    assert (status, faults(body)) == (409, [("not_in_force", None)])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"min_interval_ms": 7_200_000}, "proposal_out_of_bounds"),
        ({"status": "paused", "next_run_at": None, "next_slot_at": None, "next_source": None}, "endpoint_not_active"),
    ],
)
def test_an_offer_that_no_longer_fits_is_refused_and_stays_open(
    api: Api, offer: Proposal, fields: dict[str, Any], code: str
) -> None:
    Endpoint.objects.filter(pk=offer.endpoint_id).update(**fields)
    status, body = api.send("POST", f"/api/proposals/{offer.pk}/approve")
    assert (status, faults(body)) == (409, [(code, None)])
    assert api.get(f"/api/proposals/{offer.pk}")["status"] == "pending"


@pytest.mark.parametrize("verdict", ["approve", "reject"])
def test_an_offer_that_ran_out_cannot_be_decided(api: Api, offer: Proposal, verdict: str) -> None:
    Proposal.objects.update(offer_expires_at=utc_now() - timedelta(seconds=1))
    status, body = api.send("POST", f"/api/proposals/{offer.pk}/{verdict}")
    assert (status, faults(body)) == (409, [("offer_expired", None)])


@pytest.mark.parametrize("verdict", ["approve", "reject", "undo"])
@pytest.mark.parametrize("who", ["bob", "operator"])
def test_nobody_decides_for_somebody_else(cast: Cast, offer: Proposal, who: str, verdict: str) -> None:
    stranger = Api(getattr(cast, who))
    assert stranger.send("POST", f"/api/proposals/{offer.pk}/{verdict}")[0] == 404
    assert stranger.get("/api/proposals")["proposals"] == []
    offer.refresh_from_db()
    assert offer.status == "pending"


def test_a_reading_key_reads_and_decides_nothing(cast: Cast, offer: Proposal) -> None:
    reader = Api(cast.alice, (Scope.READ,))
    assert reader.get(f"/api/proposals/{offer.pk}")["status"] == "pending"
    status, body = reader.send("POST", f"/api/proposals/{offer.pk}/approve")
    assert (status, faults(body)) == (403, [("scope_missing", None)])


def test_verdicts_take_no_fields(api: Api, offer: Proposal) -> None:
    status, body = api.send("POST", f"/api/proposals/{offer.pk}/approve", {"ttlMs": 1})
    assert (status, faults(body)) == (400, [("unknown_field", "ttlMs")])


def test_proposals_are_filtered_and_paged(cast: Cast, api: Api) -> None:
    job = make_job(cast.alice)
    first, second = (make_endpoint(job, planner_mode=PlannerMode.SHADOW) for _ in range(2))
    other = make_endpoint(make_job(cast.alice))
    ids = [str(proposal.pk) for endpoint in (first, second, other) if (proposal := file(endpoint)) is not None]

    def listed(query: str) -> list[str]:
        return [proposal["id"] for proposal in api.get(f"/api/proposals?{query}")["proposals"]]

    assert listed("") == ids[::-1]
    assert listed("status=shadow") == [ids[1], ids[0]]
    assert listed(f"endpointId={second.pk}") == [ids[1]]
    assert listed(f"jobId={job.pk}&status=shadow&limit=1&offset=1") == [ids[0]]
    assert listed(f"jobId={uuid4()}") == []
    for query, field in (("status=new", "status"), ("jobId=7", "jobId"), ("limit=0", "limit")):
        status, body = api.send("GET", f"/api/proposals?{query}")
        assert (status, faults(body)[0][1]) == (400, field)


def test_a_session_of_the_rules_shows_what_it_filed_and_why(cast: Cast, api: Api) -> None:
    endpoint = busy_endpoint(job=make_job(cast.alice))
    rules_pass(last_pass_at=None, heuristics=True)
    listed = api.get(f"/api/endpoints/{endpoint.pk}/sessions")
    (session,) = listed["sessions"]
    assert listed["total"] == 1
    assert (session["backend"], session["status"], session["model"]) == ("rules", "completed", None)
    assert (session["promptTokens"], session["completionTokens"], session["estimatedCostUsd"]) == (0, 0, 0)
    assert "toolCalls" not in session
    shown = api.get(f"/api/sessions/{session['id']}")
    assert session.items() <= shown.items()
    assert shown["reasoning"] == "rules[0]: queue_depth is 412, above 100"
    assert [(call["name"], call["result"]) for call in shown["toolCalls"]] == [("propose_interval", "applied.")]
    (proposal,) = shown["proposals"]
    assert (proposal["sessionId"], proposal["cause"], proposal["causeKey"]) == (session["id"], "rule", "rules[0]")
    for query, count in (("backend=rules", 1), ("backend=openai", 0), ("status=completed", 1), ("status=failed", 0)):
        assert len(api.get(f"/api/endpoints/{endpoint.pk}/sessions?{query}")["sessions"]) == count
    for stranger in (Api(cast.bob), Api(cast.operator)):
        assert stranger.send("GET", f"/api/sessions/{session['id']}")[0] == 404
        assert stranger.send("GET", f"/api/endpoints/{endpoint.pk}/sessions")[0] == 404
