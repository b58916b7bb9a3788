"""The daily budgets of tokens, of each owner and of the service, by UTC days: what is spent, and what may still be.

What analyses in flight may spend is set aside for them, so that those who run side by side do not overdraw together.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection

from planner.attention.discovery import LEASE_SECONDS

# Less than the question and the answer of the usual analysis is no budget.
LEAST_TOKENS = 3_000
_LOCK = 0x6372_6F6E_0002

_SPENT = """
    SELECT s.owner_id, sum(prompt_tokens + completion_tokens) AS spent,
           sum(CASE WHEN s.status = 'failed' AND s.error_kind = 'interrupted'
                         AND s.analyzed_at > %(now)s - %(lease)s * interval '1 second'
                    THEN greatest(%(session)s - prompt_tokens - completion_tokens, 0) ELSE 0 END) AS set_aside
    FROM sessions s WHERE s.backend = 'openai' AND s.analyzed_at >= %(midnight)s GROUP BY s.owner_id
"""


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens of one day: the limit, what is spent, and what analyses in flight may still take."""

    limit: int
    spent: int
    set_aside: int = 0

    @property
    def left(self) -> int:
        """What a new analysis may take; not below zero."""
        return max(self.limit - self.spent - self.set_aside, 0)

    @property
    def used_up(self) -> bool:
        """Whether what is left pays for no analysis, those in flight apart."""
        return self.limit - self.spent < LEAST_TOKENS


@dataclass(frozen=True, slots=True)
class Budgets:
    """What holds for one owner: both budgets of the day."""

    owner: Budget
    service: Budget

    @property
    def left(self) -> int:
        """What a new analysis of this owner may take."""
        return min(self.owner.left, self.service.left)

    @property
    def used_up(self) -> bool:
        """Whether only rules decide until midnight."""
        return self.owner.used_up or self.service.used_up


def budgets_of(owner_id: UUID, now: datetime) -> Budgets:
    """Both budgets of the day as they stand at `now`."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH spent AS ({_SPENT})
            SELECT coalesce(u.ai_daily_token_limit, %(owner_limit)s), coalesce(o.spent, 0), coalesce(o.set_aside, 0),
                   (SELECT coalesce(sum(spent), 0) FROM spent), (SELECT coalesce(sum(set_aside), 0) FROM spent)
            FROM users u LEFT JOIN spent o ON o.owner_id = u.id WHERE u.id = %(owner)s
            """,  # noqa: S608  a constant of this module
            _parameters(now) | {"owner": owner_id},
        )
        row = cursor.fetchone() or (0, 0, 0, 0, 0)
    limit, spent, set_aside, all_spent, all_set_aside = (int(figure) for figure in row)
    service = Budget(settings.ENV.ai_daily_token_limit, all_spent, all_set_aside)
    return Budgets(Budget(limit, spent, set_aside), service)


def locked_budgets_of(owner_id: UUID, now: datetime) -> Budgets:
    """The same, and nobody else reads them so before the transaction ends: for who sets tokens aside."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    return budgets_of(owner_id, now)


def owners_used_up(now: datetime) -> int:
    """How many owners with spent tokens have used up their budget of the day; all of them when the service has."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH spent AS ({_SPENT})
            SELECT count(*) FILTER (WHERE (SELECT sum(spent) FROM spent) > %(service_limit)s - %(least)s
                OR o.spent > coalesce(u.ai_daily_token_limit, %(owner_limit)s) - %(least)s)
            FROM spent o JOIN users u ON u.id = o.owner_id
            """,  # noqa: S608  a constant of this module
            _parameters(now),
        )
        count: int = cursor.fetchone()[0]
    return count


def _parameters(now: datetime) -> dict[str, Any]:
    return {
        "now": now,
        "midnight": now.replace(hour=0, minute=0, second=0, microsecond=0),
        "lease": LEASE_SECONDS,
        "session": settings.ENV.ai_session_token_limit,
        "owner_limit": settings.ENV.ai_owner_daily_token_limit,
        "service_limit": settings.ENV.ai_daily_token_limit,
        "least": LEAST_TOKENS,
    }
