"""What counts as a success, and which criteria are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scheduling.exchange.criteria import CriteriaError, SuccessCriteria, parse_success_criteria

FULL = {
    "status": [200, "202-204"],
    "assertions": [
        {"path": "$.ok", "op": "==", "value": True},
        {"path": "$.error", "op": "exists", "value": False},
        {"body_contains": "ready"},
        {"max_duration_ms": 500},
    ],
}


@pytest.mark.parametrize("value", [None, {}, {"status": ["200-299"]}, {"assertions": []}])
def test_default_is_any_2xx(value: object) -> None:
    criteria = parse_success_criteria(value)
    assert criteria == SuccessCriteria()
    assert [code for code in (199, 200, 299, 300, 404) if criteria.accepts_status(code)] == [200, 299]


def test_stored_form_reads_back_to_the_same() -> None:
    criteria = parse_success_criteria(FULL)
    assert criteria.to_json() == FULL
    assert parse_success_criteria(json.loads(json.dumps(criteria.to_json()))) == criteria


def test_status_list_and_ranges_are_inclusive() -> None:
    criteria = parse_success_criteria(FULL)
    assert [code for code in range(195, 210) if criteria.accepts_status(code)] == [200, 202, 203, 204]


@pytest.mark.parametrize(
    ("text", "duration_ms", "truncated", "message"),
    [
        ('{"ok": true, "s": "ready"}', 500.0, False, None),
        ('{"ok": 1, "s": "ready"}', 1.0, False, "$.ok is not == True."),
        ('{"s": "ready"}', 1.0, False, "$.ok is not == True."),
        ('{"ok": true, "error": null, "s": "ready"}', 1.0, False, "$.error must be absent."),
        ('{"ok": true}', 1.0, False, "The body does not contain 'ready'."),
        ('{"ok": true}', 1.0, True, "The body does not contain 'ready'. The body was cut at the size limit."),
        ('{"ok": true, "s": "ready"}', 500.1, False, "The call took 501 ms, over the 500 ms that are allowed."),
        ("ready", 1.0, False, "The text is not JSON."),
        ('{"ok": tr', 1.0, True, "The text is not JSON. The body was cut at the size limit."),
    ],
)
def test_first_assertion_that_fails_is_named(
    text: str, duration_ms: float, truncated: bool, message: str | None
) -> None:
    criteria = parse_success_criteria(FULL)
    assert criteria.failed_assertion(text, truncated=truncated, duration_ms=duration_ms) == message


def test_value_that_must_exist_is_named_when_it_does_not() -> None:
    criteria = parse_success_criteria({"assertions": [{"path": "$.a", "op": "exists"}]})
    assert criteria.failed_assertion("{}", truncated=False, duration_ms=1) == "$.a must exist."


def test_long_values_are_shortened_in_messages() -> None:
    criteria = parse_success_criteria({"assertions": [{"body_contains": "x" * 500}]})
    assert len(criteria.failed_assertion("", truncated=False, duration_ms=1) or "") < 120


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], ""),
        ("200", ""),
        ({"statuses": []}, "statuses"),
        ({"status": []}, "status"),
        ({"status": 200}, "status"),
        ({"status": [200] * 21}, "status"),
        ({"status": [99]}, "status[0]"),
        ({"status": [200, 1000]}, "status[1]"),
        ({"status": [True]}, "status[0]"),
        ({"status": [200.0]}, "status[0]"),
        ({"status": ["2xx"]}, "status[0]"),
        ({"status": ["299-200"]}, "status[0]"),
        ({"status": ["٢٠٠-٢٩٩"]}, "status[0]"),
        ({"status": [None]}, "status[0]"),
        ({"assertions": {}}, "assertions"),
        ({"assertions": None}, "assertions"),
        ({"assertions": [{"max_duration_ms": 1}] * 21}, "assertions"),
        ({"assertions": ["x"]}, "assertions[0]"),
        ({"assertions": [{}]}, "assertions[0]"),
        ({"assertions": [{"regex": ".*"}]}, "assertions[0]"),
        ({"assertions": [{"body_contains": ""}]}, "assertions[0].body_contains"),
        ({"assertions": [{"body_contains": "x" * 1001}]}, "assertions[0].body_contains"),
        ({"assertions": [{"body_contains": 5}]}, "assertions[0].body_contains"),
        ({"assertions": [{"body_contains": "a\x00"}]}, "assertions[0].body_contains"),
        ({"assertions": [{"body_contains": "\ud800"}]}, "assertions[0].body_contains"),
        ({"assertions": [{"body_contains": "a", "op": "=="}]}, "assertions[0].op"),
        ({"assertions": [{"max_duration_ms": 0}]}, "assertions[0].max_duration_ms"),
        ({"assertions": [{"max_duration_ms": 900_001}]}, "assertions[0].max_duration_ms"),
        ({"assertions": [{"max_duration_ms": True}]}, "assertions[0].max_duration_ms"),
        ({"assertions": [{"max_duration_ms": 1.5}]}, "assertions[0].max_duration_ms"),
        ({"assertions": [{"path": "a", "value": 1}]}, "assertions[0].path"),
        ({"assertions": [{"path": 1, "value": 1}]}, "assertions[0].path"),
        ({"assertions": [{"path": "$['a\ud800']", "value": 1}]}, "assertions[0].path"),
        ({"assertions": [{"path": "$.a", "op": "~", "value": 1}]}, "assertions[0].op"),
        ({"assertions": [{"path": "$.a", "op": ["=="], "value": 1}]}, "assertions[0].op"),
        ({"assertions": [{"path": "$.a"}]}, "assertions[0].value"),
        ({"assertions": [{"path": "$.a", "value": []}]}, "assertions[0].value"),
        ({"assertions": [{"path": "$.a", "value": float("nan")}]}, "assertions[0].value"),
        ({"assertions": [{"path": "$.a", "value": 10**64}]}, "assertions[0].value"),
        ({"assertions": [{"path": "$.a", "value": "x" * 1001}]}, "assertions[0].value"),
        ({"assertions": [{"path": "$.a", "value": "a\x00"}]}, "assertions[0].value"),
        ({"assertions": [{"path": "$.a", "op": "exists", "value": 1}]}, "assertions[0].value"),
        ({"assertions": [{"path": "$.a", "value": 1, "extra": 1}]}, "assertions[0].extra"),
    ],
)
def test_faulty_criteria_are_refused_with_the_field(value: Any, field: str) -> None:
    with pytest.raises(CriteriaError) as caught:
        parse_success_criteria(value)
    assert caught.value.field == field
    assert caught.value.message.endswith(".")
    assert isinstance(caught.value, ValueError)
