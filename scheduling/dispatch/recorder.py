"""Keeps what is known of one call while it runs, and turns it into the outcome."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urljoin

from scheduling.dispatch.failures import Failure, Phase
from scheduling.exchange.bodies import clean_str, clean_text
from scheduling.exchange.compression import Decompressed, decompress, unread_words
from scheduling.exchange.criteria import DEFAULT_STATUS, MaxDuration
from scheduling.exchange.outcome import Blame, Call, ErrorKind, Outcome, Timings, named_address
from scheduling.exchange.server_wait import MAX_READ_LENGTH, is_wait_header

MAX_HEADER_VALUE = 256
MAX_LOCATION = 2_048
MAX_KEPT_HEADERS = 20
MAX_WAIT_HEADERS = 40

_KEPT_HEADERS = frozenset(
    {
        *("content-encoding", "content-length", "content-type", "date", "etag", "last-modified", "location"),
    }
)
_KEPT_FIRST = _KEPT_HEADERS | {"retry-after"}
_CONDITIONS = frozenset({"if-modified-since", "if-none-match"})


def is_kept(name: str) -> bool:
    """Whether the response header `name`, in lower case, is stored."""
    return name in _KEPT_HEADERS or is_wait_header(name)


@dataclass(slots=True)
class Recorder:
    """Collects phases, status, headers and body of one call. Times are `time.monotonic_ns`."""

    call: Call
    synthetic_target: bool = False
    started_ns: int = 0
    phase: Phase = Phase.START
    host: str = ""
    status_code: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    wait_headers: tuple[tuple[str, str], ...] = ()
    body: bytearray = field(default_factory=bytearray)
    truncated: bool = False
    _phase_ns: int = 0
    _spent_ms: dict[Phase, float] = field(default_factory=dict)

    def enter(self, phase: Phase) -> None:
        """Note that `phase` begins now and the one before it ends."""
        now = time.monotonic_ns()
        if self.phase is not Phase.START:
            self._spent_ms[self.phase] = (now - self._phase_ns) / 1e6
        self.phase = phase
        self._phase_ns = now

    def measured(self, phase: Phase, spent_ms: Mapping[Phase, float]) -> None:
        """Take over how far the call came and how long each phase took, where the library measured it."""
        self.phase = phase
        self._spent_ms.update(spent_ms)

    def receive(self, status_code: int, headers: Iterable[tuple[str, str]]) -> None:
        """Take over status and headers (names in lower case), which are complete now."""
        if self.phase is not Phase.EXCHANGE:
            self.enter(Phase.EXCHANGE)
        self.enter(Phase.BODY)
        self.status_code = status_code
        kept = [(name, value) for name, value in headers if is_kept(name)]
        # Those with a meaning of their own come first, so that no number of limits leaves them out.
        kept.sort(key=lambda header: header[0] not in _KEPT_FIRST)
        self.headers = tuple((name, _kept_value(name, value)) for name, value in kept[:MAX_KEPT_HEADERS])
        asking = [(name, value[: MAX_READ_LENGTH + 1]) for name, value in kept if is_wait_header(name)]
        if asking:
            dates = [header for header in self.headers if header[0] == "date"]
            self.wait_headers = (*dates, *asking[:MAX_WAIT_HEADERS])

    def keep(self, chunk: bytes) -> bool:
        """Add to the body; return False when it went over the cap and nothing more is to be read."""
        room = self.call.max_response_bytes - len(self.body)
        self.body += chunk[:room]
        self.truncated = len(chunk) > room
        return not self.truncated

    def finish(self, failure: Failure | None) -> Outcome:
        """Return the outcome; `failure` None means that a complete response came, which the criteria then judge."""
        finished_ns = time.monotonic_ns()
        started_ns = self.started_ns or finished_ns
        if self.phase in (Phase.RESOLVE, Phase.CONNECT, Phase.TLS) and self.phase not in self._spent_ms:
            self.enter(self.phase)
        headers = dict(self.headers)
        content_type = headers.get("content-type")
        read = self._read_body(headers)
        clean = clean_text(read.data, content_type, truncated=read.truncated)
        total_ms = (finished_ns - started_ns) / 1e6
        redirect_to = self._redirect_to(headers.get("location"))
        flags = {*clean.flags, *read.flags, *(["truncated"] * read.truncated)}
        if failure is None and self._is_unchanged():
            flags.add("unchanged")
        if failure is None:
            failure = self._judge(clean.text, total_ms, read, redirect_to)
        return Outcome(
            call=self.call,
            ok=failure is None,
            error_kind=failure.kind if failure else None,
            error_message=failure.message if failure else None,
            blame=failure.blame if failure else None,
            status_code=self.status_code,
            timings=Timings(
                dns_ms=self._spent_ms.get(Phase.RESOLVE),
                connect_ms=self._spent_ms.get(Phase.CONNECT),
                tls_ms=self._spent_ms.get(Phase.TLS),
                first_byte_ms=self._spent_ms.get(Phase.EXCHANGE),
                total_ms=total_ms,
            ),
            started_ns=started_ns,
            finished_ns=finished_ns,
            body=clean.text,
            truncated=read.truncated,
            content_type=content_type,
            sha256=None if self.status_code is None else hashlib.sha256(read.data).hexdigest(),
            headers=self.headers,
            wait_headers=self.wait_headers,
            body_flags=tuple(sorted(flags)),
            redirect_to=redirect_to,
        )

    def _read_body(self, headers: Mapping[str, str]) -> Decompressed:
        """Return the body as it was before the server compressed it, at most as long as the cap."""
        return decompress(
            bytes(self.body),
            headers.get("content-encoding"),
            limit=self.call.max_response_bytes,
            truncated=self.truncated,
        )

    def _redirect_to(self, location: str | None) -> str | None:
        """Return the absolute address that a redirect points to; None for any other answer."""
        if location is None or not 300 <= (self.status_code or 0) <= 399:
            return None
        try:
            return urljoin(self.call.url, location)
        except ValueError:
            return location

    def _is_unchanged(self) -> bool:
        """Whether a 304 answers a condition of the owner's, who does not name statuses without it."""
        criteria, call = self.call.success, self.call
        return (
            self.status_code == 304
            and call.method in ("GET", "HEAD")
            and (criteria.status == DEFAULT_STATUS or criteria.accepts_status(304))
            and any(name.lower() in _CONDITIONS for name, _ in call.headers)
        )

    def _judge(self, text: str, total_ms: float, read: Decompressed, redirect_to: str | None) -> Failure | None:
        criteria, status = self.call.success, self.status_code or 0
        if self._is_unchanged():
            # There is no body to look into.
            limits = tuple(assertion for assertion in criteria.assertions if isinstance(assertion, MaxDuration))
            criteria = replace(criteria, status=((304, 304),), assertions=limits)
        if not criteria.accepts_status(status):
            return Failure(ErrorKind.HTTP_ERROR, _refusal(status, redirect_to), Blame.REMOTE)
        unread = next((unread_words(flag) for flag in read.flags if not flag.startswith("decoded:")), None)
        unmet = criteria.failed_assertion(text, truncated=read.truncated, duration_ms=total_ms, unread=unread)
        return None if unmet is None else Failure(ErrorKind.ASSERTION_FAILED, unmet, Blame.REMOTE)


def _kept_value(name: str, value: str) -> str:
    return clean_str(value)[: MAX_LOCATION if name == "location" else MAX_HEADER_VALUE]


def _refusal(status: int, redirect_to: str | None) -> str:
    """Say what the server answered, and of a redirect what the owner can do."""
    if redirect_to is not None and status != 304:
        return (
            f"The server answered {status}, redirecting to {named_address(redirect_to)}. Redirects are not followed:"
            f" use that address as the URL, or accept {status} as a status."
        )
    redirect = "; redirects are not followed" if 300 <= status <= 399 and status != 304 else ""
    return f"The server answered {status}{redirect}."
