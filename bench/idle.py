"""What a scheduler costs that has nothing to do for hours."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta

from bench import rows
from bench.figures import Figure
from bench.place import empty
from bench.processes import PROJECT_DIR, Scheduler, cpu_seconds, resident_mb, server_cpu_seconds

ENDPOINTS = 10_000
HOUR = timedelta(hours=1)
# The same interpreter and framework, waiting.
_BARE = "import django, sys; django.setup(); print(flush=True); sys.stdin.read()"


def measure(url: str, seconds: float) -> list[Figure]:
    """Watches one scheduler with 10,000 endpoints that are due in hours."""
    empty()
    rows.fill(ENDPOINTS, port=9, interval=HOUR * 24, first_due_at=rows.clock() + HOUR * 3, step=HOUR / ENDPOINTS)
    rows.analyze()
    with Scheduler(url) as scheduler:
        pause = threading.Event()
        pause.wait(min(seconds, 3.0))
        before, server_before = cpu_seconds(scheduler.pid), server_cpu_seconds()
        pause.wait(seconds)
        after, server_after = cpu_seconds(scheduler.pid), server_cpu_seconds()
        memory = resident_mb(scheduler.pid)
    server = (server_after - server_before) / seconds * 100 if server_after and server_before else None
    return [
        Figure("idle", "scheduler CPU", (after - before) / seconds * 100, "% of a core"),
        Figure("idle", "PostgreSQL CPU", server, "% of a core"),
        Figure("idle", "scheduler memory", memory, "MB", "Python and Django, waiting", _bare_memory()),
    ]


def _bare_memory() -> float:
    process = subprocess.Popen(
        [sys.executable, "-c", _BARE], cwd=PROJECT_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    memory = resident_mb(process.pid)
    process.communicate(timeout=30)
    return memory
