"""What a claim uses up ahead of its call, and how it is put back where no call was made. Set-based SQL."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from scheduling.plan.decision import Source

# A one-shot hint is used up by its own run, or by the run at the end of a pause that held it back.
USES_ONESHOT = (
    f"(next_source = '{Source.AI_ONESHOT}' OR next_source = '{Source.PAUSED}' AND ai_hint_next_run_at <= next_run_at)"
)
_ONESHOT_COLUMNS = {
    "ai_hint_next_run_at": "timestamptz",
    "ai_hint_next_run_expires_at": "timestamptz",
    "ai_hint_next_run_reason": "text",
    "ai_hint_next_run_set_by": "text",
    "ai_hint_next_run_proposal_id": "uuid",
}
_PAIRS = ", ".join(f"'{column}', {column}" for column in _ONESHOT_COLUMNS)
# The columns of `UsedUp`, read from a row before its claim.
USED_UP_SELECT = (
    "last_started_at AS started_before,"
    f" CASE WHEN {USES_ONESHOT} THEN jsonb_build_object({_PAIRS})::text END AS oneshot"
)


@dataclass(frozen=True, slots=True)
class UsedUp:
    """The last start before the claim, and the one-shot hint that the claim consumed, as JSON text; None is none."""

    last_started_at: datetime | None
    oneshot: str | None


def put_back(cursor: Any, claims: Mapping[UUID, UsedUp]) -> None:
    """Makes it as if these endpoints, whose rows are locked, had not been started; a newer one-shot hint stays."""
    restored = ", ".join(
        f"{column} = CASE WHEN e.ai_hint_next_run_at IS NULL THEN b.{column} ELSE e.{column} END"
        for column in _ONESHOT_COLUMNS
    )
    record = ", ".join(f"{column} {kind}" for column, kind in _ONESHOT_COLUMNS.items())
    cursor.execute(
        f"""
        UPDATE job_endpoints e SET last_started_at = p.last_started_at, {restored}
        FROM UNNEST(%s::uuid[], %s::timestamptz[], %s::jsonb[]) AS p(id, last_started_at, oneshot)
        LEFT JOIN LATERAL jsonb_to_record(p.oneshot) AS b({record}) ON true
        WHERE e.id = p.id
        """,
        [
            list(claims),
            [used.last_started_at for used in claims.values()],
            [used.oneshot for used in claims.values()],
        ],
    )
