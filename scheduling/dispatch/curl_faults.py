"""Names what went wrong in a call made through libcurl, from its result code and from how far the call had come."""

from __future__ import annotations

import pycurl

from scheduling.dispatch.curl_transfer import Transfer
from scheduling.dispatch.failures import (
    BROKEN,
    CERTIFICATE_EXPIRED_ALERT,
    CRASHED,
    HEADERS_TOO_LARGE,
    REFUSED,
    REJECTED,
    WRONG_ADDRESS,
    WRONG_NAME,
    Failure,
    Phase,
    alert_number,
    alerted,
    certificate_refused,
    deadline_passed,
    garbled,
    handshake_failed,
    not_connected,
    unresolved,
)
from scheduling.exchange.outcome import Blame

E_CLIENT_CERTIFICATE, E_TOO_LARGE = 98, 100  # not named by pycurl
# What libcurl says where OpenSSL itself had no objection: it takes the alert certificate_expired of the server, which
# speaks of a certificate of ours, for a verification that failed (lib/vtls/openssl.c).
_TOLD_BY_ALERT = "SSL certificate verification failed"

_TOO_LARGE = frozenset({E_TOO_LARGE, pycurl.E_OUT_OF_MEMORY})
_TLS = frozenset({pycurl.E_SSL_CONNECT_ERROR, pycurl.E_SSL_CIPHER, pycurl.E_SSL_ISSUER_ERROR, E_CLIENT_CERTIFICATE})
_BROKEN = frozenset({pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR})
_GARBLED = frozenset(
    {
        *(pycurl.E_GOT_NOTHING, pycurl.E_PARTIAL_FILE, pycurl.E_BAD_CONTENT_ENCODING),
        *(pycurl.E_FTP_WEIRD_SERVER_REPLY, pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_HTTP2),
    }
)


def explain(code: int, transfer: Transfer, dns_blame: Blame) -> Failure | None:
    """Return the failure that the result `code` of a measured transfer stands for; None where the response is complete.

    What is not known is `internal_error`, blamed on us. `dns_blame` is whom an unanswered name is blamed on.
    """
    phase = transfer.recorder.phase
    if transfer.error is not None:
        return CRASHED
    if transfer.headers_too_large:
        return HEADERS_TOO_LARGE
    if code == pycurl.E_OK or transfer.complete:
        return None if transfer.recorder.status_code is not None else garbled(phase)
    if transfer.refused and not transfer.opened_ns:
        return REFUSED
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return deadline_passed(phase, transfer.recorder.call.timeout_ms, dns_blame)
    if code == pycurl.E_COULDNT_RESOLVE_HOST:
        return unresolved(dns_blame)
    if code in _TOO_LARGE and phase is Phase.EXCHANGE:
        return HEADERS_TOO_LARGE
    text = _error_text(transfer)
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        told = text.startswith(_TOLD_BY_ALERT)
        return alerted(CERTIFICATE_EXPIRED_ALERT) if told else certificate_refused(_verify_code(transfer))
    # Under TLS 1.3 the server may refuse only after the handshake is over for us, as when it wants a certificate.
    if phase is Phase.TLS or code in _TLS or alert_number(text) is not None:
        return handshake_failed(text)
    if _closed_before_the_request(code, transfer):
        return REJECTED
    if phase is Phase.CONNECT or code == pycurl.E_COULDNT_CONNECT:
        return not_connected((transfer.error_number or _system_error(transfer),))
    if code in _GARBLED:
        return garbled(phase)
    return BROKEN if code in _BROKEN else CRASHED


def _verify_code(transfer: Transfer) -> int:
    """Return OpenSSL's reason; libcurl, which compares the names itself, leaves 1 there when they differ."""
    code = 1 if transfer.handle is None else int(transfer.handle.getinfo(pycurl.SSL_VERIFYRESULT))
    if code > 1:
        return code
    return WRONG_NAME if transfer.target is None or transfer.target.address is None else WRONG_ADDRESS


def _closed_before_the_request(code: int, transfer: Transfer) -> bool:
    """Whether a TLS server hung up before a byte of the request was sent, so that its alert was not read."""
    return (
        code == pycurl.E_SEND_ERROR
        and transfer.handle is not None
        and transfer.target is not None
        and transfer.target.scheme == "https"
        and transfer.handle.getinfo(pycurl.REQUEST_SIZE) == 0
    )


def _error_text(transfer: Transfer) -> str:
    """What libcurl says of the failure, in which it quotes OpenSSL. Never shown: it may name an address."""
    return "" if transfer.handle is None else transfer.handle.errstr()


def _system_error(transfer: Transfer) -> int:
    return 0 if transfer.handle is None else int(transfer.handle.getinfo(pycurl.OS_ERRNO))
