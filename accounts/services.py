"""The writers of API keys."""

from datetime import datetime
from uuid import UUID

from django.db.models.functions import Now

from accounts.keys import make_key
from accounts.models import ApiKey, User


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
