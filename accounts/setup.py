"""How the first operator gets in: by a link that ends after an hour and sets the password, or by a password at once.

A log is kept for longer than it is looked after, so what a container prints must be worth nothing an hour later.
"""

import hashlib
import secrets
from datetime import timedelta

from allauth.account.models import EmailAddress
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from accounts.models import Scope, SetupLink, User
from accounts.services import issue_api_key

LINK_LIFETIME = timedelta(hours=1)
KEY_NAME = "First key"


def create_operator(email: str) -> User:
    """An operator who cannot sign in yet. The address counts as verified: it is of whoever reads what is printed."""
    user = User.objects.create_superuser(email, None, name="Admin")
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


def waits_for_setup(user: User) -> bool:
    """Whether the operator was made for a link and has neither used it nor got a password in another way."""
    return not user.has_usable_password() and SetupLink.objects.filter(user=user, used_at__isnull=True).exists()


def issue_link(user: User) -> str:
    """The secret of a new link, which is not kept. An earlier link of the same person is void from now on."""
    token = secrets.token_urlsafe(32)
    values = {"token_hash": _hash(token), "created_at": Now(), "expires_at": Now() + LINK_LIFETIME, "used_at": None}
    SetupLink.objects.update_or_create(user=user, defaults=values)
    return token


def owner_of_link(token: str) -> User | None:
    """Whose password the link may set now; None for a link that is unknown, used, void or over."""
    link = _usable(token).first()
    return None if link is None or link.user.has_usable_password() else link.user


@transaction.atomic
def use_link(token: str, password: str) -> str | None:
    """Sets the password and uses the link up; returns the text of a first API key, None where the link is not usable.

    Of two uses at the same time one gets None.
    """
    link = _usable(token).select_for_update(of=("self",)).first()
    if link is None or link.user.has_usable_password():
        return None
    return _finish(link.user, password)


def set_first_password(user: User) -> tuple[str, str]:
    """A random password and the text of a first API key, to be shown at once; a link of the person is used up."""
    password = secrets.token_urlsafe(15)
    return password, _finish(user, password)


def _finish(user: User, password: str) -> str:
    user.set_password(password)
    user.save(update_fields=["password"])
    SetupLink.objects.filter(user=user).update(used_at=Now())
    _, text = issue_api_key(owner=user, name=KEY_NAME, scopes=[Scope.READ, Scope.WRITE])
    return text


def _usable(token: str) -> QuerySet[SetupLink]:
    return SetupLink.objects.select_related("user").filter(
        token_hash=_hash(token), used_at__isnull=True, expires_at__gt=Now(), user__is_active=True
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
