"""Names what went wrong in a call made through httpx, from the exception and from how far the call had come."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpcore2
import httpx2

from scheduling.dispatch.failures import (
    BROKEN,
    CRASHED,
    HEADERS_TOO_LARGE,
    REFUSED,
    Failure,
    Phase,
    certificate_refused,
    deadline_passed,
    garbled,
    handshake_failed,
    not_connected,
    unresolved,
)
from scheduling.dispatch.recorder import Recorder
from scheduling.dispatch.resolver import NameNotResolvedError
from scheduling.exchange.outcome import Blame

_TIMEOUTS = (TimeoutError, httpx2.TimeoutException, httpcore2.TimeoutException)
_BROKEN = (httpx2.NetworkError, httpcore2.NetworkError, OSError)
_GARBLED = (httpx2.RemoteProtocolError, httpcore2.RemoteProtocolError)


class DestinationRefusedError(Exception):
    """The egress policy refused the URL, or every address of its name; nothing was dialled."""


def explain(error: BaseException, recorder: Recorder, dns_blame: Blame) -> Failure:
    """Return the failure that `error` stands for; what is not known is `internal_error`, blamed on us.

    `dns_blame` is whom an unanswered name is blamed on.
    """
    phase = recorder.phase
    if isinstance(error, DestinationRefusedError):
        return REFUSED
    if isinstance(error, NameNotResolvedError):
        return unresolved(dns_blame)
    if isinstance(error, _TIMEOUTS):
        return deadline_passed(phase, recorder.call.timeout_ms, dns_blame)
    causes = list(_causes(error))
    # h11 marks a header section over 100 KiB with the status that a server would answer to one.
    if any(getattr(cause, "error_status_hint", None) == 431 for cause in causes):
        return HEADERS_TOO_LARGE
    if phase is Phase.TLS:
        return _tls_failure(causes)
    if phase is Phase.CONNECT or isinstance(error, httpx2.ConnectError):
        return not_connected(cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno is not None)
    if isinstance(error, _GARBLED):
        return garbled(phase)
    if isinstance(error, _BROKEN) and phase >= Phase.EXCHANGE:
        return BROKEN
    return CRASHED


def _tls_failure(causes: list[BaseException]) -> Failure:
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return certificate_refused(cause.verify_code)
    return handshake_failed()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what it was raised from, at most a dozen in all."""
    cause: BaseException | None = error
    for _ in range(12):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__
