"""A worker's side thread that makes plans by other zone rules anew, in batches that hold no claim up."""

import logging

from django.db import Error, connection

from cronicorn.logging import Event, log_event
from cronicorn.runtime.stopping import Stop
from jobs.zonerules import Search, search_batch

logger = logging.getLogger(__name__)

# Seconds until the next look.
PAUSES = {Search.UNDER_WAY: 0.1, Search.ELSEWHERE: 5.0, Search.DONE: 300.0}
PAUSE_AFTER_ERROR = 30.0


def keep_zone_rules(stop: Stop) -> None:
    """Looks for plans by other zone rules until `stop`; a fault of the database is logged and tried again."""
    while not stop.requested():
        try:
            found = search_batch()
            pause = PAUSES[found]
        except Error as error:
            pause = PAUSE_AFTER_ERROR
            log_event(logger, Event.ZONE_RULES_FAILED, logging.WARNING, error=str(error).strip())
            connection.close()
        except Exception:
            # A fault of our own ends no worker: calls go on by the plans as they stand.
            pause = PAUSE_AFTER_ERROR
            logger.exception(Event.ZONE_RULES_FAILED.value, extra={"facts": {}})
        if pause > 1:
            # No connection is held through a long pause.
            connection.close()
        stop.wait(pause)
