"""`manage.py create_first_admin`: the first operator, with a password and an API key that are shown once."""

import secrets
from typing import Any

from allauth.account.models import EmailAddress
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection, transaction

from accounts.keys import make_key
from accounts.models import ApiKey, Scope, User

FIRST_EMAIL = "admin@example.com"
_LOCK = 0x63726F6E  # any number that nothing else in the database locks


class Command(BaseCommand):
    """Creates an operator where there is none, and tells how to reset the password where there is one."""

    help = "Create the first operator with a random password and an API key; does nothing when there is an operator."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declares the address."""
        parser.add_argument("--email", default=FIRST_EMAIL, help=f"address to sign in with (default {FIRST_EMAIL})")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prints `Admin:`, and at the first time `Password:` and `API key:`, each on a line of its own."""
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            known = User.objects.filter(is_superuser=True, is_active=True).order_by("created_at").first()
            lines = _known(known) if known else _create(options["email"])
        self.stdout.write("\n".join(lines))


def _create(email: str) -> list[str]:
    password = secrets.token_urlsafe(15)
    # The address counts as verified: its owner is whoever reads this output.
    user = User.objects.create_superuser(email, password, name="Admin")
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    text, parts = make_key()
    ApiKey.objects.create(
        owner=user,
        name="First key",
        prefix=parts.prefix,
        secret_hash=parts.secret_hash,
        scopes=[Scope.READ, Scope.WRITE],
    )
    return [f"Admin: {user.email}", f"Password: {password}", f"API key: {text}"]


def _known(user: User) -> list[str]:
    return [
        f"Admin: {user.email}",
        "The password and the API key were shown at the first start. A new password: "
        f"manage.py changepassword {user.email}; a new key: in the console, under API keys.",
    ]
