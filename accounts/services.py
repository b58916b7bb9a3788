"""The writers of API keys and signing keys."""

from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Least, Now

from accounts.ids import new_ids
from accounts.keys import make_key
from accounts.models import ApiKey, SigningKey, User
from accounts.signing import make_secret
from accounts.vault import seal

ROTATION_OVERLAP = timedelta(hours=24)
# Two in a rotation; more only where one is rotated again before the last rotation is over.
MAX_LIVE_SIGNING_KEYS = 5


class SigningKeyRefusedError(Exception):
    """The owner's live signing keys forbid this; `code` says which way."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def issue_api_key(
    *, owner: User, name: str, scopes: list[str], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """A new key and its secret text, which is not kept; None never expires."""
    text, parts = make_key()
    key = ApiKey.objects.create(
        owner=owner,
        name=name,
        prefix=parts.prefix,
        secret_hash=parts.secret_hash,
        scopes=scopes,
        expires_at=expires_at,
    )
    key.refresh_from_db()
    return key, text


def revoke_api_key(*, key_id: UUID) -> None:
    """Makes a key useless at once and for good; the first revocation keeps its time."""
    ApiKey.objects.filter(pk=key_id, revoked_at__isnull=True).update(revoked_at=Now())


def live_signing_keys(owner: User) -> QuerySet[SigningKey]:
    """The keys that sign the owner's calls now, newest first; during a rotation the old one too."""
    not_retired = Q(retires_at__isnull=True) | Q(retires_at__gt=Now())
    return SigningKey.objects.filter(not_retired, owner=owner).order_by("-created_at", "-id")


@transaction.atomic
def create_signing_key(*, owner: User) -> tuple[SigningKey, str]:
    """The owner's first live key and its secret text, which is shown once; from now on every call is signed.

    Raises SigningKeyRefusedError where a key is live already.
    """
    _lock(owner)
    if live_signing_keys(owner).exists():
        raise SigningKeyRefusedError("signing_key_exists", "There is a signing key already; rotate it.")
    return _add_signing_key(owner)


@transaction.atomic
def rotate_signing_key(*, owner: User) -> tuple[SigningKey, str]:
    """A new key and its secret text, which is shown once; the old one signs beside it for ROTATION_OVERLAP.

    A key that is retiring already keeps its time, so that a second rotation takes no key from a receiver early.
    Raises SigningKeyRefusedError where there is no live key, or MAX_LIVE_SIGNING_KEYS of them.
    """
    _lock(owner)
    live = live_signing_keys(owner).count()
    if live == 0:
        raise SigningKeyRefusedError("no_signing_key", "There is no signing key to rotate; create one.")
    if live >= MAX_LIVE_SIGNING_KEYS:
        raise SigningKeyRefusedError("too_many_signing_keys", "Too many keys are retiring; wait until one has.")
    # LEAST of PostgreSQL passes over null: a key without an end gets one.
    live_signing_keys(owner).update(retires_at=Least("retires_at", Now() + ROTATION_OVERLAP))
    return _add_signing_key(owner)


def _add_signing_key(owner: User) -> tuple[SigningKey, str]:
    (key_id,) = new_ids(1)
    text = make_secret()
    key = SigningKey.objects.create(id=key_id, owner=owner, sealed=seal(f"signing_keys:{key_id}", text))
    key.refresh_from_db()
    return key, text


def _lock(owner: User) -> None:
    """Makes writers of one owner's signing keys wait for each other."""
    User.objects.select_for_update(no_key=True).get(pk=owner.pk)
