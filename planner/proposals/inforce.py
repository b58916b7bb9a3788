"""Reads which hints and pauses are in force on an endpoint, by whose word, and how often that turned about."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection

from jobs.models import Author, Endpoint
from planner.models import Proposal
from planner.proposals.judgement import InForce
from planner.proposals.wishes import Speaker


@dataclass(frozen=True, slots=True)
class Advised:
    """What is in force on an endpoint by anybody's advice; None where nothing is."""

    interval: InForce | None
    oneshot: InForce | None
    pause: InForce | None


def proposals_behind(endpoints: Iterable[Endpoint]) -> dict[UUID, Proposal]:
    """The proposals that set the hints and pauses of the endpoints, by id, in one query."""
    wanted = {proposal_id for endpoint in endpoints for proposal_id in _behind(endpoint) if proposal_id is not None}
    return Proposal.objects.in_bulk(list(wanted)) if wanted else {}


def _behind(endpoint: Endpoint) -> tuple[UUID | None, UUID | None, UUID | None]:
    return endpoint.ai_hint_interval_proposal_id, endpoint.ai_hint_next_run_proposal_id, endpoint.pause_proposal_id


def advised_on(endpoint: Endpoint, now: datetime, known: Mapping[UUID, Proposal] | None = None) -> Advised:
    """What is in force on the endpoint, with the speaker of each as its proposal tells; `known` saves a query."""
    known = proposals_behind([endpoint]) if known is None else known
    ids = _behind(endpoint)

    def in_force(until: datetime | None, author: str | None, proposal_id: UUID | None) -> InForce | None:
        if until is None or until <= now:
            return None
        proposal = known.get(proposal_id) if proposal_id is not None else None
        if author != Author.PLANNER or proposal is None:
            speaker = Speaker.HEURISTIC if author == Author.PLANNER else Speaker.PERSON
            return InForce(speaker, None, {}, until)
        return InForce(Speaker(proposal.cause), proposal.cause_key, proposal.arguments_asked, until)

    return Advised(
        in_force(endpoint.ai_hint_interval_expires_at, endpoint.ai_hint_interval_set_by, ids[0]),
        in_force(endpoint.ai_hint_next_run_expires_at, endpoint.ai_hint_next_run_set_by, ids[1]),
        in_force(endpoint.paused_until, endpoint.paused_by, ids[2]),
    )


def turns_of(endpoint_ids: Sequence[UUID], since: datetime) -> dict[UUID, dict[Speaker, int]]:
    """How often since then each speaker dropped its interval hint, or, for rules, replaced it by a slower one."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT endpoint_id, cause, count(*) FROM proposals
            WHERE endpoint_id = ANY(%s) AND created_at > %s AND applied_at IS NOT NULL
              AND (tool = 'clear_hints'
                   OR (tool = 'propose_interval' AND cause = 'rule'
                       AND (replaced_hint ->> 'interval_ms')::bigint < (arguments ->> 'interval_ms')::bigint))
            GROUP BY endpoint_id, cause
            """,
            [list(endpoint_ids), since],
        )
        found: dict[UUID, dict[Speaker, int]] = {}
        for endpoint_id, cause, count in cursor.fetchall():
            found.setdefault(endpoint_id, {})[Speaker(cause)] = count
        return found
