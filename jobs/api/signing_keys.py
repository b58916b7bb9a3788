"""Routes of the caller's signing keys."""

# ruff: noqa: N815  the names are those of the API

from collections.abc import Callable, Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import SigningKey, User
from accounts.services import SigningKeyRefusedError, create_signing_key, live_signing_keys, rotate_signing_key
from jobs.api.base import ApiView, described, show
from jobs.errors import ConflictError


class SigningKeyOutput(serializers.Serializer[SigningKey]):
    """A key without its secret; `retiresAt` null means that it stays."""

    id = serializers.UUIDField()
    createdAt = serializers.DateTimeField(source="created_at")
    retiresAt = serializers.DateTimeField(source="retires_at")


class NewSigningKeyOutput(SigningKeyOutput):
    """A key just made: the only time that `secret` is shown."""

    secret = serializers.CharField()


class SigningKeyList(serializers.Serializer[Mapping[str, Any]]):
    """The live keys of the caller."""

    signingKeys = SigningKeyOutput(many=True)


class SigningKeysView(ApiView):
    """The keys."""

    @described("listSigningKeys", gives=SigningKeyList)
    def get(self, request: Request) -> Response:
        """List the live keys, newest first; more than one during a rotation."""
        return show(SigningKeyList, {"signingKeys": live_signing_keys(self.owner)})

    @described("createSigningKey", gives=NewSigningKeyOutput, code=201)
    def post(self, request: Request) -> Response:
        """Make the first key, which signs every call from now on; `secret` is shown in this answer only."""
        self.read_nothing()
        return _made(create_signing_key, self.owner)


class RotateSigningKeyView(ApiView):
    """The change to a new key."""

    @described("rotateSigningKey", gives=NewSigningKeyOutput, code=201)
    def post(self, request: Request) -> Response:
        """Make a new key; the old one signs beside it for 24 hours. `secret` is shown in this answer only."""
        self.read_nothing()
        return _made(rotate_signing_key, self.owner)


def _made(make: Callable[..., tuple[SigningKey, str]], owner: User) -> Response:
    try:
        key, text = make(owner=owner)
    except SigningKeyRefusedError as error:
        raise ConflictError(error.code, str(error)) from error
    key.secret = text  # type: ignore[attr-defined]
    return show(NewSigningKeyOutput, key, 201)
