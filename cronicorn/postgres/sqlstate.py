"""What an error of the database asks for, by its SQLSTATE: the one table that all writers of results go by.

Source of the codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from enum import Enum, auto

import psycopg
from django.db import Error, OperationalError, connection

READ_ONLY = "25006"


class Remedy(Enum):
    """What can help. Only ROW allows to give data up; everything else means: keep it and wait."""

    WAIT = auto()  # for the server, a person or an upgrade; the same statement then passes
    SMALLER = auto()  # wait, then with fewer rows: a limit was met, or rows that others hold, or one broken place
    ROW = auto()  # a value that cannot be stored


# By the longest prefix. What is not named here waits too: a code that we do not know is no proof against a row.
_REMEDIES = {
    "22": Remedy.ROW,  # data exception
    "23": Remedy.ROW,  # integrity constraint violation
    "23502": Remedy.WAIT,  # not null: our statements fill their columns, so the schema has a newer one
    "54": Remedy.ROW,  # a limit of PostgreSQL itself, which no patience widens
    "40": Remedy.SMALLER,  # deadlock, serialization failure
    "53": Remedy.SMALLER,  # out of memory, limit of the configuration
    "53100": Remedy.WAIT,  # disk full
    "53300": Remedy.WAIT,  # too many connections
    "55": Remedy.SMALLER,  # locked for too long, object in use
    "57014": Remedy.SMALLER,  # statement timeout
    "58": Remedy.SMALLER,  # the server's system: perhaps one file
    "P0": Remedy.SMALLER,  # raised by a trigger
    "XX": Remedy.SMALLER,  # internal error, damaged page: perhaps one row
}


def sqlstate_of(error: BaseException) -> str:
    """The code of an error of Django or psycopg; empty where the server did not say one, as of a lost connection."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, psycopg.Error):
            return cause.sqlstate or ""
        # Django raises some of its own errors beside what they come from, not from it.
        cause = cause.__cause__ or (cause.__context__ if isinstance(cause, Error) else None)
    return ""


def remedy_of(error: BaseException) -> Remedy:
    """What an error asks for. One that the database did not raise lies in the row whose values could not be sent."""
    state = sqlstate_of(error)
    if not state:
        cause = error if isinstance(error, psycopg.Error) else error.__cause__
        away = psycopg.OperationalError | psycopg.InterfaceError
        lost = isinstance(cause, away) or (cause is None and isinstance(error, Error))
        return Remedy.WAIT if lost else Remedy.ROW
    for length in (5, 2):
        if (remedy := _REMEDIES.get(state[:length])) is not None:
            return remedy
    return Remedy.WAIT


_REASONS = {
    READ_ONLY: "The database is read-only at present: what is stored can be read, nothing can be changed.",
    "53100": "The disk of the database is full: what is stored can be read, nothing can be changed.",
    "53300": "The database has no free connection.",
    "42501": "The database role of this service lacks a right; an operator has to grant it.",
    "42P01": "The schema of the database does not fit this version; an operator has to run `manage.py prepare`.",
}
_REASONS |= dict.fromkeys(("42703", "42883", "23502"), _REASONS["42P01"])


def unavailable_reason(error: BaseException | None) -> str | None:
    """Why a request cannot be served for now, for people; None where the error is a fault of the request or our own."""
    if not isinstance(error, Error):
        return None
    state = sqlstate_of(error)
    if state in _REASONS:
        return _REASONS[state]
    if state.startswith("42") or (remedy_of(error) is Remedy.ROW and not isinstance(error, OperationalError)):
        return None
    return "The database does not answer in time."


def drop_connection() -> None:
    """Has the next statement of this thread connect anew: of several hosts, perhaps to one that accepts writes."""
    if not connection.in_atomic_block:
        connection.close()
