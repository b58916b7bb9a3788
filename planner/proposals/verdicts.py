"""What people, and time, make of proposals: approve, reject, undo, and the end of what has ended.

Each is one transaction that locks the endpoint first, as everywhere, and then reads the proposal as it stands.
"""

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from jobs import services
from jobs.errors import ConflictError
from jobs.models import Endpoint, PlannerMode
from planner.models import Proposal, ProposalStatus
from planner.proposals.filing import apply, locked_endpoint, standing_of, stored_arguments
from planner.proposals.judgement import Standing, pointless_pause
from planner.proposals.wishes import (
    BadArgumentsError,
    Bounded,
    PauseUntil,
    ProposeNextTime,
    Refusal,
    Speaker,
    Wish,
    bound,
    stored_wish,
)
from scheduling.plan.wording import instant_words


def approve(*, proposal_id: UUID, by: UUID) -> Proposal:
    """Applies a pending proposal, bounded again by the fresh row; its time to live starts now.

    Raises ConflictError where the offer has ended or cannot be applied any more.
    """
    with transaction.atomic():
        proposal, endpoint, now = _locked_proposal(proposal_id)
        _refuse_unless_pending(proposal, now)
        wish = _wish_of(proposal)
        speaker, standing = Speaker(proposal.cause), standing_of(endpoint, now, wish)
        bounded = _still_possible(wish, standing, speaker=speaker, made_at=proposal.created_at, now=now)
        proposal.status, proposal.status_reason = ProposalStatus.APPLIED, bounded.note or None
        proposal.arguments, proposal.ttl_ms = stored_arguments(bounded.wish), bounded.ttl_ms
        proposal.decided_by, proposal.decided_at = by, now
        apply(endpoint, proposal, bounded, speaker=speaker, own_only=proposal.own_only, now=now)
    return proposal


def reject(*, proposal_id: UUID, by: UUID) -> Proposal:
    """Turns a pending proposal down and holds the planner back. Raises ConflictError where the offer has ended."""
    with transaction.atomic():
        proposal, endpoint, now = _locked_proposal(proposal_id)
        _refuse_unless_pending(proposal, now)
        _decide(proposal, ProposalStatus.REJECTED, by, now)
        Endpoint.objects.filter(pk=endpoint.pk).update(planner_hold_until=_hold_until(endpoint, now))
    return proposal


def undo(*, proposal_id: UUID, by: UUID) -> Proposal:
    """Takes back what an applied proposal set, that hint only, and holds the planner back.

    Raises ConflictError where it is no longer in force.
    """
    with transaction.atomic():
        proposal, _, _ = _locked_proposal(proposal_id)
        with services.changing(proposal.endpoint_id) as (endpoint, now):
            if proposal.hint_expires_at is None or proposal.hint_expires_at <= now:
                raise ConflictError("not_in_force", "This proposal is no longer in force.")
            if endpoint.ai_hint_interval_proposal_id == proposal.pk:
                services.drop_interval_hint(endpoint)
            elif endpoint.ai_hint_next_run_proposal_id == proposal.pk:
                services.drop_oneshot_hint(endpoint)
            elif endpoint.pause_proposal_id == proposal.pk:
                endpoint.paused_until = endpoint.pause_reason = endpoint.paused_by = endpoint.pause_proposal_id = None
            else:
                raise ConflictError("not_in_force", "This proposal is no longer in force.")
            endpoint.planner_hold_until = _hold_until(endpoint, now)
        proposal.ended_at, proposal.ended_by = now, "undone"
        _decide(proposal, ProposalStatus.UNDONE, by, now)
    return proposal


