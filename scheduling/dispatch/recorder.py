"""Keeps what is known of one call while it runs, and turns it into the outcome."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scheduling.dispatch.failures import Failure, Phase
from scheduling.exchange.bodies import clean_str, clean_text
from scheduling.exchange.outcome import Blame, Call, ErrorKind, Outcome, Timings
from scheduling.exchange.server_wait import MAX_READ_LENGTH, is_wait_header

MAX_HEADER_VALUE = 256
MAX_KEPT_HEADERS = 20
MAX_WAIT_HEADERS = 40

_KEPT_HEADERS = frozenset({"content-encoding", "content-length", "content-type", "date", "etag", "last-modified"})
_KEPT_FIRST = _KEPT_HEADERS | {"retry-after"}


def is_kept(name: str) -> bool:
    """Whether the response header `name`, in lower case, is stored."""
    return name in _KEPT_HEADERS or is_wait_header(name)


@dataclass(slots=True)
class Recorder:
    """Collects phases, status, headers and body of one call. Times are `time.monotonic_ns`."""

    call: Call
    synthetic_target: bool = False
    started_ns: int = 0
    deadline: float = 0.0  # on the clock of the event loop
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

    async def trace(self, event: str, _info: dict[str, object]) -> None:
        """Follow the connection through the `trace` extension of httpx."""
        if event == "connection.start_tls.started":
            self.enter(Phase.TLS)
        elif event == "http11.send_request_headers.started":
            self.enter(Phase.EXCHANGE)

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
        if len(kept) > MAX_KEPT_HEADERS:
            # A flood of rate limits must not displace what else is read here.
            kept.sort(key=lambda header: header[0] not in _KEPT_FIRST)
        self.headers = tuple((name, clean_str(value)[:MAX_HEADER_VALUE]) for name, value in kept[:MAX_KEPT_HEADERS])
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
        clean = clean_text(bytes(self.body), content_type, truncated=self.truncated)
        total_ms = (finished_ns - started_ns) / 1e6
        if failure is None:
            failure = self._judge(clean.text, total_ms)
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
            truncated=self.truncated,
            content_type=content_type,
            sha256=None if self.status_code is None else hashlib.sha256(self.body).hexdigest(),
            headers=self.headers,
            wait_headers=self.wait_headers,
            body_flags=self._flags(clean.flags, headers),
        )

    def _flags(self, found: tuple[str, ...], headers: dict[str, str]) -> tuple[str, ...]:
        encoded = (headers.get("content-encoding") or "identity").lower() != "identity"
        if not (self.truncated or encoded):
            return found
        return tuple(sorted({*found, *(["truncated"] * self.truncated), *(["content_encoded"] * encoded)}))

    def _judge(self, text: str, total_ms: float) -> Failure | None:
        criteria, status = self.call.success, self.status_code or 0
        if not criteria.accepts_status(status):
            redirect = "; redirects are not followed" if 300 <= status <= 399 and status != 304 else ""
            return Failure(ErrorKind.HTTP_ERROR, f"The server answered {status}{redirect}.", Blame.REMOTE)
        unmet = criteria.failed_assertion(text, truncated=self.truncated, duration_ms=total_ms)
        return None if unmet is None else Failure(ErrorKind.ASSERTION_FAILED, unmet, Blame.REMOTE)
