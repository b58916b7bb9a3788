"""Cursors of the hot path read what others read."""

from datetime import UTC, datetime

import pytest
from django.db import connection

from cronicorn.postgres.cursors import hot_cursor


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["2026-03-29 01:30:00.000001+00", "1999-12-31 23:59:59+00", None])
def test_instants_are_the_same_as_django_reads(text: str | None) -> None:
    query = "SELECT %s::timestamptz"
    with hot_cursor() as cursor:
        cursor.execute(query, [text])
        (fast,) = cursor.fetchone()
    with connection.cursor() as cursor:
        cursor.execute(query, [text])
        (plain,) = cursor.fetchone()
    assert fast == plain
    if text is not None:
        assert isinstance(fast, datetime)
        assert fast.tzinfo is UTC