def end_the_ended(now: datetime) -> int:
    """Closes proposals whose hint ran out, was cleared, or was used up, and offers nobody took; returns how many.

    A one-shot hint that is gone before its end counts as used: the run that it caused took it away. Any other one ended
    when its endpoint was last written to, by whoever took it away.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH ended AS (
                SELECT p.id, p.hint_expires_at <= %(now)s AS expired,
                       LEAST(%(now)s, GREATEST(p.applied_at, e.updated_at)) AS gone_at
                FROM proposals p
                JOIN job_endpoints e ON e.id = p.endpoint_id
                WHERE p.status = 'applied' AND p.ended_at IS NULL AND p.hint_expires_at IS NOT NULL
                  AND (p.hint_expires_at <= %(now)s
                       OR p.id NOT IN (COALESCE(e.ai_hint_interval_proposal_id, e.id),
                                       COALESCE(e.ai_hint_next_run_proposal_id, e.id),
                                       COALESCE(e.pause_proposal_id, e.id)))
                ORDER BY p.id LIMIT 1000 FOR NO KEY UPDATE OF p SKIP LOCKED
            )
            UPDATE proposals p SET
                ended_at = CASE WHEN ended.expired OR p.tool = 'propose_next_time' THEN %(now)s ELSE ended.gone_at END,
                status = CASE WHEN ended.expired THEN 'expired' WHEN p.tool = 'propose_next_time' THEN p.status
                              ELSE 'cleared' END,
                ended_by = CASE WHEN ended.expired THEN 'expired' WHEN p.tool = 'propose_next_time' THEN 'used'
                                ELSE 'cleared' END
            FROM ended WHERE ended.id = p.id
            """,
            {"now": now},
        )
        closed: int = cursor.rowcount
    offers = Proposal.objects.filter(status=ProposalStatus.PENDING, offer_expires_at__lte=now)
    return closed + offers.update(status=ProposalStatus.EXPIRED, ended_at=now, ended_by="expired")


def _locked_proposal(proposal_id: UUID) -> tuple[Proposal, Endpoint, datetime]:
    endpoint, now = locked_endpoint(Proposal.objects.values_list("endpoint_id", flat=True).get(pk=proposal_id))
    return Proposal.objects.select_for_update().get(pk=proposal_id), endpoint, now


def _wish_of(proposal: Proposal) -> Wish:
    try:
        return stored_wish(proposal.tool, proposal.arguments_asked)
    except BadArgumentsError as refusal:
        raise ConflictError("proposal_unreadable", str(refusal)) from refusal


def _decide(proposal: Proposal, status: ProposalStatus, by: UUID, now: datetime) -> None:
    proposal.status, proposal.decided_by, proposal.decided_at = status, by, now
    proposal.save()


def _refuse_unless_pending(proposal: Proposal, now: datetime) -> None:
    if proposal.applied_at is None and proposal.status_at(now) == ProposalStatus.EXPIRED:
        when = f" at {instant_words(proposal.offer_expires_at, now)}" if proposal.offer_expires_at is not None else ""
        raise ConflictError("offer_expired", f"The offer expired{when}; nothing can be decided about it any more.")
    if proposal.status != ProposalStatus.PENDING:
        raise ConflictError("not_pending", f"The proposal is {proposal.status}; there is nothing to decide.")


def _still_possible(wish: Wish, standing: Standing, *, speaker: Speaker, made_at: datetime, now: datetime) -> Bounded:
    """The wish inside the bounds as they are now. Raises ConflictError where it cannot be applied any more."""
    if standing.mode == PlannerMode.OFF:
        raise ConflictError("planner_off", "The planner is off for this endpoint.")
    if isinstance(wish, ProposeNextTime):
        meant_for = max(wish.next_run_at, made_at)
        if meant_for + timedelta(minutes=wish.ttl_minutes) <= now:
            words = instant_words(meant_for, now)
            raise ConflictError(
                "time_has_passed", f"The run was meant for {words}; use run now for one at this moment."
            )
    if not standing.active:
        raise ConflictError("endpoint_not_active", "The endpoint or its job is not active.")
    bounded = bound(wish, standing.bounds, now, speaker=speaker)
    if isinstance(bounded, Refusal):
        raise ConflictError("proposal_out_of_bounds", bounded.why)
    if isinstance(wish, PauseUntil) and standing.pause is not None and standing.pause.speaker is Speaker.PERSON:
        raise ConflictError("paused_by_a_person", "A person paused this endpoint; resume it first.")
    pointless = pointless_pause(bounded.wish, standing.next_run_at, now)
    if pointless is not None:
        raise ConflictError("pause_defers_nothing", pointless)
    return bounded


def _hold_until(endpoint: Endpoint, now: datetime) -> datetime:
    until = now + timedelta(milliseconds=settings.ENV.planner_hold_ms)
    return until if endpoint.planner_hold_until is None else max(until, endpoint.planner_hold_until)
