"""Reads a PostgreSQL URL as libpq does, and says what is wrong with it. Connects to nothing and repeats no secret."""

from urllib.parse import unquote

import psycopg
from psycopg import conninfo

SCHEMES = ("postgres", "postgresql")
# Bounds of libpq: with 0 each of them would let a connection wait for ever.
_KEEPALIVES = ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count")
BOUNDS = ("connect_timeout", *_KEEPALIVES, "tcp_user_timeout")
_FORM = (
    "write postgresql://user:password@host:5432/name, or several hosts as h1:5432,h2:5432; no other engine is supported"
)
# What our own sessions need otherwise.
_REFUSED = {
    "options": "remove `options`: Cronicorn sets the time limits of its sessions itself, and a pooler refuses it; for "
    "other server settings use ALTER ROLE ... IN DATABASE ... SET ...",
    "replication": "remove `replication`: a replication connection runs no statements",
    "client_encoding": "remove `client_encoding`: it is always UTF8",
}
# libpq reads these words only when it connects, long after the start.
_WORDS = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "read-write", "primary", "prefer-standby"),
}
# psycopg and JDBC names, which libpq reads although they are not its own.
_ALIASES = {"ssl"}


def libpq_parameters(url: str) -> dict[str, str]:
    """The parameters of a URL by their libpq names. Raises ValueError with every fault, in words without values.

    Of several hosts the one that accepts writes is meant, unless the URL says otherwise.
    """
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        raise ValueError(_FORM)
    faults = _faults_of_names(url)
    if faults:
        raise ValueError("; ".join(faults))
    try:
        found = {name: str(value) for name, value in conninfo.conninfo_to_dict(url).items() if value is not None}
    except psycopg.Error:
        raise ValueError(f"{_FORM}; write % and other special characters of a password as %25 and so on") from None
    faults = [*_faults_of_ports(found), *_faults_of_bounds(found), *_faults_of_words(found)]
    if faults:
        raise ValueError("; ".join(faults))
    if "," in found.get("host", "") + found.get("hostaddr", ""):
        found.setdefault("target_session_attrs", "read-write")
    return found


def _faults_of_names(url: str) -> list[str]:
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()} | _ALIASES
    query = url.partition("?")[2]
    names = [unquote(pair.partition("=")[0]) for pair in query.split("&") if pair]
    faults = [_REFUSED[name] for name in names if name in _REFUSED]
    unknown = sorted({name for name in names if name not in known})
    if unknown:
        faults.append(f"libpq knows no parameter {', '.join(unknown)}; remove or correct it")
    return faults


def _faults_of_ports(found: dict[str, str]) -> list[str]:
    ports = [port for port in found.get("port", "").split(",") if port]
    hosts = found.get("hostaddr", found.get("host", "")).split(",")
    if any(not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535) for port in ports):
        return ["a port is a number from 1 to 65535"]
    if len(ports) > 1 and len(ports) != len(hosts):
        return ["give one port for all hosts, or one for each"]
    return []


def _faults_of_bounds(found: dict[str, str]) -> list[str]:
    wrong = [name for name in BOUNDS if name in found and not (found[name].isascii() and found[name].isdigit())]
    wrong += [name for name in BOUNDS if name in found and name not in wrong and int(found[name]) == 0]
    return [f"{name} is a number above 0: without it a lost connection is never noticed" for name in wrong]


def _faults_of_words(found: dict[str, str]) -> list[str]:
    return [
        f"{name} is one of {', '.join(words)}"
        for name, words in _WORDS.items()
        if name in found and found[name] not in words
    ]
