"""Signs of life of the workers, shown by health, metrics and the console."""

import json
import os
import platform
import uuid
from typing import Any

from django.db import connection

from jobs.models import WorkerKind


def worker_name(kind: WorkerKind) -> str:
    """A name no other process has: kind, host, process id and a random tail."""
    return f"{kind.value}-{platform.node()[:40]}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def beat(*, worker: str, kind: WorkerKind, facts: dict[str, Any]) -> None:
    """Notes that the worker lives, with its current figures."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO worker_heartbeats (worker, kind, started_at, seen_at, facts)
            VALUES (%s, %s, clock_timestamp(), clock_timestamp(), %s)
            ON CONFLICT (worker) DO UPDATE SET seen_at = excluded.seen_at, facts = excluded.facts, stopped_at = NULL
            """,
            [worker, kind.value, json.dumps(facts)],
        )


def farewell(*, worker: str) -> None:
    """Notes that the worker stopped on purpose, and forgets workers unseen for a day."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE worker_heartbeats SET stopped_at = clock_timestamp() WHERE worker = %s", [worker])
        cursor.execute("DELETE FROM worker_heartbeats WHERE seen_at < clock_timestamp() - interval '1 day'")
