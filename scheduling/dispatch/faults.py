"""Names what went wrong in a call, from the exception and from how far the call had come."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator

import httpcore2
import httpx2

from scheduling.dispatch.recorder import Failure, Phase, Recorder
from scheduling.dispatch.resolver import NameNotResolvedError
from scheduling.outcome import Blame, ErrorKind

# Out of file handles, buffers or memory, no route or no interface of ours, or our own firewall.
_LOCAL_ERRNOS = frozenset(
    {
        *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM),
    }
)
_CONNECT_WORDS = {
    errno.ECONNREFUSED: "The connection was refused.",
    errno.ECONNRESET: "The connection was reset.",
    errno.EHOSTUNREACH: "The host could not be reached.",
}
# Verification codes of OpenSSL, x509_vfy.h.
_CERTIFICATE_WORDS = {
    10: "The certificate has expired.",
    18: "The certificate is self-signed.",
    19: "The certificate is self-signed.",
    20: "The issuer of the certificate is not trusted.",
    21: "The issuer of the certificate is not trusted.",
    62: "The certificate is for another host name.",
    64: "The certificate is for another address.",
}
_PHASE_WORDS = {
    Phase.START: "before the call was made",
    Phase.RESOLVE: "while the host name was being resolved",
    Phase.CONNECT: "while connecting",
    Phase.TLS: "during the TLS handshake",
    Phase.EXCHANGE: "while waiting for the response",
    Phase.BODY: "while the body was being received",
}
INTERNAL = "The call failed inside the scheduler."
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
        return Failure(ErrorKind.DESTINATION_NOT_ALLOWED, "The destination is not allowed.", Blame.POLICY)
    if isinstance(error, NameNotResolvedError):
        return Failure(ErrorKind.DNS_FAILED, "The host name could not be resolved.", dns_blame)
    if isinstance(error, _TIMEOUTS):
        blame = dns_blame if phase is Phase.RESOLVE else Blame.REMOTE
        message = f"The deadline of {recorder.call.timeout_ms} ms passed {_PHASE_WORDS[phase]}."
        return Failure(ErrorKind.TIMEOUT, message, blame)
    causes = list(_causes(error))
    # h11 marks a header section over 100 KiB with the status that a server would answer to one.
    if any(getattr(cause, "error_status_hint", None) == 431 for cause in causes):
        return Failure(ErrorKind.RESPONSE_TOO_LARGE, "The response headers are too large.", Blame.REMOTE)
    if phase is Phase.TLS:
        return Failure(ErrorKind.TLS_FAILED, _tls_words(causes), Blame.REMOTE)
    if phase is Phase.CONNECT or isinstance(error, httpx2.ConnectError):
        return _connect_failure(causes)
    if isinstance(error, _GARBLED):
        words = "The response ended early." if phase is Phase.BODY else "The server did not answer in valid HTTP."
        return Failure(ErrorKind.HTTP_ERROR, words, Blame.REMOTE)
    if isinstance(error, _BROKEN) and phase >= Phase.EXCHANGE:
        return Failure(ErrorKind.HTTP_ERROR, "The connection broke before the response was complete.", Blame.REMOTE)
    return Failure(ErrorKind.INTERNAL_ERROR, INTERNAL, Blame.LOCAL)


def _connect_failure(causes: list[BaseException]) -> Failure:
    numbers = [cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno is not None]
    if any(number in _LOCAL_ERRNOS for number in numbers):
        return Failure(ErrorKind.CONNECT_FAILED, "The network of the scheduler did not allow it.", Blame.LOCAL)
    words = next((_CONNECT_WORDS[number] for number in numbers if number in _CONNECT_WORDS), None)
    return Failure(ErrorKind.CONNECT_FAILED, words or "The connection could not be made.", Blame.REMOTE)


def _tls_words(causes: list[BaseException]) -> str:
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _CERTIFICATE_WORDS.get(cause.verify_code, "The certificate was not accepted.")
    return "The TLS handshake failed."


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what it was raised from, at most a dozen in all."""
    cause: BaseException | None = error
    for _ in range(12):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__
