"""The only writer of new proposals: a proposal and the hint that it becomes are one transaction, both or neither.

Everything is judged from the fresh row under its lock, by `planner.proposals.judgement`. Hints themselves are written
by `jobs.services`, so that every one of them re-plans its endpoint.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce

from cronicorn.logging import Event, log_event
from cronicorn.runtime.clock import database_now
from jobs import services
from jobs.models import Author, Endpoint, EndpointStatus, JobStatus, PlannerMode
from jobs.replan import plan
from planner.models import Proposal, ProposalStatus
from planner.proposals.authors import at_endpoint, author_words, speaks_of_failures
from planner.proposals.inforce import advised_on
from planner.proposals.judgement import InForce, Judged, Standing, Verdict, judge, may_clear
from planner.proposals.pace import usual_gap_ms
from planner.proposals.wishes import (
    ALLOWANCE_SPEAKERS,
    MAX_PAUSE_PER_WEEK,
    MAX_REASON,
    MINUTE_MS,
    WEEK,
    Bounded,
    Bounds,
    ClearHints,
    PauseUntil,
    ProposeInterval,
    ProposeNextTime,
    Speaker,
    Wish,
)
from scheduling.cron.cadence import Cadence, CronError, parse_cadence
from scheduling.plan.facts import EndpointFacts
from scheduling.plan.governor import planner_floor_ms
from scheduling.plan.row import PlanRow

logger = logging.getLogger(__name__)

SHORTEST_OFFER = timedelta(hours=1)
OFFER_STANDS = timedelta(minutes=10)
MOST_REMEMBERED = 20
# How a run ended that a sibling's rule had asked for and that was put off until the rule's reason was gone.
WITHDRAWN = "withdrawn"
# What changes no schedule is stored once in so long a time.
_FRESH_FOR = {
    ProposalStatus.HELD: timedelta(days=1),
    ProposalStatus.REFUSED: timedelta(hours=1),
}


@dataclass(frozen=True, slots=True)
class Filed:
    """What became of a wish. `proposal_id` and `status` are None where there was nothing to store; `note` says why.

    With `renewed` they are those of the proposal whose hint now lasts longer.
    """

    proposal_id: UUID | None
    status: ProposalStatus | None
    note: str
    renewed: bool = False


def file_proposal(
    *,
    endpoint_id: UUID,
    wish: Wish,
    speaker: Speaker,
    key: str | None = None,
    session_id: UUID | None = None,
    own_only: bool = False,
    from_sibling: str | None = None,
) -> Filed:
    """Stores a wish as a proposal and, where the endpoint's mode says so, applies it; atomic.

    `from_sibling` names the other endpoint whose answers led the model to it: it may only make this one run sooner.
    Asking twice for what is in force or on file changes nothing, but that an interval hint at half of its life lasts
    longer: it stays the hint of the same proposal. Raises Endpoint.DoesNotExist for an unknown id.
    """
    key = key[:255] if key is not None else None
    if from_sibling is not None:
        wish = wish.model_copy(update={"reason": at_endpoint(wish.reason, from_sibling, MAX_REASON)})
    with transaction.atomic():
        endpoint, now = locked_endpoint(endpoint_id)
        standing = standing_of(endpoint, now, wish)
        judged = judge(
            wish, standing, speaker=speaker, key=key, own_only=own_only, now=now, from_sibling=from_sibling is not None
        )
        if judged.verdict is Verdict.NOTHING:
            return Filed(None, None, judged.why)
        if judged.renews and judged.bounded is not None:
            return _renew(endpoint, standing, judged.bounded, now)
        proposal = _proposal(endpoint, wish, judged, speaker=speaker, key=key, session_id=session_id, now=now)
        proposal.own_only = own_only
        if _on_file(proposal, now):
            return Filed(None, None, judged.why or f"The same is on file already as {proposal.status}.")
        if judged.verdict is Verdict.PENDING:
            better = _better_offer(proposal, speaker, now)
            if better is not None:
                return Filed(None, None, better)
            proposal.offer_expires_at = now + max(SHORTEST_OFFER, timedelta(milliseconds=proposal.ttl_ms or 0))
        if judged.verdict in (Verdict.PENDING, Verdict.APPLIED):
            end(Proposal.objects.filter(endpoint=endpoint, tool=wish.tool, status=ProposalStatus.PENDING), now)
        if judged.verdict is Verdict.SHADOW and judged.bounded is not None:
            _follow(proposal, judged.bounded, standing, own_only=own_only, now=now)
        proposal.save(force_insert=True)
        if judged.verdict is Verdict.APPLIED and judged.bounded is not None:
            apply(endpoint, proposal, judged.bounded, speaker=speaker, own_only=own_only, now=now)
    facts: dict[str, Any] = {"endpoint": endpoint_id, "proposal": proposal.pk, "tool": wish.tool, "cause": speaker}
    log_event(logger, Event.PROPOSAL_STORED, **facts, status=proposal.status)
    return Filed(proposal.pk, ProposalStatus(proposal.status), judged.why)


def file_refusal(*, endpoint_id: UUID, wish: Wish, speaker: Speaker, key: str | None, why: str) -> Filed:
    """Stores that a wish for a sibling could not even be asked there, on the endpoint that asked; atomic.

    Told again only after as long as any refusal. Raises Endpoint.DoesNotExist for an unknown id.
    """
    with transaction.atomic():
        endpoint, now = locked_endpoint(endpoint_id)
        judged = Judged(Verdict.REFUSED, None, why)
        proposal = _proposal(endpoint, wish, judged, speaker=speaker, key=key, session_id=None, now=now)
        proposal.arguments_asked["endpoint"] = wish.endpoint
        if _on_file(proposal, now):
            return Filed(None, None, why)
        proposal.save(force_insert=True)
    facts: dict[str, Any] = {"endpoint": endpoint_id, "proposal": proposal.pk, "tool": wish.tool, "cause": speaker}
    log_event(logger, Event.PROPOSAL_STORED, **facts, status=proposal.status)
    return Filed(proposal.pk, ProposalStatus(proposal.status), why)


def withdraw_run(*, endpoint_id: UUID, key: str, why: str) -> None:
    """Drops the one run that a sibling's rule asked for, on offer or in force, if it has not come yet; atomic."""
    with transaction.atomic():
        endpoint, now = locked_endpoint(endpoint_id)
        asked = Proposal.objects.filter(
            endpoint=endpoint, tool=ProposeNextTime.tool, cause=Speaker.RULE.value, cause_key=key, ended_at=None
        )
        end = {"ended_at": now, "ended_by": WITHDRAWN, "status_reason": why[:500]}
        asked.filter(status=ProposalStatus.PENDING).update(status=ProposalStatus.CLEARED, **end)
        asked.filter(status=ProposalStatus.SHADOW, hint_expires_at__gt=now, scorecard__isnull=True).update(**end)
        proposal_id = endpoint.ai_hint_next_run_proposal_id
        if proposal_id is not None and asked.filter(status=ProposalStatus.APPLIED, pk=proposal_id).update(
            status=ProposalStatus.CLEARED, **end
        ):
            with services.changing(endpoint_id) as (changed, _):
                services.drop_oneshot_hint(changed)


