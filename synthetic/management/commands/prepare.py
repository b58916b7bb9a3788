"""`manage.py prepare`: everything between a new version and its start, in one process."""

import hashlib
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from cronicorn.postgres.sqlstate import unavailable_reason
from jobs.zonerules import Search, rules_of_plans, search_batch


class Command(BaseCommand):
    """Migrates, makes plans by other zone rules anew, creates the first operator, seeds the synthetic jobs.

    Each step is safe to repeat.
    """

    help = "Migrate the database, create the first operator and the synthetic jobs; safe to repeat."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declares the options."""
        parser.add_argument("--static", action="store_true", help="also collect the static files, where they changed")
        parser.add_argument(
            "--credentials",
            action="store_true",
            help="print the first operator's password and API key instead of a link; for output that is not kept",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints on standard output what `create_first_admin` says, and the rest on standard error."""
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True, stderr=self.stderr)
        self.stderr.write("The database is up to date.")
        if options["static"]:
            self._collect()
        try:
            self._make_plans_anew()
            link = not options["credentials"]
            call_command("create_first_admin", link=link, stdout=self.stdout, skip_checks=True)
            call_command("seed_synthetic", stdout=self.stderr, skip_checks=True)
        except Error as error:
            raise CommandError(f"{unavailable_reason(error) or 'The database refused:'} {error}".strip()) from error

    def _make_plans_anew(self) -> None:
        """Plans that other zone rules made; what a worker is at already is left to it."""
        while (search := search_batch()) is Search.UNDER_WAY:
            pass
        if search is Search.DONE:
            self.stderr.write(f"Plans follow the zone rules {rules_of_plans()}.")

    def _collect(self) -> None:
        stamp = Path(settings.STATIC_ROOT) / ".fingerprint"
        fingerprint = _fingerprint()
        if stamp.exists() and stamp.read_text(encoding="ascii") == fingerprint:
            return
        call_command("collectstatic", interactive=False, verbosity=0, clear=True, skip_checks=True)
        stamp.write_text(fingerprint, encoding="ascii")
        self.stderr.write("The static files are collected.")


def _fingerprint() -> str:
    """A digest that changes with the set of static files, and with the size or time of any of them."""
    digest = hashlib.sha256()
    for finder in get_finders():
        for name, storage in finder.list([]):
            status = Path(storage.path(name)).stat()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
