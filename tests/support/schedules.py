"""Facts for the governor: noon on a Monday, an endpoint a day old whose last slot was served on time just now."""

from datetime import UTC, datetime, timedelta
from typing import Any

from scheduling.plan.facts import EndpointFacts

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

SECOND = 1_000
MINUTE = 60_000
HOUR = 3_600_000
DAY = 86_400_000


def from_noon(**duration: float) -> datetime:
    """An instant so far from noon, as in `from_noon(minutes=-5)`."""
    return NOON + timedelta(**duration)


def endpoint(**facts: Any) -> EndpointFacts:
    """An endpoint created and anchored at noon of the day before; it needs a baseline."""
    defaults: dict[str, Any] = {
        "created_at": from_noon(days=-1),
        "anchor_at": from_noon(days=-1),
        "last_slot_at": NOON,
        "last_started_at": NOON,
    }
    return EndpointFacts(**{**defaults, **facts})
