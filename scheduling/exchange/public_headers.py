"""Names the request headers whose values are not secret by nature. Pure.

Their values say what is wanted, not who asks: a media type, a language, a condition, a version. They are not secret
unless the owner says so, and never masked, because the same words stand in most responses.
"""

from __future__ import annotations

from typing import Final

# Names whose values can carry a token (Authorization, Cookie, Referer, X-Api-Key and every name not listed) are absent.
PUBLIC_HEADERS: Final = frozenset(
    {
        # What the answer should be: RFC 9110 section 12.5, RFC 7240, RFC 9218.
        *("accept", "accept-charset", "accept-datetime", "accept-language", "accept-version", "prefer", "priority"),
        # What the body is: RFC 9110 section 8.
        *("content-disposition", "content-language", "content-location", "content-md5", "content-type", "mime-version"),
        # Conditions and ranges: RFC 9110 sections 13 and 14.
        *("if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"),
        # Caches and intermediaries: RFC 9111, RFC 9110 section 7.6.
        *("cache-control", "max-forwards", "pragma", "via", "warning", "date"),
        # Who asks, in general: RFC 9110 section 10.1.
        *("from", "origin", "user-agent", "x-application", "x-client-name", "x-client-version", "x-source"),
        *("x-request-source", "x-requested-with"),
        # Browsers: Fetch Standard, client hints.
        *("dnt", "save-data", "upgrade-insecure-requests", "access-control-request-headers"),
        "access-control-request-method",
        # Tracing: W3C Trace Context and its forerunners.
        *("traceparent", "tracestate", "correlation-id", "request-id", "x-correlation-id", "x-request-id"),
        *("x-b3-flags", "x-b3-parentspanid", "x-b3-sampled", "x-b3-spanid", "x-b3-traceid", "x-trace-id"),
        # Versions and methods of interfaces.
        *("anthropic-version", "api-version", "depth", "notion-version", "soapaction", "stripe-version"),
        *("x-api-version", "x-github-api-version", "x-http-method", "x-http-method-override", "x-method-override"),
        *("x-ms-version", "x-version"),
        # What a proxy would have said.
        *("x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"),
    }
)
_PUBLIC_PREFIXES = ("sec-ch-", "sec-fetch-")


def is_public(name: str) -> bool:
    """Whether the value of the request header `name`, in any case, is not secret by nature."""
    lower = name.lower()
    return lower in PUBLIC_HEADERS or lower.startswith(_PUBLIC_PREFIXES)
