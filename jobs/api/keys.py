"""Routes of the caller's own API keys."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from accounts.services import issue_api_key, revoke_api_key
from jobs import selectors
from jobs.api.base import ApiView, described, show
from jobs.api.inputs import ApiKeyInput
from jobs.api.outputs import ApiKeyPage, NewApiKeyOutput
from jobs.errors import Fault, Unreadable
from jobs.selectors import current_time


class ApiKeysView(ApiView):
    """The keys."""

    @described("listApiKeys", gives=ApiKeyPage)
    def get(self, request: Request) -> Response:
        """List all keys, revoked ones too; secrets are not kept."""
        return show(ApiKeyPage, {"apiKeys": selectors.api_keys_of(self.owner)})

    @described("createApiKey", takes=ApiKeyInput, gives=NewApiKeyOutput, code=201)
    def post(self, request: Request) -> Response:
        """Make a key; `key` is shown in this answer and never again."""
        values = self.read(ApiKeyInput, further=_expiry_faults)
        key, text = issue_api_key(
            owner=self.owner,
            name=values["name"],
            scopes=sorted(set(values["scopes"])),
            expires_at=values["expiresAt"],
        )
        key.key = text  # type: ignore[attr-defined]
        return show(NewApiKeyOutput, key, 201)


class ApiKeyView(ApiView):
    """One key."""

    @described("revokeApiKey", code=204)
    def delete(self, request: Request, key_id: UUID) -> Response:
        """Revoke a key, at once and for good."""
        revoke_api_key(key_id=selectors.api_keys_of(self.owner).get(pk=key_id).pk)
        return Response(status=204)


def _expiry_faults(values: Mapping[str, Any]) -> list[Fault]:
    expires_at = values["expiresAt"]
    if expires_at is None or isinstance(expires_at, Unreadable) or expires_at > current_time():
        return []
    return [Fault("expiresAt", "in_the_past", "Give a time in the future.")]
