"""Reads an http(s) URL into the destination that it names, refusing every form that two parsers could read differently.

Pure: no name is resolved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

MAX_URL_LENGTH = 8192
MAX_LABEL_LENGTH = 63

_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{0,5}))?")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f\\\u2028\u2029]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_JOINERS = "\u200c\u200d"
_DEFAULT_PORTS = {"http": 80, "https": 443}


class TargetError(ValueError):
    """The URL cannot be called; the message is one sentence for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads. `host` is lower-case ASCII without brackets or a final dot; `path` is as written.

    `address` is set where the host is a literal in any spelling that the resolver accepts (`0x7f.1`, `2130706433`).
    """

    scheme: str
    host: str
    port: int
    path: str
    address: IPv4Address | IPv6Address | None


def read_target(url: str) -> Target:
    """Return the destination of `url`; raise `TargetError` where it is not a plain http or https URL."""
    if len(url) > MAX_URL_LENGTH:
        raise TargetError(f"A URL has at most {MAX_URL_LENGTH} characters.")
    if _FORBIDDEN.search(url):
        raise TargetError("A URL contains no spaces, control characters or backslashes.")
    parts = _URL.match(url)
    if parts is None:
        raise TargetError("A URL starts with http:// or https://.")
    scheme, authority, path = parts[1].lower(), parts[2], parts[3]
    host, port, address = _read_authority(scheme, authority)
    return Target(scheme, host, port, path, address)


@lru_cache(maxsize=4_096)
def _read_authority(scheme: str, authority: str) -> tuple[str, int, IPv4Address | IPv6Address | None]:
    """Return host, port and literal address; kept, for the same hosts are called again and again."""
    if "@" in authority:
        raise TargetError("A URL carries no user name or password; use a header.")
    fields = _AUTHORITY.fullmatch(authority)
    if fields is None:
        raise TargetError("The host or the port of the URL is malformed.")
    host, digits = fields[1], fields[2]
    port = int(digits) if digits else _DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65535:
        raise TargetError("The port of a URL is between 1 and 65535.")
    if host.startswith("["):
        literal = _ipv6_address(host[1:-1])
        return str(literal), port, literal
    name = _ascii_name(host)
    return name, port, _ipv4_address(name)


def _ipv6_address(text: str) -> IPv6Address:
    try:
        if "%" in text:
            raise TargetError("An IPv6 address in a URL has no zone.")
        return IPv6Address(text)
    except AddressValueError:
        raise TargetError("The IPv6 address of the URL is malformed.") from None


def _ascii_name(host: str) -> str:
    try:
        name = host.lower() if host.isascii() else _international_name(host)
    except ValueError:
        raise TargetError("The host name of the URL is not a valid international name.") from None
    name = name.removesuffix(".")
    if not name:
        raise TargetError("The URL has no host.")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise TargetError("The host name of the URL is malformed.")
    return name


def _international_name(host: str) -> str:
    """Return the ASCII form that browsers dial for `host` (UTS 46 without transitional processing; WHATWG URL 3.3).

    Mapped first: composed forms, full-width letters, digits and dots, capitals. Raises ValueError.
    """
    mapped = idna.uts46_remap(host, std3_rules=False)
    return ".".join(label if label.isascii() else _ascii_label(label) for label in mapped.split("."))


def _ascii_label(label: str) -> str:
    """Return `xn--...` for one mapped label. Symbols such as emoji pass, as in browsers; IDNA 2008 has none."""
    if len(label) > MAX_LABEL_LENGTH:
        raise idna.IDNAError("the label is too long")  # Punycode takes quadratic time
    idna.check_initial_combiner(label)
    idna.check_bidi(label)
    if any(not idna.valid_contextj(label, position) for position, sign in enumerate(label) if sign in _JOINERS):
        raise idna.InvalidCodepointContext(f"a joiner stands alone in {label!r}")
    return "xn--" + label.encode("punycode").decode("ascii")


def _ipv4_address(name: str) -> IPv4Address | None:
    """Return the address that `inet_aton` and WHATWG read in `name`; None where it is a name.

    One to four numbers, each decimal, octal (`0177`) or hex (`0x7f`), the last one filling the bytes that remain.
    """
    parts = name.split(".")
    if not (parts[-1].isdigit() or re.fullmatch(r"0x[0-9a-f]*", parts[-1])):
        return None
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        raise TargetError("The host of the URL is neither a name nor an IPv4 address.") from None
    last = numbers.pop()
    if len(numbers) > 3 or any(number > 255 for number in numbers) or last >= 256 ** (4 - len(numbers)):
        raise TargetError("The IPv4 address of the URL is out of range.")
    value = last
    for index, number in enumerate(numbers):
        value += number << (8 * (3 - index))
    return IPv4Address(value)


def _number(text: str) -> int:
    if "_" in text:
        raise ValueError("Python reads digits apart, a resolver does not")
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    if len(text) > 1 and text.startswith("0"):
        return int(text, 8)
    return int(text, 10)