def locked_endpoint(endpoint_id: UUID) -> tuple[Endpoint, datetime]:
    """The endpoint under its row lock with its job, and the database's time. Raises Endpoint.DoesNotExist."""
    found = Endpoint.objects.select_related("job").select_for_update(of=("self",), no_key=True).get(pk=endpoint_id)
    with connection.cursor() as cursor:
        return found, database_now(cursor)


def standing_of(endpoint: Endpoint, now: datetime, wish: Wish) -> Standing:
    """What the wish is to be judged by, from the row as it stands."""
    advised = advised_on(endpoint, now)
    return Standing(
        mode=endpoint.planner_mode,
        active=endpoint.status == EndpointStatus.ACTIVE
        and endpoint.job.status == JobStatus.ACTIVE
        and endpoint.owner_active,
        hold_until=endpoint.planner_hold_until,
        interval=advised.interval,
        oneshot=advised.oneshot,
        pause=advised.pause,
        bounds=bounds_of(endpoint, now),
        next_run_at=_run_at_without(_PAUSE, endpoint, now) if isinstance(wish, PauseUntil) else None,
        backed_off_until=_backed_off_until(endpoint, now),
    )


# What a plan is made without, to know what the rest of it says.
_PAUSE = frozenset({"paused_until"})
_ADVICE = _PAUSE | {"ai_hint_interval_ms", "ai_hint_next_run_at", "manual_run_at", "retry_at"}


