"""Wakes a sleeping scheduler when a person or the planner changed a plan. A convenience: nothing depends on it."""

import logging
from collections.abc import Callable

import psycopg
from django.conf import settings
from django.db import connection
from psycopg import sql

from cronicorn.logging import Event, log_event
from cronicorn.postgres.configuration import connection_parameters
from cronicorn.postgres.session import begin_session
from cronicorn.runtime.stopping import Stop
from jobs.replan import WAKE_CHANNEL

logger = logging.getLogger(__name__)

RECONNECT_AFTER = 2.0


def listen(*, stop: Stop, wake: Callable[[], None]) -> None:
    """Calls `wake` for every notification until a stop is requested; reconnects when the connection is lost.

    Behind a pooler notifications may go to another client: then it returns, and the worker polls.
    """
    while not stop.requested():
        try:
            with _connect() as listening:
                if begin_session(listening).pooled:
                    remedy = "set DATABASE_URL_DIRECT to an address of PostgreSQL itself"
                    log_event(logger, Event.WAKE_UPS_OFF, logging.WARNING, remedy=remedy)
                    return
                listening.execute(sql.SQL("LISTEN {}").format(sql.Identifier(WAKE_CHANNEL)))
                wake()
                while not stop.requested():
                    for _ in listening.notifies(timeout=0.5, stop_after=1):
                        wake()
        except psycopg.Error as error:
            log_event(logger, Event.DATABASE_AWAY, logging.WARNING, error=str(error).strip(), what="listen")
            stop.wait(RECONNECT_AFTER)


def _connect() -> psycopg.Connection:
    """A connection of its own, past a pooler where DATABASE_URL_DIRECT names the way."""
    if settings.ENV.database_url_direct:
        return psycopg.connect(**connection_parameters(settings.ENV.database_url_direct), autocommit=True)
    parameters = connection.get_connection_params()
    for own in ("cursor_factory", "context"):
        parameters.pop(own, None)
    return psycopg.connect(**parameters, autocommit=True)
