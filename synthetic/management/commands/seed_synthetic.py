"""`manage.py seed_synthetic`: the jobs by which an installation watches itself."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts.models import User
from jobs.authoring import create_job, edit_endpoint
from jobs.models import Endpoint, Job, PlannerMode

# The first call comes one interval after the creation, so these show runs within the first minute.
_COMMON = {"planner_mode": PlannerMode.OFF, "retry_limit": 0, "timeout_ms": 10_000}
SYNTHETIC_JOBS: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "Synthetic: Core": (
        "Calls this installation's own health and echo routes. They always answer, so a failure is a fault here.",
        (
            {"name": "health", "baseline_interval_ms": 10_000, "max_interval_ms": 60_000},
            {
                "name": "echo",
                "method": "POST",
                "headers": [{"name": "Content-Type", "value": "application/json", "secret": False}],
                "body": '{"from": "Synthetic: Core"}',
                "baseline_interval_ms": 20_000,
                "max_interval_ms": 60_000,
            },
        ),
    ),
    "Synthetic: Faults": (
        "Calls a route that takes 5 s and one that fails in 30 % of the calls, to show delays, failures and back-off.",
        (
            {"name": "slow", "baseline_interval_ms": 30_000, "max_interval_ms": 120_000},
            {
                "name": "flaky",
                "baseline_interval_ms": 15_000,
                "max_interval_ms": 120_000,
                "recovery_check_ms": 120_000,
            },
        ),
    ),
}


class Command(BaseCommand):
    """Creates what is missing and follows a changed SYNTHETIC_BASE_URL; leaves the rest as people set it."""

    help = "Create the synthetic jobs, owned by the first operator; safe to repeat."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        """Says what was done for each job. Raises CommandError when there is no operator."""
        # The row lock makes two commands at the same time take turns.
        operators = User.objects.select_for_update().filter(is_superuser=True, is_active=True)
        owner = operators.order_by("created_at", "id").first()
        if owner is None:
            raise CommandError("There is no operator to own the synthetic jobs; run create_first_admin before.")
        for name, (description, endpoints) in SYNTHETIC_JOBS.items():
            job = Job.objects.filter(is_synthetic=True, name=name).first()
            if job is None:
                values = {"name": name, "description": description, "is_synthetic": True}
                create_job(owner=owner, values=values, endpoints=[_endpoint(fields) for fields in endpoints])
                self.stdout.write(f"{name}: created.")
            else:
                moved = sum(_follow_base_url(job, fields["name"]) for fields in endpoints)
                self.stdout.write(f"{name}: there already" + (f", {moved} addresses changed." if moved else "."))


def synthetic_address(route: str) -> str:
    """The URL of one of the self-test routes as the scheduler calls it."""
    return f"{settings.ENV.synthetic_url}/api/synthetic/{route}"


def _endpoint(fields: dict[str, Any]) -> dict[str, Any]:
    return {**_COMMON, **fields, "url": synthetic_address(fields["name"])}


def _follow_base_url(job: Job, route: str) -> bool:
    url = synthetic_address(route)
    endpoint = Endpoint.objects.filter(job=job, name=route, archived_at=None).exclude(url=url).first()
    if endpoint is None:
        return False
    edit_endpoint(endpoint_id=endpoint.id, changes={"url": url})
    return True