def _backed_off_until(endpoint: Endpoint, now: datetime) -> datetime | None:
    """When a failing endpoint's own schedule calls next, where a model may not call sooner; else None."""
    if not endpoint.failure_count or endpoint.baseline_interval_ms is None:
        return None
    return None if speaks_of_failures(endpoint.description) else _run_at_without(_ADVICE, endpoint, now)


def _run_at_without(left_out: frozenset[str], endpoint: Endpoint, now: datetime) -> datetime | None:
    """When the endpoint would run without these columns; None when nothing is due."""
    names = PlanRow.__dataclass_fields__.keys() - {"job_status"}
    values: dict[str, Any] = {name: None if name in left_out else getattr(endpoint, name) for name in names}
    row = PlanRow(**values, job_status=endpoint.job.status)
    return plan(row, now, unclaimed=row.lease_owner is None).run_at


def _proposal(
    endpoint: Endpoint,
    wish: Wish,
    judged: Judged,
    *,
    speaker: Speaker,
    key: str | None,
    session_id: UUID | None,
    now: datetime,
) -> Proposal:
    bounded = judged.bounded
    return Proposal(
        session_id=session_id,
        endpoint=endpoint,
        owner_id=endpoint.owner_id,
        created_at=now,
        cause=speaker.value,
        cause_key=key,
        tool=wish.tool,
        arguments_asked=stored_arguments(wish),
        arguments=stored_arguments(bounded.wish) if bounded else {},
        mode=endpoint.planner_mode,
        status=ProposalStatus(judged.verdict.value),
        status_reason=judged.why or None,
        ttl_ms=bounded.ttl_ms if bounded else None,
        reason=bounded.wish.reason if bounded else wish.reason,
    )


def bounds_of(endpoint: Endpoint, now: datetime) -> Bounds:
    """What the endpoint allows the planner at this moment."""
    facts = EndpointFacts(
        created_at=endpoint.created_at,
        anchor_at=endpoint.anchor_at,
        interval_ms=endpoint.baseline_interval_ms,
        cadence=_cadence(endpoint),
        last_slot_at=endpoint.last_slot_at,
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
        usual_gap_ms=usual_gap_ms(endpoint.baseline_interval_ms, endpoint.baseline_cron, endpoint.timezone, now),
    )


def _cadence(endpoint: Endpoint) -> Cadence | None:
    try:
        return parse_cadence(endpoint.baseline_cron, endpoint.timezone) if endpoint.baseline_cron is not None else None
    except CronError:
        return None


def _paused_this_week(endpoint: Endpoint, now: datetime) -> timedelta:
    """How long pauses by model and heuristics lasted in the last seven days; the one in force counts up to now."""
    counts = Q(applied_at__isnull=False)
    if endpoint.planner_mode == PlannerMode.SHADOW:
        counts |= Q(status=ProposalStatus.SHADOW)
    pauses = Proposal.objects.filter(
        counts,
        endpoint=endpoint,
        tool=PauseUntil.tool,
        cause__in=[speaker.value for speaker in ALLOWANCE_SPEAKERS],
        hint_expires_at__gt=now - WEEK,
    ).values_list(Coalesce("applied_at", "created_at"), "hint_expires_at", "ended_at")
    total = timedelta(0)
    for applied_at, expires_at, ended_at in pauses:
        assert expires_at is not None
        end = min(expires_at, ended_at or expires_at, now)
        total += max(end - max(applied_at, now - WEEK), timedelta(0))
    return total


