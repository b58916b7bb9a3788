"""Why calls fail, in words that every dispatcher shares.

The sentences are coarse and fixed: they name no address and repeat nothing that the server sent.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from scheduling.exchange.outcome import Blame, ErrorKind

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
WRONG_NAME, WRONG_ADDRESS = 62, 64


class Phase(IntEnum):
    """How far a call has come."""

    START = 0
    RESOLVE = 1
    CONNECT = 2
    TLS = 3
    EXCHANGE = 4
    BODY = 5


_PHASE_WORDS = {
    Phase.START: "before the call was made",
    Phase.RESOLVE: "while the host name was being resolved",
    Phase.CONNECT: "while connecting",
    Phase.TLS: "during the TLS handshake",
    Phase.EXCHANGE: "while waiting for the response",
    Phase.BODY: "while the body was being received",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed; `message` is one coarse sentence that names no address and repeats nothing received."""

    kind: ErrorKind
    message: str
    blame: Blame


REFUSED = Failure(ErrorKind.DESTINATION_NOT_ALLOWED, "The destination is not allowed.", Blame.POLICY)
CANCELED = Failure(ErrorKind.CANCELED, "The call was canceled.", Blame.LOCAL)
CRASHED = Failure(ErrorKind.INTERNAL_ERROR, "The call failed inside the scheduler.", Blame.LOCAL)
HEADERS_TOO_LARGE = Failure(ErrorKind.RESPONSE_TOO_LARGE, "The response headers are too large.", Blame.REMOTE)
OUT_OF_FILES = Failure(ErrorKind.CONNECT_FAILED, "The scheduler had no file handle left.", Blame.LOCAL)
BROKEN = Failure(ErrorKind.HTTP_ERROR, "The connection broke before the response was complete.", Blame.REMOTE)


def unresolved(dns_blame: Blame) -> Failure:
    """The name has no address; `dns_blame` is whom that is blamed on."""
    return Failure(ErrorKind.DNS_FAILED, "The host name could not be resolved.", dns_blame)


def deadline_passed(phase: Phase, timeout_ms: int, dns_blame: Blame) -> Failure:
    """The deadline of the call passed in `phase`; a name that was not resolved by then is blamed on `dns_blame`."""
    blame = dns_blame if phase is Phase.RESOLVE else Blame.REMOTE
    message = f"The deadline of {timeout_ms} ms passed {_PHASE_WORDS[phase]}."
    return Failure(ErrorKind.TIMEOUT, message, blame)


def not_connected(numbers: Iterable[int]) -> Failure:
    """No connection was made; `numbers` are what the operating system said (`errno`)."""
    known = list(numbers)
    if any(number in _LOCAL_ERRNOS for number in known):
        return Failure(ErrorKind.CONNECT_FAILED, "The network of the scheduler did not allow it.", Blame.LOCAL)
    words = next((_CONNECT_WORDS[number] for number in known if number in _CONNECT_WORDS), None)
    return Failure(ErrorKind.CONNECT_FAILED, words or "The connection could not be made.", Blame.REMOTE)


def handshake_failed() -> Failure:
    """TLS could not be agreed upon."""
    return Failure(ErrorKind.TLS_FAILED, "The TLS handshake failed.", Blame.REMOTE)


def certificate_refused(verify_code: int) -> Failure:
    """The certificate did not pass; `verify_code` is OpenSSL's reason."""
    words = _CERTIFICATE_WORDS.get(verify_code, "The certificate was not accepted.")
    return Failure(ErrorKind.TLS_FAILED, words, Blame.REMOTE)


def garbled(phase: Phase) -> Failure:
    """What came was no valid HTTP, or ended before it was complete."""
    words = "The response ended early." if phase is Phase.BODY else "The server did not answer in valid HTTP."
    return Failure(ErrorKind.HTTP_ERROR, words, Blame.REMOTE)
