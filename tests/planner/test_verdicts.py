"""What becomes of a proposal: approval, rejection, undo, and the end."""

from datetime import timedelta
from typing import Any

import pytest

from jobs import services as hints
from jobs.errors import ConflictError
from jobs.models import Author, Endpoint, EndpointStatus, PlannerMode
from planner.models import Proposal, ProposalStatus
from planner.proposals.verdicts import approve, end_the_ended, reject, undo
from planner.proposals.wishes import ClearHints, PauseUntil, ProposeNextTime, Speaker
from tests.planner.scenes import file, offered, utc_now
from tests.support.factories import make_endpoint, make_user

pytestmark = pytest.mark.django_db


def test_an_approved_proposal_is_applied_and_its_time_starts_then() -> None:
    endpoint, proposal = offered()
    person = make_user()
    approved = approve(proposal_id=proposal.pk, by=person.pk)
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms == 30_000
    assert (approved.status, approved.decided_by) == (ProposalStatus.APPLIED, person.pk)
    assert approved.hint_expires_at == endpoint.ai_hint_interval_expires_at > utc_now() + timedelta(minutes=59)
    with pytest.raises(ConflictError, match="nothing to decide"):
        approve(proposal_id=proposal.pk, by=person.pk)


def test_approval_bounds_anew_by_the_fresh_row() -> None:
    endpoint, proposal = offered()
    Endpoint.objects.filter(pk=endpoint.pk).update(min_interval_ms=60_000)
    assert approve(proposal_id=proposal.pk, by=make_user().pk).arguments["interval_ms"] == 60_000
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms == 60_000


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (
            {"status": EndpointStatus.PAUSED, "next_run_at": None, "next_slot_at": None, "next_source": None},
            "endpoint_not_active",
        ),
        ({"min_interval_ms": 7_200_000}, "proposal_out_of_bounds"),
    ],
)
def test_approval_is_refused_where_it_cannot_be_applied(fields: dict[str, Any], code: str) -> None:
    endpoint, proposal = offered()
    Endpoint.objects.filter(pk=endpoint.pk).update(**fields)
    with pytest.raises(ConflictError) as refused:
        approve(proposal_id=proposal.pk, by=make_user().pk)
    assert refused.value.code == code
    proposal.refresh_from_db()
    assert proposal.status == ProposalStatus.PENDING


def test_an_offer_that_cannot_be_read_any_more_is_a_conflict() -> None:
    _, proposal = offered()
    Proposal.objects.filter(pk=proposal.pk).update(arguments_asked=proposal.arguments_asked | {"reason": ""})
    with pytest.raises(ConflictError) as refused:
        approve(proposal_id=proposal.pk, by=make_user().pk)
    assert refused.value.code == "proposal_unreadable"


def test_an_expired_offer_cannot_be_approved() -> None:
    _, proposal = offered()
    Proposal.objects.update(offer_expires_at=utc_now() - timedelta(seconds=1))
    with pytest.raises(ConflictError, match="expired"):
        approve(proposal_id=proposal.pk, by=make_user().pk)
    assert end_the_ended(utc_now()) == 1
    proposal.refresh_from_db()
    assert proposal.status == ProposalStatus.EXPIRED


def test_a_rejection_holds_the_planner_back() -> None:
    endpoint, proposal = offered()
    reject(proposal_id=proposal.pk, by=make_user().pk)
    Endpoint.objects.filter(pk=endpoint.pk).update(planner_mode=PlannerMode.AUTO)
    held = file(endpoint)
    assert held is not None
    assert held.status == ProposalStatus.HELD
    assert file(endpoint) is None


def test_undo_takes_back_that_hint_only_and_holds_the_planner_back() -> None:
    endpoint = make_endpoint()
    interval = file(endpoint)
    oneshot = file(endpoint, ProposeNextTime(next_run_at=utc_now() + timedelta(minutes=2), reason="look"))
    pause = file(endpoint, PauseUntil(until=utc_now() + timedelta(hours=1), reason="rest"))
    assert interval is not None
    assert oneshot is not None
    assert pause is not None
    person = make_user().pk
    undone = undo(proposal_id=interval.pk, by=person)
    endpoint.refresh_from_db()
    assert (undone.status, undone.ended_by) == (ProposalStatus.UNDONE, "undone")
    assert endpoint.ai_hint_interval_ms is None
    assert endpoint.ai_hint_next_run_at is not None
    assert endpoint.planner_hold_until > utc_now() + timedelta(minutes=59)
    undo(proposal_id=pause.pk, by=person)
    undo(proposal_id=oneshot.pk, by=person)
    endpoint.refresh_from_db()
    assert (endpoint.paused_until, endpoint.ai_hint_next_run_at) == (None, None)
    with pytest.raises(ConflictError, match="no longer in force"):
        undo(proposal_id=interval.pk, by=person)


