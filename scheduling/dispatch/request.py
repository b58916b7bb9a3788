"""The request headers of a call, as every dispatcher sends them."""

from __future__ import annotations

import re
from functools import lru_cache

from scheduling.exchange.outcome import Call

USER_AGENT = "Cronicorn"

# Where a message begins and ends, to whom it goes and how its answer is coded is not for the owner of a call to say.
_OWN = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "te", "transfer-encoding"}
)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_MALFORMED = "A header is not a token with visible text."
_VALUE = re.compile(r"[\t\x20-\x7e]*")


def request_headers(call: Call) -> list[tuple[str, str]]:
    """Return all headers but `Host` and `Content-Length`; raise ValueError for one that would break the request."""
    headers: list[tuple[str, str]] = []
    named = False
    for name, given in call.headers:
        lower = lower_name(name)
        if lower in _OWN:
            continue
        value = given.strip(" \t")
        if not ((value.isascii() and value.isprintable()) or _VALUE.fullmatch(value)):
            raise ValueError(_MALFORMED)
        named = named or lower == "user-agent"
        headers.append((name, value))
    if not named:
        headers.append(("User-Agent", USER_AGENT))
    headers += [("Accept-Encoding", "identity"), ("Connection", "close")]
    return headers


@lru_cache(maxsize=1_024)
def lower_name(name: str) -> str:
    """Return the name of a header in lower case; raise ValueError where it is no token."""
    if not _TOKEN.fullmatch(name):
        raise ValueError(_MALFORMED)
    return name.lower()


def request_method(call: Call) -> str:
    """Return the method; raise ValueError where it is no token."""
    if not _TOKEN.fullmatch(call.method):
        raise ValueError("The method is not a token.")
    return call.method
