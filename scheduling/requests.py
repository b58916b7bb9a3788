"""Turns a claim into the request that goes out: headers opened, identity and schedule of the delivery attached."""

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import cast

from accounts.vault import SecretUnavailableError, unseal
from scheduling.claims import Claim
from scheduling.criteria import parse_success_criteria
from scheduling.outcome import Call

USER_AGENT = "Cronicorn/0.1"
# Shorter values would mask half of any text.
SHORTEST_MASKED = 4
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
    """The request of a claim. Raises SecretUnavailableError where a header cannot be opened."""
    secrets = _open_headers(claim)
    headers = ((header["name"], secrets.get(header["name"], header["value"]) or "") for header in claim.headers)
    call = replace(
        bare_call(claim),
        headers=(*_own_headers(claim), *headers),
        body=claim.body.encode() if claim.body is not None else None,
        success=parse_success_criteria(claim.success_criteria),
    )
    return Request(call, tuple(value for value in secrets.values() if len(value) >= SHORTEST_MASKED))


def bare_call(claim: Claim) -> Call:
    """The call of a claim that has a run, without headers, body and criteria: enough to say that it was never made."""
    assert claim.run_id is not None
    return Call(
        run_id=claim.run_id,
        endpoint_id=claim.endpoint_id,
        fence=claim.fence,
        method=claim.method,
        url=claim.url,
        headers=(),
        body=None,
        timeout_ms=claim.timeout_ms,
        max_response_bytes=claim.max_response_bytes,
        success=parse_success_criteria(None),
        owner_id=claim.owner_id,
        synthetic=claim.synthetic,
    )


def _own_headers(claim: Claim) -> tuple[tuple[str, str], ...]:
    delivery = delivery_id(claim.endpoint_id, claim.slot_at)
    return (
        ("User-Agent", USER_AGENT),
        ("webhook-id", delivery),
        ("Idempotency-Key", delivery),
        ("Cronicorn-Scheduled-For", claim.slot_at.astimezone(UTC).isoformat().replace("+00:00", "Z")),
        ("Cronicorn-Attempt", str(claim.attempt)),
    )


def _open_headers(claim: Claim) -> dict[str, str]:
    row = f"job_endpoints:{claim.endpoint_id}"
    values = cast(dict[str, str], unseal(row, claim.headers_sealed)) if claim.headers_sealed is not None else {}
    missing = [header["name"] for header in claim.headers if header["secret"] and header["name"] not in values]
    if missing:
        raise SecretUnavailableError(f"The value of the header {missing[0]} is missing.")
    return values