def stored_arguments(wish: Wish) -> dict[str, Any]:
    """The arguments as stored; the name of a sibling is left out, for the proposal stands on that endpoint."""
    return wish.model_dump(mode="json", exclude={"endpoint"})


def _on_file(proposal: Proposal, now: datetime) -> bool:
    """Whether this speaker's last words on this, all that had the same end, hold the same and are still fresh."""
    fresh_for = _FRESH_FOR.get(ProposalStatus(proposal.status))
    if fresh_for is None:
        return False
    said = Proposal.objects.filter(
        endpoint=proposal.endpoint,
        tool=proposal.tool,
        cause=proposal.cause,
        cause_key=proposal.cause_key,
        created_at__gt=now - fresh_for,
    ).order_by("-created_at", "-id")
    alike = takewhile(lambda earlier: earlier.status == proposal.status, said[:MOST_REMEMBERED])
    interval_ms = proposal.arguments_asked.get("interval_ms")
    return any(earlier.arguments_asked.get("interval_ms") == interval_ms for earlier in alike)


def _better_offer(proposal: Proposal, speaker: Speaker, now: datetime) -> str | None:
    """Why the open offer of this kind stands, in words; None where there is none or the new one may replace it.

    Rules and heuristics speak at every run: what they offered stands for a while, so that a person can read it.
    """
    standing = Proposal.objects.filter(
        endpoint=proposal.endpoint, tool=proposal.tool, status=ProposalStatus.PENDING, offer_expires_at__gt=now
    ).first()
    if standing is None:
        return None
    if Speaker(standing.cause).outranks(speaker):
        return f"What the {standing.cause} offered is open and comes first."
    same = standing.cause == speaker and standing.cause_key == proposal.cause_key
    if same and standing.arguments_asked.get("interval_ms") == proposal.arguments_asked.get("interval_ms"):
        return "The same is on offer already."
    if standing.cause == speaker and speaker is not Speaker.MODEL and standing.created_at > now - OFFER_STANDS:
        return "An offer was made a moment ago."
    return None


def apply(
    endpoint: Endpoint, proposal: Proposal, bounded: Bounded, *, speaker: Speaker, own_only: bool, now: datetime
) -> None:
    """Writes the hint of a proposal and what came of it; the hint that it replaces is ended."""
    wish = bounded.wish
    proposal.next_run_before = endpoint.next_run_at
    if isinstance(wish, ProposeInterval):
        _replace(proposal, endpoint.ai_hint_interval_proposal_id, {"interval_ms": endpoint.ai_hint_interval_ms}, now)
        changed = _set_interval(endpoint, wish, proposal)
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
            author_words=author_of(proposal, endpoint),
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
                author_words=author_of(proposal, endpoint),
                proposal_id=proposal.pk,
            )
            proposal.hint_expires_at = wish.until
    else:
        changed = _clear(endpoint, proposal, speaker, own_only, now)
    proposal.applied_at, proposal.next_run_after = now, changed.next_run_at
    proposal.save()


def _renew(endpoint: Endpoint, standing: Standing, bounded: Bounded, now: datetime) -> Filed:
    """Lets the interval hint in force, or its shadow, last as long again from now on."""
    wish, hint = bounded.wish, standing.interval
    assert isinstance(wish, ProposeInterval)
    assert hint is not None
    assert hint.proposal_id is not None
    proposal = Proposal.objects.select_for_update().get(pk=hint.proposal_id)
    proposal.hint_expires_at = now + timedelta(minutes=wish.ttl_minutes)
    if not hint.shadow:
        proposal.hint_expires_at = _set_interval(endpoint, wish, proposal).ai_hint_interval_expires_at
    proposal.renewals += 1
    proposal.save(update_fields=["hint_expires_at", "renewals"])
    return Filed(proposal.pk, ProposalStatus(proposal.status), bounded.note, renewed=True)


