"""Turns DATABASE_URL into Django's settings and psycopg's parameters. Connects to nothing."""

from pathlib import Path
from typing import Any

from cronicorn.database_url import libpq_parameters

# How long a connection waits for a host that vanished, in libpq's units: seconds, and milliseconds for the last. Data
# without acknowledgement for 10 s ends it; an idle one is probed after 5 s and ends 10 s later.
CONNECTION_BOUNDS: dict[str, int] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 5,
    "tcp_user_timeout": 10_000,
}
# What every connection says of itself. The empty `options` keeps PGOPTIONS and service files out.
CONNECTION_DEFAULTS: dict[str, Any] = {"application_name": "cronicorn", "options": "", **CONNECTION_BOUNDS}


def connection_parameters(url: str) -> dict[str, Any]:
    """What psycopg.connect is given for a URL: its own parameters over our defaults. Raises ValueError."""
    return {**CONNECTION_DEFAULTS, **libpq_parameters(url)}


def database_from_url(url: str, *, data_dir: Path, durable: bool) -> dict[str, Any]:
    """The default database: the server that the URL names, or the embedded one where the URL is empty."""
    configuration: dict[str, Any] = {
        "ENGINE": "cronicorn.postgres",
        "NAME": "cronicorn",
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # A cursor on the server belongs to one session, which a pooler in transaction mode does not keep.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": dict(CONNECTION_DEFAULTS),
    }
    if not url:
        return {**configuration, "EMBEDDED_DATA_DIR": str(data_dir / "postgres"), "EMBEDDED_DURABLE": durable}
    found = connection_parameters(url)
    return {
        **configuration,
        "NAME": found.pop("dbname", "cronicorn"),
        "USER": found.pop("user", ""),
        "PASSWORD": found.pop("password", ""),
        "HOST": found.pop("host", ""),
        "PORT": found.pop("port", ""),
        "OPTIONS": found,
    }
