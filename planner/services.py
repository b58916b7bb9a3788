"""The only writers of proposals: a proposal and the hint that it becomes are one transaction, both or neither.

Everything is judged from the fresh row under its lock: mode, hold, bounds, and the rank of what is in force. Hints
themselves are written by `jobs.services`, so that every one of them re-plans its endpoint.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from cronicorn.logging import Event, log_event
from cronicorn.runtime.clock import database_now
from jobs import services
from jobs.errors import ConflictError
from jobs.models import Author, Endpoint, EndpointStatus, JobStatus, PlannerMode
from planner.advice import InForce, says_the_same
from planner.inforce import Advised, advised_on
from planner.models import Proposal, ProposalStatus
from planner.proposals import (
    MAX_PAUSE_PER_WEEK,
    MINUTE_MS,
    TOOLS,
    WEEK,
    Bounded,
    Bounds,
    ClearHints,
    PauseUntil,
    ProposeInterval,
    ProposeNextTime,
    Refusal,
    Speaker,
    Wish,
    bound,
)
from scheduling.plan.facts import EndpointFacts
from scheduling.plan.governor import planner_floor_ms

logger = logging.getLogger(__name__)

SHORTEST_OFFER = timedelta(hours=1)
REPEAT_AFTER = timedelta(hours=1)
HELD_ONCE_WITHIN = timedelta(days=1)
_ON_FILE_ONCE = frozenset({ProposalStatus.HELD, ProposalStatus.REFUSED, ProposalStatus.SHADOW, ProposalStatus.PENDING})


@dataclass(frozen=True, slots=True)
class Filed:
    """What became of a wish. `proposal_id` and `status` are None where there was nothing to store; `note` says why."""

    proposal_id: UUID | None
    status: ProposalStatus | None
    note: str

    @property
    def applied(self) -> bool:
        """Whether the schedule follows it now."""
        return self.status == ProposalStatus.APPLIED


def file_proposal(
    *,
    endpoint_id: UUID,
    wish: Wish,
    speaker: Speaker,
    key: str | None = None,
    session_id: UUID | None = None,
    own_only: bool = False,
) -> Filed:
    """Stores a wish as a proposal and, where the endpoint's mode says so, applies it; atomic.

    Asking twice for what is in force or on file changes nothing. Raises Endpoint.DoesNotExist for an unknown id.
    """
    with transaction.atomic():
        endpoint, now = _locked(endpoint_id)
        mode = PlannerMode(endpoint.planner_mode)
        if mode is PlannerMode.OFF:
            return Filed(None, None, "The planner is off for this endpoint.")
        if endpoint.status != EndpointStatus.ACTIVE or endpoint.job.status != JobStatus.ACTIVE:
            return Filed(None, None, "The endpoint is not active.")
        advised = advised_on(endpoint, now)
        if says_the_same(advised.interval, speaker, key, wish, now):
            return Filed(None, None, "This is in force already.")
        if isinstance(wish, ClearHints) and not _clearable(advised, speaker, own_only):
            return Filed(None, None, "There is no hint that you may clear.")
        status, bounded, why = _judge(endpoint, advised, wish, speaker, mode, now)
        proposal = Proposal(
            session_id=session_id,
            endpoint=endpoint,
            owner_id=endpoint.owner_id,
            cause=speaker.value,
            cause_key=key[:255] if key is not None else None,
            tool=wish.tool,
            arguments_asked=_arguments(wish),
            arguments=_arguments(bounded.wish) if bounded else {},
            mode=mode,
            status=status,
            status_reason=why or None,
            ttl_ms=bounded.ttl_ms if bounded else None,
            reason=bounded.wish.reason if bounded else wish.reason,
        )
        if _on_file(proposal, now):
            return Filed(None, None, why or f"The same is on file already as {status}.")
        if status is ProposalStatus.PENDING:
            proposal.offer_expires_at = now + max(SHORTEST_OFFER, timedelta(milliseconds=proposal.ttl_ms or 0))
            _end(Proposal.objects.filter(endpoint=endpoint, tool=wish.tool, status=ProposalStatus.PENDING), now)
        proposal.save(force_insert=True)
        if status is ProposalStatus.APPLIED and bounded is not None:
            _apply(endpoint, proposal, bounded, speaker, own_only, now)
    facts: dict[str, Any] = {"endpoint": endpoint_id, "proposal": proposal.pk, "tool": wish.tool, "cause": speaker}
    log_event(logger, Event.PROPOSAL_STORED, **facts, status=status)
    return Filed(proposal.pk, status, why)


def approve(*, proposal_id: UUID, by: UUID) -> Proposal:
    """Applies a pending proposal, bounded again by the fresh row; its time to live starts now.

    Raises ConflictError where the offer has ended or cannot be applied any more.
    """
    with transaction.atomic():
        proposal, endpoint, now = _locked_proposal(proposal_id)
        _refuse_unless_pending(proposal, now)
        if endpoint.status != EndpointStatus.ACTIVE or endpoint.job.status != JobStatus.ACTIVE:
            raise ConflictError("endpoint_not_active", "The endpoint or its job is not active.")
        wish = TOOLS[proposal.tool].model_validate(proposal.arguments_asked, strict=False)
        bounded = (
            bound(wish, bounds_of(endpoint, now), now) if isinstance(wish, Wish) else Refusal("It asks for nothing.")
        )
        if isinstance(bounded, Refusal):
            raise ConflictError("proposal_out_of_bounds", bounded.why)
        _refuse_a_persons_pause(bounded.wish, advised_on(endpoint, now))
        proposal.status, proposal.status_reason = ProposalStatus.APPLIED, bounded.note or None
        proposal.arguments, proposal.ttl_ms = _arguments(bounded.wish), bounded.ttl_ms
        proposal.decided_by, proposal.decided_at = by, now
        _apply(endpoint, proposal, bounded, Speaker(proposal.cause), False, now)
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

    A one-shot hint that is gone before its end counts as used: the run that it caused took it away.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH ended AS (
                SELECT p.id, p.hint_expires_at <= %(now)s AS expired FROM proposals p
                JOIN job_endpoints e ON e.id = p.endpoint_id
                WHERE p.status = 'applied' AND p.ended_at IS NULL AND p.hint_expires_at IS NOT NULL
                  AND (p.hint_expires_at <= %(now)s
                       OR p.id NOT IN (COALESCE(e.ai_hint_interval_proposal_id, e.id),
                                       COALESCE(e.ai_hint_next_run_proposal_id, e.id),
                                       COALESCE(e.pause_proposal_id, e.id)))
                ORDER BY p.id LIMIT 1000 FOR NO KEY UPDATE OF p SKIP LOCKED
            )
            UPDATE proposals p SET ended_at = %(now)s,
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


def _locked(endpoint_id: UUID) -> tuple[Endpoint, datetime]:
    found = Endpoint.objects.select_related("job").select_for_update(of=("self",), no_key=True).get(pk=endpoint_id)
    with connection.cursor() as cursor:
        return found, database_now(cursor)


def _locked_proposal(proposal_id: UUID) -> tuple[Proposal, Endpoint, datetime]:
    """The endpoint is locked first, as everywhere, then the proposal is read as it stands."""
    endpoint, now = _locked(Proposal.objects.values_list("endpoint_id", flat=True).get(pk=proposal_id))
    return Proposal.objects.select_for_update().get(pk=proposal_id), endpoint, now


def _judge(
    endpoint: Endpoint, advised: Advised, wish: Wish, speaker: Speaker, mode: PlannerMode, now: datetime
) -> tuple[ProposalStatus, Bounded | None, str]:
    """What is to become of a wish, the wish inside its bounds, and why in words."""
    bounded = bound(wish, bounds_of(endpoint, now), now)
    if isinstance(bounded, Refusal):
        return ProposalStatus.REFUSED, None, bounded.why
    if endpoint.planner_hold_until is not None and endpoint.planner_hold_until > now:
        until = f"{endpoint.planner_hold_until:%Y-%m-%d %H:%M} UTC"
        return ProposalStatus.HELD, bounded, f"A person's word stands until {until}."
    stands = {ProposeInterval: advised.interval, ProposeNextTime: advised.oneshot, PauseUntil: advised.pause}
    hint = stands.get(type(wish))
    if hint is not None and hint.speaker.outranks(speaker):
        return ProposalStatus.REFUSED, bounded, f"What the {hint.speaker.value} set is in force and comes first."
    if isinstance(wish, PauseUntil) and wish.until is None and hint is None:
        return ProposalStatus.REFUSED, bounded, "There is no pause to end."
    if mode is PlannerMode.AUTO:
        return ProposalStatus.APPLIED, bounded, bounded.note
    return ProposalStatus.SHADOW if mode is PlannerMode.SHADOW else ProposalStatus.PENDING, bounded, bounded.note


def bounds_of(endpoint: Endpoint, now: datetime) -> Bounds:
    """What the endpoint allows the planner at this moment."""
    facts = EndpointFacts(
        created_at=endpoint.created_at,
        anchor_at=endpoint.anchor_at,
        interval_ms=endpoint.baseline_interval_ms,
        failure_count=endpoint.failure_count,
        hint_floor_ms=settings.ENV.hint_floor_ms,
    )
    return Bounds(
        min_interval_ms=endpoint.min_interval_ms,
        max_interval_ms=endpoint.max_interval_ms,
        floor_ms=planner_floor_ms(facts),
        last_started_at=endpoint.last_started_at,
        pause_left=MAX_PAUSE_PER_WEEK - _paused_this_week(endpoint, now),
        runs_once=endpoint.run_once_at is not None,
    )


def _paused_this_week(endpoint: Endpoint, now: datetime) -> timedelta:
    """How long the planner's own pauses lasted in the last seven days; the one in force counts up to now."""
    pauses = Proposal.objects.filter(
        endpoint=endpoint, tool=PauseUntil.tool, hint_expires_at__gt=now - WEEK, applied_at__isnull=False
    ).values_list("applied_at", "hint_expires_at", "ended_at")
    total = timedelta(0)
    for applied_at, expires_at, ended_at in pauses:
        if applied_at is None or expires_at is None:
            continue
        end = min(expires_at, ended_at or expires_at, now)
        total += max(end - max(applied_at, now - WEEK), timedelta(0))
    return total


