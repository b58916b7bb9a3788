"""Why calls fail, in words that every dispatcher shares.

The sentences are coarse and fixed: they name no address and repeat nothing that the server sent.
"""

from __future__ import annotations

import errno
import re
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
    2: "The issuer of the certificate is not trusted.",
    7: "The signature of the certificate is wrong.",
    9: "The certificate is not valid yet.",
    10: "The certificate has expired.",
    13: "The certificate has a malformed date.",
    14: "The certificate has a malformed date.",
    18: "The certificate is self-signed.",
    19: "The certificate is self-signed.",
    20: "The issuer of the certificate is not trusted.",
    21: "The issuer of the certificate is not trusted.",
    22: "The chain of certificates is too long.",
    23: "The certificate was revoked.",
    24: "The issuer of the certificate may not issue certificates.",
    25: "The chain of certificates is longer than its issuer allows.",
    26: "The certificate is not meant for servers.",
    62: "The certificate is for another host name.",
    64: "The certificate is for another address.",
    66: "The key of the certificate is too weak.",
    67: "The key of an issuer of the certificate is too weak.",
    68: "The signature of an issuer of the certificate is too weak.",
    79: "The issuer of the certificate may not issue certificates.",
}
_NO_CLIENT_CERTIFICATE = "The server demands a client certificate, and calls carry none."
_NO_COMMON_VERSION = "The server speaks no TLS version that is allowed here (1.2 or newer)."
_MISREAD = "The server could not read the TLS handshake, or data was damaged on the way"
_CONTRADICTED = "The server found a contradiction in the TLS handshake"
# TLS alerts, RFC 8446 section 6, and those of TLS 1.2 (RFC 5246, 6066, 7507).
_ALERT_WORDS = {
    0: "The server closed the connection during the TLS handshake.",
    10: f"{_CONTRADICTED} (unexpected message).",
    20: f"{_MISREAD} (bad record).",
    21: f"{_MISREAD} (decryption failed).",
    22: f"{_MISREAD} (record too long).",
    30: f"{_MISREAD} (decompression failed).",
    40: "The server refused the TLS handshake: no cipher in common, or it demands a client certificate.",
    41: _NO_CLIENT_CERTIFICATE,
    42: _NO_CLIENT_CERTIFICATE,
    43: _NO_CLIENT_CERTIFICATE,
    44: _NO_CLIENT_CERTIFICATE,
    45: _NO_CLIENT_CERTIFICATE,
    46: _NO_CLIENT_CERTIFICATE,
    47: f"{_CONTRADICTED} (illegal parameter).",
    48: _NO_CLIENT_CERTIFICATE,
    49: "The server denied access during the TLS handshake.",
    50: f"{_MISREAD} (message malformed).",
    51: f"{_MISREAD} (signature or key exchange wrong).",
    60: "The server demands weaker encryption than is allowed here.",
    70: _NO_COMMON_VERSION,
    71: "The server demands stronger encryption than could be agreed on.",
    80: "The server failed during the TLS handshake.",
    86: f"{_CONTRADICTED} (inappropriate fallback).",
    90: "The server gave up the TLS handshake.",
    100: "The server refused to renegotiate TLS.",
    109: f"{_CONTRADICTED} (missing extension).",
    110: f"{_CONTRADICTED} (unsupported extension).",
    111: _NO_CLIENT_CERTIFICATE,
    112: "The server has no certificate for this host name.",
    113: f"{_CONTRADICTED} (certificate status).",
    114: _NO_CLIENT_CERTIFICATE,
    115: "The server demands a pre-shared key, and calls have none.",
    116: _NO_CLIENT_CERTIFICATE,
    120: "The server does not offer HTTP/1.1 on this port.",
    121: "The server demands an encrypted TLS handshake (ECH), which calls do not make.",
}
# What OpenSSL found by itself; the last part of its error text.
_TLS_WORDS = {
    "wrong version number": "The server does not speak TLS on this port.",
    "packet length too long": "The server does not speak TLS on this port.",
    "record layer failure": "The server does not speak TLS on this port.",
    "unsupported protocol": _NO_COMMON_VERSION,
    "unexpected eof while reading": "The server closed the connection during the TLS handshake.",
    "dh key too small": "The key exchange of the server is too weak.",
    "bad ecpoint": "The key exchange of the server is malformed.",
    "unsafe legacy renegotiation disabled": "The server's TLS lacks secure renegotiation.",
}
_TLS_ERROR = re.compile(r"error:([0-9A-F]{8}):[^:]*:[^:]*:([^:,]+)")
# OpenSSL adds 1000 to the number of an alert that came from the other side (SSL_AD_REASON_OFFSET).
_ALERT_OFFSET, _REASON_MASK = 1_000, 0x7FFFFF
WRONG_NAME, WRONG_ADDRESS = 62, 64
CERTIFICATE_EXPIRED_ALERT = 45


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


REJECTED = Failure(
    ErrorKind.TLS_FAILED,
    "The server closed the connection right after the TLS handshake, as one does that demands a client certificate.",
    Blame.REMOTE,
)
NO_SUCH_NAME = Failure(ErrorKind.DNS_FAILED, "There is no such host name, or it has no address.", Blame.REMOTE)


def unresolved(dns_blame: Blame) -> Failure:
    """No name server answered; `dns_blame` is whom that is blamed on."""
    return Failure(ErrorKind.DNS_FAILED, "The host name could not be resolved: no name server answered.", dns_blame)


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


def handshake_failed(error_text: str = "") -> Failure:
    """TLS could not be agreed upon; `error_text` is what the library says, in which OpenSSL's error is looked for."""
    if (number := alert_number(error_text)) is not None:
        return alerted(number)
    words = "The TLS handshake failed."
    if found := _TLS_ERROR.search(error_text):
        words = _TLS_WORDS.get(found[2].strip(), words)
    return Failure(ErrorKind.TLS_FAILED, words, Blame.REMOTE)


def alerted(number: int) -> Failure:
    """The server ended TLS with an alert."""
    words = _ALERT_WORDS.get(number, f"The server ended the TLS handshake with alert {number}.")
    return Failure(ErrorKind.TLS_FAILED, words, Blame.REMOTE)


def alert_number(error_text: str) -> int | None:
    """The TLS alert by which the server ended the connection; None where `error_text` tells of none."""
    found = _TLS_ERROR.search(error_text)
    number = (int(found[1], 16) & _REASON_MASK) - _ALERT_OFFSET if found else -1
    return number if 0 <= number <= 255 else None


def certificate_refused(verify_code: int) -> Failure:
    """The certificate did not pass; `verify_code` is OpenSSL's reason."""
    words = _CERTIFICATE_WORDS.get(verify_code, "The certificate was not accepted.")
    return Failure(ErrorKind.TLS_FAILED, words, Blame.REMOTE)


def garbled(phase: Phase) -> Failure:
    """What came was no valid HTTP, or ended before it was complete."""
    words = "The response ended early." if phase is Phase.BODY else "The server did not answer in valid HTTP."
    return Failure(ErrorKind.HTTP_ERROR, words, Blame.REMOTE)
