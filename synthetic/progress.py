"""Whether calls are made: the one judgement that health, its strict form and the checks of operators share."""

from dataclasses import dataclass
from typing import Any

from jobs.models import WorkerKind
from jobs.selectors import worker_states
from scheduling.ledger.overdue import oldest_overdue_seconds

MOST_OVERDUE_S = 60.0


@dataclass(frozen=True, slots=True)
class ServiceProgress:
    """What the workers told, how late the oldest slot is, and what is wrong, one sentence each."""

    workers: dict[str, dict[str, Any]]
    oldest_overdue_s: float
    problems: list[str]


def service_progress() -> ServiceProgress:
    """Asks the database. Raises django.db.Error where it does not answer."""
    workers, overdue_s = worker_states(), oldest_overdue_seconds()
    scheduler = workers.get(WorkerKind.SCHEDULER.value)
    problems = []
    if scheduler is None or not scheduler["live"]:
        problems.append("No scheduler lives: no call is made.")
    elif len(scheduler["problems"]) >= scheduler["live"]:
        problems += scheduler["problems"]
    if overdue_s > MOST_OVERDUE_S:
        problems.append(f"The oldest slot that was not called is {overdue_s:.0f} s overdue.")
    return ServiceProgress(workers, overdue_s, problems)