def _clearable(advised: Advised, speaker: Speaker, own_only: bool) -> bool:
    return any(_may_clear(hint, speaker, own_only) for hint in (advised.interval, advised.oneshot))


def _may_clear(hint: InForce | None, speaker: Speaker, own_only: bool) -> bool:
    if hint is None or hint.speaker is Speaker.PERSON:
        return False
    return hint.speaker is speaker if own_only else not hint.speaker.outranks(speaker)


def _arguments(wish: Wish) -> dict[str, Any]:
    """The arguments as stored; the name of a sibling is left out, for the proposal stands on that endpoint."""
    return wish.model_dump(mode="json", exclude={"endpoint"})


def _on_file(proposal: Proposal, now: datetime) -> bool:
    """Whether the last word of this speaker on this was the same and is still fresh, so that it is stored once."""
    if proposal.status not in _ON_FILE_ONCE:
        return False
    latest = (
        Proposal.objects.filter(
            endpoint=proposal.endpoint, tool=proposal.tool, cause=proposal.cause, cause_key=proposal.cause_key
        )
        .order_by("-created_at", "-id")
        .first()
    )
    if latest is None or latest.status != proposal.status:
        return False
    if latest.arguments_asked.get("interval_ms") != proposal.arguments_asked.get("interval_ms"):
        return False
    if proposal.status == ProposalStatus.PENDING:
        return latest.offer_expires_at is not None and latest.offer_expires_at > now
    fresh_for = HELD_ONCE_WITHIN if proposal.status == ProposalStatus.HELD else REPEAT_AFTER
    return latest.created_at > now - fresh_for


