"""Settings of gunicorn: `python -m gunicorn --config python:cronicorn.web_server cronicorn.wsgi`."""

import os
from pathlib import Path

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
