"""Arrays arrive in PostgreSQL as they were."""

import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from cronicorn.postgres.arrays import JSONB_ARRAY, array, instant_array, json_array, text_array, uuid_array

pytestmark = pytest.mark.django_db
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
AWKWARD = ["", "NULL", "null", "a,b", "{}", '"', "\\", "\\'", "' or 1=1 --", "%s", " blank ", "\n\t", "é✓🎈", None]


def returned(literal: str, kind: str) -> list[object]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT unnest(%s::{kind}[])", [literal])
        return [row[0] for row in cursor.fetchall()]


def test_awkward_texts_come_back_as_they_were() -> None:
    assert returned(text_array(AWKWARD), "text") == AWKWARD


@hypothesis(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.lists(st.none() | TEXTS, max_size=5))
def test_any_text_comes_back_as_it_was(texts: list[str | None]) -> None:
    assert returned(text_array(texts), "text") == texts


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, -(2**63)], "bigint"),
        ([0.1, None, 1e-17, 1e300], "float8"),
        ([True, None, False], "boolean"),
        (["baseline-interval", None], "text"),
        ([], "text"),
    ],
)
def test_plain_values_come_back_as_they_were(values: list[object], kind: str) -> None:
    assert returned(array(values), kind) == values


def test_instants_come_back_as_they_were() -> None:
    instants = [datetime(2026, 3, 29, 1, 0, 0, 1, UTC), None, datetime(1970, 1, 1, tzinfo=UTC)]
    assert returned(instant_array(instants), "timestamptz") == instants


@pytest.mark.parametrize("ids", [[], [uuid4(), UUID(int=0), UUID(int=2**128 - 1)]])
def test_ids_come_back_as_they_were(ids: list[UUID]) -> None:
    assert returned(uuid_array(ids), "uuid") == ids


@pytest.mark.parametrize("values", [[], [{}, [], None, {"a": AWKWARD}, "text", 1.5], [{"nth": n} for n in range(500)]])
def test_json_comes_back_as_it_was_and_in_order(values: list[object]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT unnest({JSONB_ARRAY})::text", [json_array(values)])
        assert [json.loads(row[0]) for row in cursor.fetchall()] == values