def _apply(
    endpoint: Endpoint, proposal: Proposal, bounded: Bounded, speaker: Speaker, own_only: bool, now: datetime
) -> None:
    """Writes the hint of a proposal and what came of it; the hint that it replaces is ended."""
    wish = bounded.wish
    proposal.next_run_before = endpoint.next_run_at
    if isinstance(wish, ProposeInterval):
        _replace(proposal, endpoint.ai_hint_interval_proposal_id, {"interval_ms": endpoint.ai_hint_interval_ms}, now)
        changed = services.set_interval_hint(
            endpoint_id=endpoint.pk,
            interval_ms=wish.interval_ms,
            ttl_ms=wish.ttl_minutes * MINUTE_MS,
            reason=wish.reason,
            author=Author.PLANNER,
            proposal_id=proposal.pk,
        )
        proposal.hint_expires_at = changed.ai_hint_interval_expires_at
    elif isinstance(wish, ProposeNextTime):
        at = endpoint.ai_hint_next_run_at
        _replace(proposal, endpoint.ai_hint_next_run_proposal_id, {"next_run_at": at and at.isoformat()}, now)
        changed = services.set_oneshot_hint(
            endpoint_id=endpoint.pk,
            next_run_at=wish.next_run_at,
            ttl_ms=wish.ttl_minutes * MINUTE_MS,
            reason=wish.reason,
            author=Author.PLANNER,
            proposal_id=proposal.pk,
        )
        proposal.hint_expires_at = changed.ai_hint_next_run_expires_at
    elif isinstance(wish, PauseUntil):
        until = endpoint.paused_until
        _replace(proposal, endpoint.pause_proposal_id, {"paused_until": until and until.isoformat()}, now)
        if wish.until is None:
            changed = services.resume(endpoint_id=endpoint.pk, author=Author.PLANNER)
        else:
            changed = services.pause(
                endpoint_id=endpoint.pk,
                until=wish.until,
                reason=wish.reason,
                author=Author.PLANNER,
                proposal_id=proposal.pk,
            )
            proposal.hint_expires_at = wish.until
    else:
        changed = _clear(endpoint, proposal, speaker, own_only, now)
    proposal.applied_at, proposal.next_run_after = now, changed.next_run_at
    proposal.save()


