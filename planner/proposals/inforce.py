"""Reads which hints and pauses are in force on an endpoint, by whose word, and how often that turned about."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db import connection

from jobs.models import Author, Endpoint, PlannerMode
from planner.models import Proposal, ProposalStatus, Tool
from planner.proposals.judgement import InForce
from planner.proposals.wishes import Speaker


@dataclass(frozen=True, slots=True)
class Advised:
    """What is in force on an endpoint by anybody's advice; None where nothing is."""

    interval: InForce | None
    oneshot: InForce | None
    pause: InForce | None


@dataclass(frozen=True, slots=True)
class Behind:
    """The proposals behind what is in force: by their ids, and for each endpoint in mode `shadow` those of its own."""

    by_id: Mapping[UUID, Proposal]
    shadows: Mapping[UUID, Sequence[Proposal]]


def proposals_behind(endpoints: Iterable[Endpoint], now: datetime) -> Behind:
    """The proposals behind the hints and pauses of the endpoints, in a query, and one more where some are in shadow."""
    endpoints = list(endpoints)
    wanted = {proposal_id for endpoint in endpoints for proposal_id in _behind(endpoint) if proposal_id is not None}
    by_id = Proposal.objects.in_bulk(list(wanted)) if wanted else {}
    shadowed = [endpoint.pk for endpoint in endpoints if endpoint.planner_mode == PlannerMode.SHADOW]
    shadows: dict[UUID, list[Proposal]] = {}
    if shadowed:
        alive = Proposal.objects.filter(
            endpoint__in=shadowed,
            status=ProposalStatus.SHADOW,
            scorecard__isnull=True,
            ttl_ms__isnull=False,
            ended_at=None,
            hint_expires_at__gt=now,
        )
        for proposal in alive.order_by("created_at", "id"):
            shadows.setdefault(proposal.endpoint_id, []).append(proposal)
    return Behind(by_id, shadows)


def _behind(endpoint: Endpoint) -> tuple[UUID | None, UUID | None, UUID | None]:
    return endpoint.ai_hint_interval_proposal_id, endpoint.ai_hint_next_run_proposal_id, endpoint.pause_proposal_id


def advised_on(endpoint: Endpoint, now: datetime, known: Behind | None = None) -> Advised:
    """What is in force on the endpoint, with the speaker of each as its proposal tells; `known` saves a query.

    In mode `shadow` a word of the planner's counts as if it had been applied, but never before a person's.
    """
    known = proposals_behind([endpoint], now) if known is None else known
    ids = _behind(endpoint)
    shadows = {proposal.tool: proposal for proposal in known.shadows.get(endpoint.pk, ())}

    def in_force(tool: Tool, until: datetime | None, author: str | None, proposal_id: UUID | None) -> InForce | None:
        real: InForce | None = None
        if until is not None and until > now:
            proposal = known.by_id.get(proposal_id) if proposal_id is not None else None
            interval_ms = endpoint.ai_hint_interval_ms if tool == Tool.PROPOSE_INTERVAL else None
            if author != Author.PLANNER or proposal is None:
                speaker = Speaker.HEURISTIC if author == Author.PLANNER else Speaker.PERSON
                real = InForce(speaker, None, {}, until, interval_ms)
            else:
                real = _word(proposal, until, interval_ms)
        if tool not in shadows or (real is not None and real.speaker is Speaker.PERSON):
            return real
        shadow = _shadow(shadows[tool])
        return shadow if shadow.expires_at > now else real

    return Advised(
        in_force(Tool.PROPOSE_INTERVAL, endpoint.ai_hint_interval_expires_at, endpoint.ai_hint_interval_set_by, ids[0]),
        in_force(
            Tool.PROPOSE_NEXT_TIME, endpoint.ai_hint_next_run_expires_at, endpoint.ai_hint_next_run_set_by, ids[1]
        ),
        in_force(Tool.PAUSE_UNTIL, endpoint.paused_until, endpoint.paused_by, ids[2]),
    )


def _word(proposal: Proposal, until: datetime, interval_ms: int | None, *, shadow: bool = False) -> InForce:
    speaker, asked = Speaker(proposal.cause), proposal.arguments_asked
    return InForce(speaker, proposal.cause_key, asked, until, interval_ms, shadow, proposal.pk)


def _shadow(proposal: Proposal) -> InForce:
    """A shadow as if it had been applied. A one-shot would have been used up by the run that it caused."""
    until = proposal.hint_expires_at
    assert until is not None
    if proposal.tool == Tool.PROPOSE_NEXT_TIME:
        until = min(until, datetime.fromisoformat(proposal.arguments["next_run_at"]))
    return _word(proposal, until, proposal.arguments.get("interval_ms"), shadow=True)


@dataclass(slots=True)
class Turns:
    """How an endpoint's interval hint turned about lately; see `turns_of`."""

    eased: dict[tuple[Speaker, str | None], int] = field(default_factory=dict)
    overruled: bool = False


def turns_of(endpoint_ids: Sequence[UUID], since: datetime) -> dict[UUID, Turns]:
    """How often since then each rule of a speaker had its interval hint dropped, or replaced by a rule's slower one.

    `overruled` tells that a speaker of higher rank cleared the hint of a heuristic.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT endpoint_id, cause, COALESCE(replaced_hint ->> 'key', cause_key), count(*),
                   bool_or(tool = 'clear_hints' AND cause <> 'heuristic' AND replaced_hint ->> 'cause' = 'heuristic')
            FROM proposals
            WHERE endpoint_id = ANY(%s) AND created_at > %s
              AND (applied_at IS NOT NULL OR status = 'shadow')
              AND (tool = 'clear_hints'
                   OR (tool = 'propose_interval' AND cause = 'rule'
                       AND (replaced_hint ->> 'interval_ms')::bigint < (arguments ->> 'interval_ms')::bigint))
            GROUP BY 1, 2, 3
            """,
            [list(endpoint_ids), since],
        )
        found: dict[UUID, Turns] = {}
        for endpoint_id, cause, key, count, overruled in cursor.fetchall():
            turns = found.setdefault(endpoint_id, Turns())
            turns.eased[Speaker(cause), key] = count
            turns.overruled = turns.overruled or bool(overruled)
        return found
