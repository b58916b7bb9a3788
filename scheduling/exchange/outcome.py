"""The values that cross the dispatcher seam: what to call, and what came of it.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from uuid import UUID

from scheduling.exchange.criteria import CriteriaError, SuccessCriteria, parse_success_criteria
from scheduling.exchange.masking import Masker

__all__ = [
    "Blame",
    "Call",
    "CriteriaError",
    "ErrorKind",
    "Outcome",
    "SuccessCriteria",
    "Timings",
    "masked",
    "named_address",
    "parse_success_criteria",
]

# Of an address that a sentence names.
MAX_NAMED_LENGTH = 300


class ErrorKind(StrEnum):
    """Why a call did not succeed. Coarse on purpose: none of them tells what is behind an address."""

    DESTINATION_NOT_ALLOWED = "destination_not_allowed"
    DNS_FAILED = "dns_failed"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    HTTP_ERROR = "http_error"
    RESPONSE_TOO_LARGE = "response_too_large"
    ASSERTION_FAILED = "assertion_failed"
    INTERNAL_ERROR = "internal_error"
    SECRET_UNAVAILABLE = "secret_unavailable"  # noqa: S105  a kind of error
    CANCELED = "canceled"


class Blame(StrEnum):
    """Whose fault a failure is. `remote` and `policy` raise the failure count of the endpoint, `local` does not."""

    REMOTE = "remote"
    POLICY = "policy"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to make, complete: dispatchers add nothing but what the protocol needs.

    `timeout_ms` is one deadline over the whole call; `max_response_bytes` caps the body that is kept. `owner_id` and
    `fence` travel along for the one who started the call. `synthetic` marks a call of a synthetic job, the only kind
    that may reach the synthetic base URL.
    """

    run_id: UUID
    endpoint_id: UUID
    fence: int
    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes | None = field(repr=False)
    timeout_ms: int
    max_response_bytes: int
    success: SuccessCriteria
    owner_id: UUID
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Timings:
    """How long each phase took, in milliseconds; None where the phase was not reached or did not exist.

    The phases follow each other and do not overlap: name resolution, TCP connect, TLS handshake, then from the first
    byte sent to the end of the response headers. `total_ms` covers everything, the body too.
    """

    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None
    total_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call. `ok` is True exactly when `error_kind`, `error_message` and `blame` are None.

    `started_ns` and `finished_ns` are readings of `time.monotonic_ns` in this process. `status_code`, `headers` and
    the body are kept also where the call failed after they had arrived. `body` is clean text of at most
    `max_response_bytes` bytes, `sha256` the digest of those bytes after decompression (None when no response came),
    and `body_flags` says what was done to them. `redirect_to` is the absolute address that a redirect points to;
    `error_message` names it by `named_address`. `wait_headers` are those by which the server may ask to be left alone,
    with its `Date`, as `scheduling.exchange.server_wait` reads them; empty where it asks for nothing.
    """

    call: Call
    ok: bool
    error_kind: ErrorKind | None
    error_message: str | None
    blame: Blame | None
    status_code: int | None
    timings: Timings
    started_ns: int
    finished_ns: int
    body: str = field(default="", repr=False)
    truncated: bool = False
    content_type: str | None = None
    sha256: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    wait_headers: tuple[tuple[str, str], ...] = ()
    body_flags: tuple[str, ...] = ()
    redirect_to: str | None = None

    @property
    def begun(self) -> bool:
        """Whether the call was begun; one that was not ended at the very moment that stands for its start."""
        return self.finished_ns > self.started_ns

    @classmethod
    def unsent(cls, call: Call, kind: ErrorKind, message: str, blame: Blame, at_ns: int) -> Outcome:
        """Return the outcome of a call that ended at `at_ns` before anything was dialled."""
        return cls(
            call=call,
            ok=False,
            error_kind=kind,
            error_message=message,
            blame=blame,
            status_code=None,
            timings=Timings(total_ms=0.0),
            started_ns=at_ns,
            finished_ns=at_ns,
        )


def named_address(address: str) -> str:
    """The address as a sentence names it: of a long one the beginning."""
    return address if len(address) <= MAX_NAMED_LENGTH else f"{address[:MAX_NAMED_LENGTH]}..."


def masked(outcome: Outcome, masker: Masker) -> Outcome:
    """Return the outcome without echoes of secrets, as it may be stored; the flag `masked` says that there were any."""
    message = outcome.error_message
    if message is not None and outcome.redirect_to is not None:
        # Masked before it is cut: the half of a secret at the cut would be found no more.
        message = message.replace(named_address(outcome.redirect_to), named_address(masker(outcome.redirect_to)))
    stored = replace(
        outcome,
        body=masker.body(outcome.body),
        content_type=masker.header("content-type", outcome.content_type) if outcome.content_type else None,
        # The words are ours and the owner's; only what stands nowhere by chance can be an echo.
        error_message=masker.distinctive(message) if message else None,
        headers=tuple((name, masker.header(name, value)) for name, value in outcome.headers),
    )
    if stored == outcome:
        return outcome
    return replace(stored, body_flags=tuple(sorted({*outcome.body_flags, "masked"})))
