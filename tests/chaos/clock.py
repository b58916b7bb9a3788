"""Another clock for the database: `clock_timestamp()` is looked up in a schema of its own before PostgreSQL's."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import connection

_SEARCH_PATH = "shifted, pg_catalog, public"
_MAKE = """
    CREATE SCHEMA shifted;
    CREATE TABLE shifted.clock (stands_at timestamptz, shift interval NOT NULL);
    INSERT INTO shifted.clock VALUES (NULL, '0');
    CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
        'SELECT coalesce(stands_at, pg_catalog.clock_timestamp()) + shift FROM shifted.clock'
"""


class ShiftedClock:
    """The hands of that clock. It runs with the real one until it is told to stand."""

    def shift(self, by: timedelta) -> None:
        """Puts the clock so far ahead of what it would show; negative for behind."""
        self._set("shift = %s", by)

    def stand(self, at: datetime) -> None:
        """Lets the clock show this time until the next call."""
        self._set("stands_at = %s, shift = '0'", at)

    def _set(self, assignment: str, value: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE shifted.clock SET {assignment}", [value])  # noqa: S608


@contextmanager
def own_clock() -> Iterator[ShiftedClock]:
    """For this connection only, until its transaction is rolled back."""
    with connection.cursor() as cursor:
        cursor.execute(_MAKE)
        cursor.execute(f"SET LOCAL search_path = {_SEARCH_PATH}")
    yield ShiftedClock()


@contextmanager
def everybodys_clock() -> Iterator[ShiftedClock]:
    """For every connection to the test's database that is made inside the block."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(_MAKE)
        cursor.execute(f"ALTER DATABASE {name} SET search_path = {_SEARCH_PATH}")
    connection.close()
    try:
        yield ShiftedClock()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} RESET search_path")
            cursor.execute("DROP SCHEMA shifted CASCADE")
        connection.close()
