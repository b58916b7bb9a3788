"""Who calls the API: an API key in `x-api-key` or as a bearer, or the browser's session with CSRF.

Superusers are operators. A key that is missing, malformed, unknown, expired, revoked or of an inactive person gets
one and the same answer.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import Error
from django.db.models import Q
from django.db.models.functions import Now
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts.keys import DUMMY_HASH, parse_key, same_hash
from accounts.models import ApiKey, Scope, User
from cronicorn.postgres.sqlstate import sqlstate_of

if TYPE_CHECKING:  # rest_framework.views itself imports this module, through the settings
    from rest_framework.views import APIView

MAX_HEADER_LENGTH = 8192
USED_AT_PRECISION = timedelta(minutes=5)
REFUSAL = "Give a valid API key in the x-api-key header, or sign in."


class ApiKeyAuthentication(BaseAuthentication):
    """Knows a person by a key; `request.auth` is then the ApiKey."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        """The owner and the key; None where no key was sent. Raises AuthenticationFailed."""
        text = _sent_key(request)
        if text is None:
            return None
        parts = parse_key(text) if len(text) <= MAX_HEADER_LENGTH else None
        key = _usable_key(parts.prefix) if parts else None
        # An unknown key is compared too, so that the time of the answer tells nothing.
        if not same_hash(parts.secret_hash if parts else "", key.secret_hash if key else DUMMY_HASH) or key is None:
            raise AuthenticationFailed(REFUSAL, code="not_authenticated")
        _note_use(key)
        return key.owner, key

    def authenticate_header(self, request: Request) -> str:
        """The challenge that makes refusals a 401."""
        return 'Bearer realm="api"'


def _note_use(key: ApiKey) -> None:
    """Notes when the key was used. A database that accepts no writes may still be read, so its refusal is no fault."""
    try:
        ApiKey.objects.filter(
            Q(last_used_at__isnull=True) | Q(last_used_at__lt=Now() - USED_AT_PRECISION), pk=key.pk
        ).update(last_used_at=Now())
    except Error as error:
        if not sqlstate_of(error):
            raise


class BrowserSessionAuthentication(SessionAuthentication):
    """Knows a person by the session of the console; changes need the CSRF token."""

    def enforce_csrf(self, request: Request) -> None:
        """Raises PermissionDenied with the code `csrf_failed`."""
        try:
            super().enforce_csrf(request)
        except PermissionDenied as error:
            raise PermissionDenied("Send the CSRF token of the page in X-CSRFToken.", code="csrf_failed") from error


class MayReadOrWrite(BasePermission):
    """Keys may do what their scopes say, `write` includes `read`; sessions may do everything.

    A view that changes nothing on POST sets `reads_only`.
    """

    message = "This key may only read."
    code = "scope_missing"

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Whether the caller is known and the scope suffices."""
        if not isinstance(request.user, User):
            return False
        if not isinstance(request.auth, ApiKey) or Scope.WRITE in request.auth.scopes:
            return True
        return request.method in SAFE_METHODS or getattr(view, "reads_only", False)


def _sent_key(request: Request) -> str | None:
    sent: Any = request.META.get("HTTP_X_API_KEY")
    if sent is not None:
        return str(sent).strip()
    scheme, _, rest = str(request.META.get("HTTP_AUTHORIZATION", "")).partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else None


def _usable_key(prefix: str) -> ApiKey | None:
    return (
        ApiKey.objects.select_related("owner")
        .filter(Q(expires_at__isnull=True) | Q(expires_at__gt=Now()))
        .filter(prefix=prefix, revoked_at__isnull=True, owner__is_active=True)
        .first()
    )