def test_proposals_end_when_their_hint_does() -> None:
    expired, cleared, alive, used = (make_endpoint() for _ in range(4))
    for endpoint in (expired, cleared, alive):
        file(endpoint)
    file(used, ProposeNextTime(next_run_at=utc_now(), reason="look"))
    hints.clear_hints(endpoint_id=used.pk, author=Author.PLANNER)
    Proposal.objects.filter(endpoint=expired).update(hint_expires_at=utc_now())
    hints.clear_hints(endpoint_id=cleared.pk, author=Author.USER)
    assert end_the_ended(utc_now()) == 3
    assert end_the_ended(utc_now()) == 0
    found = Proposal.objects.values_list("endpoint", "status", "ended_by")
    assert set(found) == {
        (expired.pk, "expired", "expired"),
        (cleared.pk, "cleared", "cleared"),
        (alive.pk, "applied", None),
        (used.pk, "applied", "used"),
    }


def test_a_hint_that_has_run_out_cannot_be_undone() -> None:
    endpoint = make_endpoint()
    hint = file(endpoint)
    assert hint is not None
    Proposal.objects.update(hint_expires_at=utc_now() - timedelta(seconds=1))
    with pytest.raises(ConflictError, match="no longer in force"):
        undo(proposal_id=hint.pk, by=make_user().pk)
    endpoint.refresh_from_db()
    assert endpoint.planner_hold_until is None


def test_an_offered_pause_is_judged_by_the_schedule_of_the_moment_of_approval() -> None:
    endpoint, proposal = offered(PauseUntil(until=utc_now() + timedelta(minutes=30), reason="rest"))
    hints.set_interval_hint(
        endpoint_id=endpoint.pk, interval_ms=7_200_000, ttl_ms=36_000_000, reason="mine", author=Author.USER
    )
    with pytest.raises(ConflictError) as refused:
        approve(proposal_id=proposal.pk, by=make_user().pk)
    assert refused.value.code == "pause_defers_nothing"


def test_an_offered_pause_does_not_replace_a_persons() -> None:
    endpoint, proposal = offered(PauseUntil(until=utc_now() + timedelta(minutes=30), reason="rest"))
    hints.pause(endpoint_id=endpoint.pk, until=utc_now() + timedelta(hours=1), reason="mine", author=Author.USER)
    with pytest.raises(ConflictError) as refused:
        approve(proposal_id=proposal.pk, by=make_user().pk)
    assert refused.value.code == "paused_by_a_person"


def test_what_a_person_cleared_ended_then_and_not_when_the_sweep_came() -> None:
    endpoint = make_endpoint()
    proposal = file(endpoint)
    assert proposal is not None
    cleared_at = hints.clear_hints(endpoint_id=endpoint.pk, author=Author.USER).updated_at
    assert end_the_ended(utc_now() + timedelta(minutes=1)) == 1
    proposal.refresh_from_db()
    assert (proposal.ended_by, proposal.ended_at) == ("cleared", cleared_at)


def test_approving_that_a_rule_drops_its_own_hint_leaves_the_others() -> None:
    endpoint = make_endpoint()
    file(endpoint, speaker=Speaker.RULE, key="busy")
    file(endpoint, ProposeNextTime(next_run_at=utc_now() + timedelta(minutes=20), reason="look"))
    Endpoint.objects.update(planner_mode=PlannerMode.APPROVE)
    clear = file(endpoint, ClearHints(reason="calm"), Speaker.RULE, key="busy", own_only=True)
    assert clear is not None
    approve(proposal_id=clear.pk, by=make_user().pk)
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms is None
    assert endpoint.ai_hint_next_run_at is not None


def test_an_offered_run_is_made_up_for_only_within_its_time_to_live() -> None:
    _, proposal = offered(ProposeNextTime(next_run_at=utc_now(), ttl_minutes=30, reason="look"))
    Proposal.objects.update(created_at=utc_now() - timedelta(minutes=31))
    asked = {**proposal.arguments_asked, "next_run_at": (utc_now() - timedelta(minutes=31)).isoformat()}
    Proposal.objects.update(arguments_asked=asked)
    with pytest.raises(ConflictError) as refused:
        approve(proposal_id=proposal.pk, by=make_user().pk)
    assert refused.value.code == "time_has_passed"
    Proposal.objects.update(created_at=utc_now() - timedelta(minutes=29))
    assert approve(proposal_id=proposal.pk, by=make_user().pk).status == ProposalStatus.APPLIED


def test_nothing_is_approved_where_the_planner_was_switched_off() -> None:
    _, proposal = offered()
    Endpoint.objects.update(planner_mode=PlannerMode.OFF)
    with pytest.raises(ConflictError) as refused:
        approve(proposal_id=proposal.pk, by=make_user().pk)
    assert refused.value.code == "planner_off"


def test_a_pause_that_had_run_out_was_not_superseded_by_the_next() -> None:
    endpoint = make_endpoint()
    first = file(endpoint, PauseUntil(until=utc_now() + timedelta(minutes=30), reason="rest"))
    assert first is not None
    before = utc_now() - timedelta(seconds=1)
    Endpoint.objects.update(paused_until=before)
    Proposal.objects.update(hint_expires_at=before)
    assert file(endpoint, PauseUntil(until=utc_now() + timedelta(minutes=30), reason="rest")) is not None
    first.refresh_from_db()
    assert (first.status, first.ended_by) == ("expired", "expired")
