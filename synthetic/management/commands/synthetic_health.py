"""`manage.py synthetic_health`: the table of the synthetic jobs, and an exit code for monitors."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from synthetic.monitoring import CORE, faults_of, job_healths, table
from synthetic.progress import service_progress


class Command(BaseCommand):
    """Exits 1 when the core job fails too often, or when a synthetic job does not run."""

    help = "Show the synthetic jobs of the last hour; exits 1 when they say that something is wrong."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declares the options."""
        parser.add_argument(
            "--recent", action="store_true", help="only check that a core run started in the last 5 min"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints the table. Raises CommandError with what is wrong."""
        try:
            healths, problems = job_healths(), service_progress().problems
        except Error as error:
            raise CommandError(f"The database does not answer: {error}") from error
        if options["recent"]:
            if not any(health.ran_recently for health in healths if health.job == CORE):
                raise CommandError(f"No run of {CORE} started in the last 5 minutes.")
            self.stdout.write(f"{CORE} ran in the last 5 minutes.")
            return
        self.stdout.write(table(healths))
        faults = [*faults_of(healths), *problems]
        if faults:
            raise CommandError("\n".join(faults))
