"""Which numbers a body has, and when one has left its usual range."""

import json
from typing import Any

import pytest

from planner.attention.numbers import Usual, Way, from_json, numbers_in, numbers_out_of_range, to_json, usual_numbers


def bodies(*values: Any) -> list[str]:
    """Bodies with `n` of these values, the last one first, as the database gives them."""
    return [json.dumps({"n": value}) for value in reversed(values)]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ('{"a": 1, "b": 2.5, "c": "3", "d": true, "e": null}', {"/a": 1, "/b": 2.5}),
        ('{"a": {"b": {"c": 1, "d": {"e": 2}}}, "z": 9}', {"/z": 9, "/a/b/c": 1}),
        ('{"items": [5, 6, 7], "none": []}', {"/items": 3, "/none": 0}),
        ("[[1], 2]", {"": 2}),
        ('{"a/b": 1, "a": {"b": 2}, "~": 3}', {"/a~1b": 1, "/a/b": 2, "/~0": 3}),
        ("7", {"": 7}),
        ("no JSON", {}),
        ('{"a": 1e999}', {}),
        (json.dumps({"x" * 100: 1, "y" * 99: 2}), {"/" + "y" * 99: 2}),
    ],
)
def test_numbers_are_named_by_their_pointers(text: str, numbers: dict[str, float]) -> None:
    assert numbers_in(text) == numbers


def test_twenty_numbers_are_kept_and_the_shallowest_come_first() -> None:
    body = {"deep": {str(number): number for number in range(30)}, **{f"top{number}": 1 for number in range(15)}}
    found = list(numbers_in(json.dumps(body)))
    assert found[:15] == [f"/top{number}" for number in range(15)]
    assert found[15:] == [f"/deep/{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("seen", "value", "left"),
    [
        ((100, 110, 105, 120, 100), 140, False),
        ((100, 110, 105, 120, 100), 141, True),
        ((100, 110, 105, 120, 100), 80, False),
        ((100, 110, 105, 120, 100), 79, True),
        ((100, 110, 105, 120), 10_000, False),
        ((0, 0, 0, 0, 0), 0, False),
        ((0, 0, 0, 0, 0), 1, True),
        ((200, 200, 200, 200, 200), 219, False),
        ((200, 200, 200, 200, 200), 221, True),
        ((-200, -200, -200, -200, -200), -179, True),
        ((1, 2, 3, 4, 5), 10_000, False),
        ((1, 2, 3, 4, 5), 1, False),
        ((1, 2, 3, 4, 5), 0, True),
        ((1, 2, 3, 4, 4), 6.9, False),
        ((1, 2, 3, 4, 4), 7.1, True),
        ((50, 40, 30, 20, 10), -10_000, False),
        ((50, 40, 30, 20, 10), 50, False),
        ((50, 40, 30, 20, 10), 51, True),
    ],
)
def test_a_number_leaves_its_range_by_a_clear_margin(seen: tuple[float, ...], value: float, left: bool) -> None:
    usual = usual_numbers(bodies(*seen))
    assert numbers_out_of_range(json.dumps({"n": value}), usual) == (["/n"] if left else [])


def test_what_is_remembered_is_what_the_newest_body_has() -> None:
    assert usual_numbers(['{"n": 3}', "broken", '{"n": 1, "gone": 7}']) == {"/n": Usual(1, 3, 3, 2, Way.RISING)}
    assert usual_numbers(['{"n": 3}']) == {"/n": Usual(3, 3, 3, 1, None)}
    assert usual_numbers(["broken", '{"n": 1}']) == usual_numbers([]) == {}


def test_a_new_or_missing_number_has_not_left() -> None:
    usual = usual_numbers(bodies(5, 5, 5, 5, 5))
    assert numbers_out_of_range('{"other": 900}', usual) == []
    assert numbers_out_of_range("no JSON", usual) == []
    assert numbers_out_of_range('{"n": 900}', {}) == []


def test_the_stored_form_comes_back_whole() -> None:
    usual = usual_numbers(['{"a": 3, "b": 1, "c": 5}', '{"a": 1, "b": 2, "c": 5}'])
    assert from_json(json.loads(json.dumps(to_json(usual)))) == usual
    assert from_json(None) == {}
