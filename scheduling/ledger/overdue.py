"""How late the latest due endpoint is, whatever holds it up. One look for health checks, at any number of rows."""

from django.db import connection

from scheduling.ledger.claims import LANES

# Not yet claimed; and held by a worker whose lease ran out, which nobody took back.
_OLDEST = f"""
WITH RECURSIVE {LANES}
SELECT GREATEST(0, extract(epoch FROM clock_timestamp() - LEAST(
    (SELECT min(first.next_run_at) FROM lanes CROSS JOIN LATERAL (
        SELECT e.next_run_at FROM job_endpoints e JOIN users u ON u.id = e.owner_id
        WHERE e.lane = lanes.lane AND e.lease_owner IS NULL AND e.next_run_at IS NOT NULL AND u.is_active
        ORDER BY e.next_run_at LIMIT 1
    ) first),
    (SELECT min(e.lease_until) FROM job_endpoints e WHERE e.lease_owner IS NOT NULL)
)))::float
"""


def oldest_overdue_seconds() -> float:
    """Seconds since the oldest slot that should have been called and was not; 0 when nothing is overdue."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST)
        seconds: float | None = cursor.fetchone()[0]
    return seconds or 0.0