def _set_interval(endpoint: Endpoint, wish: ProposeInterval, proposal: Proposal) -> Endpoint:
    return services.set_interval_hint(
        endpoint_id=endpoint.pk,
        interval_ms=wish.interval_ms,
        ttl_ms=wish.ttl_minutes * MINUTE_MS,
        reason=wish.reason,
        author=Author.PLANNER,
        author_words=author_of(proposal, endpoint),
        proposal_id=proposal.pk,
    )


def author_of(proposal: Proposal, endpoint: Endpoint) -> str:
    """Who asked for the proposal, in words; the key of a sibling's rule begins with that endpoint's id."""
    key, of_endpoint = proposal.cause_key, None
    sibling_id, _, name = (key or "").partition(":")
    if name and _is_id(sibling_id):
        key = name
        of_endpoint = Endpoint.objects.filter(pk=sibling_id).values_list("name", flat=True).first() or "gone"
    as_asked = speaks_of_failures(endpoint.description)
    return author_words(Speaker(proposal.cause), key, of_endpoint=of_endpoint, as_asked=as_asked)


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _follow(proposal: Proposal, bounded: Bounded, standing: Standing, *, own_only: bool, now: datetime) -> None:
    """Notes on a shadow, and on the shadows it ends, what would have come of it."""
    wish, speaker = bounded.wish, Speaker(proposal.cause)
    if bounded.ttl_ms is not None:
        proposal.hint_expires_at = now + timedelta(milliseconds=bounded.ttl_ms)
    if isinstance(wish, ClearHints):
        ended = [hint for hint in (standing.interval, standing.oneshot) if may_clear(hint, speaker, own_only)]
        how = ProposalStatus.CLEARED
    else:
        ended, how = [standing.in_place_of(wish)], ProposalStatus.SUPERSEDED
    if standing.interval is not None and standing.interval in ended:
        proposal.replaced_hint = _replaced(standing.interval)
    ids = [hint.proposal_id for hint in ended if hint is not None and hint.shadow and hint.proposal_id is not None]
    shadows = Proposal.objects.filter(pk__in=ids, status=ProposalStatus.SHADOW)
    shadows.update(ended_at=now, ended_by=how.value)


def _clear(endpoint: Endpoint, proposal: Proposal, speaker: Speaker, own_only: bool, now: datetime) -> Endpoint:
    advised = advised_on(endpoint, now)
    ended: list[UUID | None] = []
    with services.changing(endpoint.pk) as (changed, _):
        if may_clear(advised.interval, speaker, own_only):
            ended.append(changed.ai_hint_interval_proposal_id)
            proposal.replaced_hint = advised.interval and _replaced(advised.interval)
            services.drop_interval_hint(changed)
        if may_clear(advised.oneshot, speaker, own_only):
            ended.append(changed.ai_hint_next_run_proposal_id)
            services.drop_oneshot_hint(changed)
    end(Proposal.objects.filter(pk__in=[key for key in ended if key is not None]), now, ProposalStatus.CLEARED)
    return changed


def _replaced(hint: InForce) -> dict[str, Any]:
    return {"interval_ms": hint.interval_ms, "cause": hint.speaker.value, "key": hint.key}


def _replace(proposal: Proposal, replaced_id: UUID | None, replaced: dict[str, Any], now: datetime) -> None:
    if any(value is not None for value in replaced.values()):
        named: dict[str, Any] = {"proposal_id": None, "key": None}
        if replaced_id is not None:
            key = Proposal.objects.filter(pk=replaced_id).values_list("cause_key", flat=True).first()
            named = {"proposal_id": str(replaced_id), "key": key}
        proposal.replaced_hint = replaced | named
    if replaced_id is not None:
        behind = Proposal.objects.filter(pk=replaced_id, status=ProposalStatus.APPLIED)
        end(behind.filter(hint_expires_at__lte=now), now, ProposalStatus.EXPIRED)
        end(behind, now)


def end(proposals: QuerySet[Proposal], now: datetime, status: ProposalStatus = ProposalStatus.SUPERSEDED) -> None:
    """Closes proposals whose hint or offer has ended."""
    proposals.update(status=status, ended_at=now, ended_by=status.value)
