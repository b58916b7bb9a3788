"""Turns DATABASE_URL into Django's settings. Connects to nothing."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

# Bounds on every connection: a stuck statement or an open transaction must not hold up claims.
SESSION_OPTIONS = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "statement_timeout": "30s",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "60s",
        "timezone": "UTC",
    }.items()
)


def database_from_url(url: str, *, data_dir: Path, durable: bool) -> dict[str, Any]:
    """The default database: the server that the URL names, or the embedded one where the URL is empty."""
    configuration: dict[str, Any] = {
        "ENGINE": "cronicorn.postgres",
        "NAME": "cronicorn",
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"options": SESSION_OPTIONS, "application_name": "cronicorn", "connect_timeout": 10},
    }
    if not url:
        return {**configuration, "EMBEDDED_DATA_DIR": str(data_dir / "postgres"), "EMBEDDED_DURABLE": durable}
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    return {
        **configuration,
        "NAME": unquote(parts.path.lstrip("/")) or "cronicorn",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.pop("host", "") or unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "OPTIONS": {**configuration["OPTIONS"], **query},
    }
