"""`manage.py create_first_admin`: the first operator, with a password and an API key, or with a link to set them."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection, transaction
from django.urls import reverse

from accounts.models import User
from accounts.setup import create_operator, issue_link, set_first_password, waits_for_setup

FIRST_EMAIL = "admin@example.com"
_LOCK = 0x63726F6E  # any number that nothing else in the database locks


class Command(BaseCommand):
    """Creates an operator where there is none, and tells how to reset the password where there is one."""

    help = "Create the first operator with a random password and an API key; does nothing when there is an operator."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declares the options."""
        parser.add_argument("--email", default=FIRST_EMAIL, help=f"address to sign in with (default {FIRST_EMAIL})")
        parser.add_argument(
            "--link", action="store_true", help="print a link that sets the password once, within an hour, instead"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints `Admin:`, then `Password:` and `API key:`, or `Set the password`, each on a line of its own.

        An operator whose link was not used gets a new one, or a password; the old link is void then.
        """
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            user = User.objects.filter(is_superuser=True, is_active=True).order_by("created_at").first()
            if user is None:
                user = create_operator(options["email"])
            elif not waits_for_setup(user):
                self.stdout.write("\n".join(_known(user)))
                return
            lines = _with_link(user) if options["link"] else _with_password(user)
        self.stdout.write("\n".join(lines))


def _with_password(user: User) -> list[str]:
    password, key = set_first_password(user)
    return [f"Admin: {user.email}", f"Password: {password}", f"API key: {key}"]


def _with_link(user: User) -> list[str]:
    address = settings.ENV.public_url + reverse("setup", args=[issue_link(user)])
    return [f"Admin: {user.email}", f"Set the password (once, within an hour): {address}"]


def _known(user: User) -> list[str]:
    return [
        f"Admin: {user.email}",
        "The password and the API key were shown at the first start. A new password: "
        f"manage.py changepassword {user.email}; a new key: in the console, under API keys.",
    ]
