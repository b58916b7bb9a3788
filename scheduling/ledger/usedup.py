"""What a claim uses up ahead of its call, and how it is put back where no call was made. Set-based SQL."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from scheduling.plan.decision import Source

# A one-shot hint is used up by its own run, or by the run at the end of a pause or wait that held it back.
USES_ONESHOT = (
    f"(next_source = '{Source.AI_ONESHOT}'"
    f" OR next_source IN ('{Source.PAUSED}', '{Source.SERVER_ASKED}') AND ai_hint_next_run_at <= next_run_at)"
)
_ONESHOT = {
    "ai_hint_next_run_at": "timestamptz",
    "ai_hint_next_run_expires_at": "timestamptz",
    "ai_hint_next_run_reason": "text",
    "ai_hint_next_run_set_by": "text",
    "ai_hint_next_run_proposal_id": "uuid",
}
_MANUAL = {"manual_run_at": "timestamptz", "manual_run_by": "uuid"}
_RETRY = {"retry_at": "timestamptz", "retry_slot_at": "timestamptz", "retry_attempt": "smallint"}
# What is consumed together; the first column of each tells whether it is there.
_GROUPS = (_ONESHOT, _MANUAL, _RETRY)


def _object(columns: Mapping[str, str]) -> str:
    return "jsonb_build_object(" + ", ".join(f"'{column}', {column}" for column in columns) + ")"


# The columns of `UsedUp`, read from a row before its claim, and whether the claim consumes the one-shot hint.
USED_UP_SELECT = f"""
    last_started_at AS started_before, last_slot_at AS slot_before, retries_used AS retries_before,
    COALESCE({USES_ONESHOT}, false) AS uses_oneshot,
    CASE WHEN {USES_ONESHOT} OR manual_run_at IS NOT NULL OR retry_at IS NOT NULL THEN (
        CASE WHEN {USES_ONESHOT} THEN {_object(_ONESHOT)} ELSE '{{}}' END
        || CASE WHEN next_source = '{Source.MANUAL}' THEN {_object(_MANUAL)} ELSE {_object(_RETRY)} END
    )::text END AS consumed
"""


@dataclass(frozen=True, slots=True)
class UsedUp:
    """How the row was before the claim; `consumed` is the hint, press or retry that it took, as JSON text.

    None is what was not there.
    """

    last_started_at: datetime | None
    last_slot_at: datetime | None
    retries_used: int
    consumed: str | None


def put_back(cursor: Any, claims: Mapping[UUID, UsedUp], *, slots: bool) -> None:
    """Makes it as if these endpoints, whose rows are locked, had not been claimed; what is newer by now stays.

    `slots` tells that their slots, too, are free again. A press of run-now does not outlive a stop.
    """
    restored = [
        f"{column} = CASE WHEN e.{next(iter(group))} IS NULL"
        f"{' AND e.status = $$active$$ AND e.owner_active' if group is _MANUAL else ''}"
        f" THEN b.{column} ELSE e.{column} END"
        for group in _GROUPS
        for column in group
    ]
    record = ", ".join(f"{column} {kind}" for group in _GROUPS for column, kind in group.items())
    cursor.execute(
        f"""
        UPDATE job_endpoints e SET last_started_at = p.last_started_at, retries_used = p.retries_used,
            last_slot_at = CASE WHEN %s THEN p.last_slot_at ELSE e.last_slot_at END, {", ".join(restored)}
        FROM UNNEST(%s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::smallint[], %s::jsonb[])
            AS p(id, last_started_at, last_slot_at, retries_used, consumed)
        LEFT JOIN LATERAL jsonb_to_record(p.consumed) AS b({record}) ON true
        WHERE e.id = p.id
        """,
        [
            slots,
            list(claims),
            [used.last_started_at for used in claims.values()],
            [used.last_slot_at for used in claims.values()],
            [used.retries_used for used in claims.values()],
            [used.consumed for used in claims.values()],
        ],
    )
