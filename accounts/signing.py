"""Signatures of outgoing calls, as Standard Webhooks 1.0 has them: HMAC-SHA256 over `id.timestamp.body`. Pure."""

import base64
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
# The specification asks for 24 to 64.
_SECRET_BYTES = 32


def make_secret() -> str:
    """A new secret as text, `whsec_<base64>`: what signs, and what a receiver verifies with."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def sign(secret_texts: Iterable[str], *, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature a secret, in their order. `timestamp` is in Unix seconds.

    Raises ValueError where a text is not a secret, and where there is none.
    """
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    signatures = [base64.b64encode(hmac.digest(_key(text), signed, "sha256")).decode() for text in secret_texts]
    if not signatures:
        raise ValueError("There is no secret to sign with.")
    return " ".join(f"v1,{signature}" for signature in signatures)


def _key(text: str) -> bytes:
    if not text.startswith(PREFIX):
        raise ValueError("A signing secret begins with whsec_.")
    key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    if not key:
        raise ValueError("A signing secret is not empty.")
    return key