def _clear(endpoint: Endpoint, proposal: Proposal, speaker: Speaker, own_only: bool, now: datetime) -> Endpoint:
    advised = advised_on(endpoint, now)
    ended: list[UUID | None] = []
    with services.changing(endpoint.pk) as (changed, _):
        if _may_clear(advised.interval, speaker, own_only):
            ended.append(changed.ai_hint_interval_proposal_id)
            proposal.replaced_hint = {"interval_ms": changed.ai_hint_interval_ms}
            services.drop_interval_hint(changed)
        if _may_clear(advised.oneshot, speaker, own_only):
            ended.append(changed.ai_hint_next_run_proposal_id)
            services.drop_oneshot_hint(changed)
    _end(Proposal.objects.filter(pk__in=[key for key in ended if key is not None]), now, ProposalStatus.CLEARED)
    return changed


def _replace(proposal: Proposal, replaced_id: UUID | None, replaced: dict[str, Any], now: datetime) -> None:
    if any(value is not None for value in replaced.values()):
        proposal.replaced_hint = replaced | {"proposal_id": str(replaced_id) if replaced_id else None}
    if replaced_id is not None:
        _end(Proposal.objects.filter(pk=replaced_id, status=ProposalStatus.APPLIED), now)


def _end(proposals: Any, now: datetime, status: ProposalStatus = ProposalStatus.SUPERSEDED) -> None:
    proposals.update(status=status, ended_at=now, ended_by=status.value)


def _decide(proposal: Proposal, status: ProposalStatus, by: UUID, now: datetime) -> None:
    proposal.status, proposal.decided_by, proposal.decided_at = status, by, now
    proposal.save()


def _refuse_unless_pending(proposal: Proposal, now: datetime) -> None:
    if proposal.status != ProposalStatus.PENDING:
        raise ConflictError("not_pending", f"The proposal is {proposal.status}; there is nothing to decide.")
    if proposal.offer_expires_at is not None and proposal.offer_expires_at <= now:
        raise ConflictError("offer_expired", "The offer has expired.")


def _refuse_a_persons_pause(wish: Wish, advised: Advised) -> None:
    if isinstance(wish, PauseUntil) and advised.pause is not None and advised.pause.speaker is Speaker.PERSON:
        raise ConflictError("paused_by_a_person", "A person paused this endpoint; resume it first.")


def _hold_until(endpoint: Endpoint, now: datetime) -> datetime:
    until = now + timedelta(milliseconds=settings.ENV.planner_hold_ms)
    return until if endpoint.planner_hold_until is None else max(until, endpoint.planner_hold_until)
