"""Row ids: time-ordered UUIDs (version 7, RFC 9562), made by the SQL function `uuid_v7` of the first migration."""

import uuid

from django.db import connection, models


class UuidV7(models.Func):
    """The database default of every primary key."""

    function = "uuid_v7"
    arity = 0
    output_field = models.UUIDField()


def new_ids(count: int) -> list[uuid.UUID]:
    """Draws ids from the database before the rows exist, for values that must name their row."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT uuid_v7() FROM generate_series(1, %s)", [count])
        return [row[0] for row in cursor.fetchall()]
