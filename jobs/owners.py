"""Plans the endpoints of owners who were deactivated and are active again.

Deactivation needs no code here: a trigger on `users` takes the plans of the owner's endpoints away in the same
transaction, whatever statement deactivates the owner. A plan can only be made by the governor, so activation leaves
`owner_active` false, and whoever comes first makes the plans: the signal of a saved user, or a scheduler.
"""

from uuid import UUID

from django.db import connection, transaction

from jobs.replan import replan


def plan_reactivated(*, owner_id: UUID | None = None, limit: int = 1000) -> int:
    """Plans up to `limit` endpoints whose owners are active again, of one owner or of all; returns how many. Atomic.

    A retry or a run-now from before the deactivation is dropped. Rows that others hold are left for the next call.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        # The owner is locked too, so that a deactivation waits and then takes the new plans away.
        cursor.execute(
            "SELECT e.id FROM job_endpoints e JOIN users u ON u.id = e.owner_id"
            " WHERE NOT e.owner_active AND u.is_active AND (%(owner)s::uuid IS NULL OR e.owner_id = %(owner)s)"
            " ORDER BY e.id LIMIT %(limit)s FOR NO KEY UPDATE OF e SKIP LOCKED FOR SHARE OF u SKIP LOCKED",
            {"owner": owner_id, "limit": limit},
        )
        ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            return 0
        cursor.execute(
            "UPDATE job_endpoints SET owner_active = true, retry_at = NULL, retry_slot_at = NULL, retry_attempt = NULL,"
            " manual_run_at = NULL, manual_run_by = NULL WHERE id = ANY(%s)",
            [ids],
        )
        replan(ids)
    return len(ids)
