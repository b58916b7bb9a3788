"""The request headers of a call, as every dispatcher sends them."""

from __future__ import annotations

import re

from scheduling.exchange.outcome import Call

USER_AGENT = "Cronicorn"

# Where a message begins and ends, to whom it goes and how its answer is coded is not for the owner of a call to say.
_OWN = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "te", "transfer-encoding"}
)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")


def request_headers(call: Call) -> list[tuple[str, str]]:
    """Return all headers but `Host` and `Content-Length`; raise ValueError for one that would break the request."""
    headers = [(name, value.strip(" \t")) for name, value in call.headers if name.lower() not in _OWN]
    for name, value in headers:
        if not (_TOKEN.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ValueError("A header is not a token with visible text.")
    if all(name.lower() != "user-agent" for name, _value in headers):
        headers.append(("User-Agent", USER_AGENT))
    headers += [("Accept-Encoding", "identity"), ("Connection", "close")]
    return headers


def request_method(call: Call) -> str:
    """Return the method; raise ValueError where it is no token."""
    if not _TOKEN.fullmatch(call.method):
        raise ValueError("The method is not a token.")
    return call.method
