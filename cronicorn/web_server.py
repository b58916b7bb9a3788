"""Settings of gunicorn: `python -m gunicorn --config python:cronicorn.web_server cronicorn.wsgi`."""

import os
import sys
from pathlib import Path
from typing import Any

from cronicorn.env import read_environment, variables
from cronicorn.logging import logging_configuration

_ENV = read_environment(variables())
_LOGGING = logging_configuration(_ENV.log_format, _ENV.log_level)
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  the usual place; gunicorn makes a file of its own there

bind = f"{_ENV.bind_address}:{_ENV.port}"
workers = _ENV.web_workers
worker_class = "cronicorn.web_worker.Worker"
# The application is loaded once, before the fork: a fault in it ends the start, and the workers share its memory.
preload_app = True
# Above the four places of the slow self-test route, so that it never occupies every thread.
threads = 8
timeout = 60
graceful_timeout = 10
keepalive = 5
control_socket_disable = True
# The signs of life of the workers are file times: in memory they cannot stall on a busy disk, nor fail on a full one.
worker_tmp_dir = str(_SHARED_MEMORY) if os.access(_SHARED_MEMORY, os.W_OK) else None
logconfig_dict = {
    **_LOGGING,
    "loggers": {**_LOGGING["loggers"], "gunicorn.error": {"handlers": [], "propagate": True, "level": _ENV.log_level}},
}


def on_starting(server: Any) -> None:
    """Waits for a database with this version's tables before the server listens; ends the start without one.

    Called by gunicorn before it forks, when the application is loaded.
    """
    from django.core.management.base import CommandError
    from django.db import connections

    from cronicorn.postgres.readiness import await_database

    try:
        await_database()
    except CommandError as error:
        server.log.error("%s", error)
        sys.exit(error.returncode)
    finally:
        connections.close_all()
