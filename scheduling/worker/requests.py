"""Turns a claim into the request that goes out: headers opened; identity, schedule and signature attached."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from accounts.signing import PREFIX, sign
from accounts.vault import SecretUnavailableError, unseal
from scheduling.exchange.criteria import ANY_2XX, SuccessCriteria, parse_success_criteria
from scheduling.exchange.masking import MIN_SECRET_LENGTH
from scheduling.exchange.outcome import Call
from scheduling.exchange.public_headers import is_public
from scheduling.ledger.claims import Claim

USER_AGENT = "Cronicorn/0.1"
DELIVERY_NAMESPACE = uuid.UUID("5b0c6f5e-6d0e-5f5a-9a3e-6f2f8d9b7c11")


@dataclass(frozen=True, slots=True)
class Request:
    """A call, and the secret values in it that must be masked where they come back."""

    call: Call
    secrets: tuple[str, ...]


def delivery_id(endpoint_id: uuid.UUID, slot_at: datetime) -> str:
    """The id of a slot's delivery: computed, so that every attempt of the slot carries the same."""
    return str(uuid.uuid5(DELIVERY_NAMESPACE, f"{endpoint_id}/{slot_at.astimezone(UTC).isoformat()}"))


def build_request(claim: Claim) -> Request:
    """The request of a claim, signed where the owner has live signing keys.

    Raises SecretUnavailableError where a header or any of those keys cannot be opened.
    """
    stored = json.loads(claim.headers)
    values = _open_headers(claim, stored)
    signing = [cast(str, unseal(f"signing_keys:{key_id}", sealed)) for key_id, sealed in claim.signing_keys]
    body = claim.body.encode() if claim.body is not None else None
    delivery = delivery_id(claim.endpoint_id, claim.slot_at)
    own = (*_own_headers(claim, delivery), *_signature(claim, delivery, signing, body or b""))
    given = [(header["name"], values.get(header["name"], header["value"]) or "") for header in stored]
    agent = next((value for name, value in given if name.lower() == "user-agent"), "")
    agent = f"{agent} {USER_AGENT}".strip()
    headers = [(name, value) for name, value in given if name.lower() != "user-agent"]
    criteria = json.loads(claim.success_criteria) if claim.success_criteria is not None else None
    call = _call(claim, (("User-Agent", agent), *own, *headers), body, parse_success_criteria(criteria))
    secret = (value for name, value in values.items() if not is_public(name))
    masked = (*secret, *signing, *(text.removeprefix(PREFIX) for text in signing))
    return Request(call, tuple(value for value in masked if len(value) >= MIN_SECRET_LENGTH))


def bare_call(claim: Claim) -> Call:
    """The call of a claim that has a run, without headers, body and criteria: enough to say that it was never made."""
    return _call(claim, (), None, ANY_2XX)


def _call(claim: Claim, headers: tuple[tuple[str, str], ...], body: bytes | None, success: SuccessCriteria) -> Call:
    assert claim.run_id is not None
    return Call(
        run_id=claim.run_id,
        endpoint_id=claim.endpoint_id,
        fence=claim.fence,
        method=claim.method,
        url=claim.url,
        headers=headers,
        body=body,
        timeout_ms=claim.timeout_ms,
        max_response_bytes=claim.max_response_bytes,
        success=success,
        owner_id=claim.owner_id,
        synthetic=claim.synthetic,
    )


def _own_headers(claim: Claim, delivery: str) -> tuple[tuple[str, str], ...]:
    return (
        ("webhook-id", delivery),
        ("Idempotency-Key", delivery),
        ("Cronicorn-Scheduled-For", claim.slot_at.astimezone(UTC).isoformat().replace("+00:00", "Z")),
        ("Cronicorn-Attempt", str(claim.attempt)),
    )


def _signature(claim: Claim, delivery: str, secrets: Sequence[str], body: bytes) -> tuple[tuple[str, str], ...]:
    """The headers of a signature; none without secrets.

    The time is that of the start, rounded down to the second: when the call is due, or when it was claimed, if later.
    Receivers refuse old times, so the due time alone would fail every call that was missed and is made up for.
    """
    if not secrets:
        return ()
    timestamp = int(max(claim.due_at, claim.claimed_at).timestamp())
    signature = sign(secrets, message_id=delivery, timestamp=timestamp, body=body)
    return (("webhook-timestamp", str(timestamp)), ("webhook-signature", signature))


def _open_headers(claim: Claim, stored: Sequence[dict[str, Any]]) -> dict[str, str]:
    row = f"job_endpoints:{claim.endpoint_id}"
    values = cast(dict[str, str], unseal(row, claim.headers_sealed)) if claim.headers_sealed is not None else {}
    missing = [header["name"] for header in stored if header["secret"] and header["name"] not in values]
    if missing:
        raise SecretUnavailableError(f"The value of the header {missing[0]} is missing.")
    return values
