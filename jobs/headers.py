"""Request headers: what may be sent, and how they are kept. The value of a secret one is sealed for its endpoint's row.

The stored form is in `jobs.models.endpoint`; `scheduling.worker.requests` opens it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

from accounts.vault import SecretUnavailableError, seal, unseal
from jobs.errors import ConflictError, Fault, InvalidInputError
from scheduling.exchange.public_headers import is_public

MAX_HEADERS = 50
MAX_HEADER_BYTES = 8 * 1024

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
# Set by the protocol or by us: RFC 9110 section 7.6.1 (hop by hop), Standard Webhooks, and our own.
_RESERVED = frozenset(
    [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "proxy-connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "proxy-authenticate",
        "proxy-authorization",
        "accept-encoding",
        "idempotency-key",
    ]
)
_RESERVED_PREFIXES = ("webhook-", "cronicorn-")
_WHY_RESERVED = {
    "host": "Host is taken from the URL; change the URL instead.",
    "accept-encoding": "Bodies are asked for uncompressed, so that rules can read them; leave this header out.",
    "idempotency-key": "Every call carries an Idempotency-Key of its slot; leave this header out.",
}


@dataclass(frozen=True, slots=True)
class Header:
    """One header as given. `value` None keeps the stored value of the secret header of that name."""

    name: str
    value: str | None = field(repr=False)
    secret: bool


def parse_headers(value: object) -> tuple[Header, ...]:
    """Reads `[{"name", "value", "secret"}]`. Raises InvalidInputError that names every fault by its path."""
    if not isinstance(value, list):
        raise InvalidInputError(Fault("headers", "invalid_type", "Give a list of objects with name, value and secret."))
    if len(value) > MAX_HEADERS:
        raise InvalidInputError(Fault("headers", "too_many", f"At most {MAX_HEADERS} headers."))
    headers: list[Header] = []
    faults: list[Fault] = []
    for number, item in enumerate(value):
        try:
            headers.append(_parse_header(f"headers[{number}]", item, {header.name.lower() for header in headers}))
        except InvalidInputError as error:
            faults += error.faults
    if not faults and sum(len(header.name) + len(header.value or "") for header in headers) > MAX_HEADER_BYTES:
        faults.append(Fault("headers", "too_large", f"At most {MAX_HEADER_BYTES} bytes together."))
    if faults:
        raise InvalidInputError(*faults)
    return tuple(headers)


def _parse_header(path: str, item: object, taken: set[str]) -> Header:
    if not isinstance(item, Mapping):
        raise InvalidInputError(Fault(path, "invalid_type", "Give an object with name, value and secret."))
    faults = [
        Fault(f"{path}.{key}", "unknown_field", "This field is not known.")
        for key in item
        if key not in ("name", "value", "secret")
    ]
    name, value = item.get("name"), item.get("value")
    secret = item.get("secret", not (isinstance(name, str) and is_public(name)))
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 255:
        faults.append(Fault(f"{path}.name", "invalid", "Give a header name of letters, digits and dashes."))
    elif name.lower() in _RESERVED or name.lower().startswith(_RESERVED_PREFIXES):
        faults.append(Fault(f"{path}.name", "reserved", _why_reserved(name.lower())))
    elif name.lower() in taken:
        faults.append(Fault(f"{path}.name", "duplicate", "This header is given twice."))
    if not isinstance(secret, bool):
        faults.append(Fault(f"{path}.secret", "invalid_type", "Give true or false."))
    if value is None:
        if not secret:
            faults.append(Fault(f"{path}.value", "required", "Give a value."))
    elif not isinstance(value, str) or not _VALUE.fullmatch(value):
        faults.append(Fault(f"{path}.value", "invalid", "Give a text of visible ASCII characters and spaces."))
    if faults:
        raise InvalidInputError(*faults)
    return Header(cast(str, name), value.strip(" \t") if isinstance(value, str) else None, cast(bool, secret))


def _why_reserved(name: str) -> str:
    ours = (
        "Headers that begin with webhook- or cronicorn- are set by the service, which receivers rely on; leave it out."
    )
    other = "This header is set by the protocol for each connection; leave it out."
    return ours if name.startswith(_RESERVED_PREFIXES) else _WHY_RESERVED.get(name, other)


def with_content_type(headers: Sequence[Mapping[str, object]], content_type: str) -> list[dict[str, object]]:
    """The given or stored headers, with a content type where they name none."""
    given = [dict(header) for header in headers]
    if not any(str(header["name"]).lower() == "content-type" for header in given):
        given.append({"name": "Content-Type", "value": content_type, "secret": False})
    return given


def keep_headers(
    endpoint_id: UUID, headers: Sequence[Header], sealed: str | None = None
) -> tuple[list[dict[str, object]], str | None]:
    """The two columns that keep the headers: the list, and the sealed values of the secret ones.

    `sealed` is what the row holds now, for secrets whose value is kept. Raises InvalidInputError where there is
    nothing to keep, ConflictError where it cannot be opened.
    """
    row = f"job_endpoints:{endpoint_id}"
    known = _open(row, sealed) if any(header.secret and header.value is None for header in headers) else {}
    values: dict[str, str] = {}
    faults = []
    for number, header in enumerate(headers):
        if header.secret:
            value = header.value if header.value is not None else known.get(header.name.lower())
            if value is None:
                faults.append(Fault(f"headers[{number}].value", "required", "Give a value; none is stored."))
            else:
                values[header.name] = value
    if faults:
        raise InvalidInputError(*faults)
    listed: list[dict[str, object]] = [
        {"name": header.name, "secret": header.secret, "value": None if header.secret else header.value}
        for header in headers
    ]
    return listed, seal(row, values) if values else None


def _open(row: str, sealed: str | None) -> dict[str, str]:
    """The stored secret values by lower-case name."""
    if sealed is None:
        return {}
    try:
        values = cast(dict[str, str], unseal(row, sealed))
    except SecretUnavailableError as error:
        raise ConflictError(
            "secret_unavailable", "The stored secrets cannot be opened; give all values anew."
        ) from error
    return {name.lower(): value for name, value in values.items()}
