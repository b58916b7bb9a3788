"""Self-monitoring: what the synthetic jobs of the last hour say about this installation."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from django.db import connection

QUERY = Path(__file__).with_name("sql") / "health.sql"
CORE = "Synthetic: Core"
FAULTS = "Synthetic: Faults"
CORE_MIN_PERCENT = 90


@dataclass(frozen=True, slots=True)
class JobHealth:
    """One synthetic job over the last hour; None where there was no run."""

    job: str
    total: int
    successful: int
    success_percent: Decimal | None
    average_ms: Decimal | None
    last_run: datetime | None
    ran_recently: bool


def job_healths() -> list[JobHealth]:
    """Runs the query of `sql/health.sql`, which works as well in psql."""
    with connection.cursor() as cursor:
        cursor.execute(QUERY.read_text(encoding="utf-8"))
        return [JobHealth(*row) for row in cursor.fetchall()]


def faults_of(healths: Sequence[JobHealth]) -> list[str]:
    """What is wrong, one sentence each; empty when all is well. The job of faults may fail, but it must run."""
    found = []
    by_name = {health.job: health for health in healths}
    for name in (CORE, FAULTS):
        health = by_name.get(name)
        if health is None:
            found.append(f"{name} does not exist; run manage.py seed_synthetic.")
        elif health.total == 0:
            found.append(f"{name} has no runs in the last hour.")
    core = by_name.get(CORE)
    if core is not None and core.total and not core.ran_recently:
        found.append(f"No run of {CORE} started in the last 5 minutes.")
    if core is not None and core.success_percent is not None and core.success_percent < CORE_MIN_PERCENT:
        found.append(
            f"{CORE} succeeded in {core.success_percent} % of its runs; at least {CORE_MIN_PERCENT} % is normal."
        )
    return found


def table(healths: Sequence[JobHealth]) -> str:
    """The figures as aligned text."""
    rows = [("job", "total", "successful", "success %", "average ms", "last run (UTC)")]
    for health in healths:
        last = health.last_run.strftime("%Y-%m-%d %H:%M:%S") if health.last_run else "-"
        percent, average = (
            "-" if figure is None else str(figure) for figure in (health.success_percent, health.average_ms)
        )
        rows.append((health.job, str(health.total), str(health.successful), percent, average, last))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
