"""Small JSON paths and the comparisons of assertions and rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.exchange.jsonpath import MAX_PATH_LENGTH, MISSING, OPERATORS, compare, lookup, parse_path

DOCUMENT = {"a": {"b": [10, {"c": None}]}, "odd key": 1, "x-y": 2, "0": "zero"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", DOCUMENT),
        ("$.a.b[0]", 10),
        ("$.a.b[-1].c", None),
        ("$['odd key']", 1),
        ('$["odd key"]', 1),
        ("$.x-y", 2),
        ("$['0']", "zero"),
        ("$.missing", MISSING),
        ("$.a.b[2]", MISSING),
        ("$.a.b[-3]", MISSING),
        ("$.a[0]", MISSING),
        ("$.a.b.c", MISSING),
        ("$[0]", MISSING),
        ("$.a.b[0].deeper", MISSING),
    ],
)
def test_path_leads_to_one_value_or_none(path: str, value: Any) -> None:
    assert lookup(DOCUMENT, parse_path(path)) is value or lookup(DOCUMENT, parse_path(path)) == value


@pytest.mark.parametrize(
    "path",
    ["", "a", ".a", "$a", "$.", "$..a", "$.*", "$[*]", "$[?(@.a)]", "$[1:2]", "$.a b", "$['a]", "$[]", "$['']", "$.1"],
)
def test_path_that_is_not_understood_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        parse_path(path)


def test_path_that_is_too_long_is_refused() -> None:
    parse_path("$." + "a" * (MAX_PATH_LENGTH - 2))
    with pytest.raises(ValueError, match="at most"):
        parse_path("$." + "a" * MAX_PATH_LENGTH)


@pytest.mark.parametrize(
    ("actual", "operator", "expected", "holds"),
    [
        (1, "==", 1.0, True),
        (1, "==", True, False),
        (True, "==", True, True),
        (1, "==", "1", False),
        (None, "==", None, True),
        ("a", "!=", "b", True),
        (1, "!=", 1, False),
        (MISSING, "!=", 1, False),
        (MISSING, "==", None, False),
        (5, ">", 4.5, True),
        (5, ">", 5, False),
        (5, ">=", 5, True),
        (4, "<", 5, True),
        (5, "<", 4, False),
        (5, "<=", 5, True),
        (5, "<=", 4, False),
        ("b", ">", "a", True),
        ("5", ">", 4, False),
        (True, ">", 0, False),
        (None, "<", 1, False),
        ([1], ">", 0, False),
        ("hello", "contains", "ell", True),
        ("hello", "contains", 1, False),
        ([1, "a"], "contains", "a", True),
        ([1], "contains", True, False),
        ({"a": 1}, "contains", "a", False),
        ([0] * 999 + ["a"], "contains", "a", True),
        ([0] * 1_000 + ["a"], "contains", "a", False),
        (None, "exists", True, True),
        (MISSING, "exists", True, False),
        (MISSING, "exists", False, True),
        (0, "exists", False, False),
    ],
)
def test_comparison_converts_no_types(actual: Any, operator: str, expected: Any, holds: bool) -> None:
    assert compare(actual, operator, expected) is holds


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()) | st.just(MISSING)
)


@given(VALUES, st.sampled_from(OPERATORS), VALUES)
def test_comparison_never_raises(actual: Any, operator: str, expected: Any) -> None:
    assert isinstance(compare(actual, operator, expected), bool)
