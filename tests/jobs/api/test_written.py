"""JSON is kept as its author wrote it: from the API and the console to the wire, and back."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.models import Endpoint
from jobs.written import MalformedJsonError, WrittenList, WrittenObject, read_json, text_of, written
from tests.support.api import Api
from tests.support.factories import Cast, make_job

ODD = (
    '{ "z": 0.1234567890123456789, "a":1e3 ,"price": 19.90, "zero": -0,\n\t"é":"\\u00e9", "big": 12345678901234567890}'
)
RULES = (
    '[ {"then": {"ttl_minutes": 30, "interval_ms": 30000},\n'
    '   "when": {"value": 19.90, "op": ">", "path": "$.price"}, "name": "a"} ]'
)
CRITERIA = '{"assertions": [{"value": 1e3, "op": "<", "path": "$.n"}],  "status": ["200-299", 304]}'


@pytest.fixture
def path(cast: Cast) -> str:
    return f"/api/jobs/{make_job(cast.alice).pk}/endpoints"


def endpoint_text(**parts: str) -> bytes:
    fields = {
        "name": '"E"',
        "url": '"https://example.com/"',
        "method": '"POST"',
        "baselineIntervalMs": "60000",
        **parts,
    }
    return ("{" + ", ".join(f'"{name}": {text}' for name, text in fields.items()) + "}").encode()


def raw(api: Api, method: str, path: str, data: bytes = b"") -> str:
    response: Any = api.client.generic(method, path, data, content_type="application/json")
    assert response.status_code in (200, 201), response.content
    return str(response.content.decode())


@pytest.mark.django_db
@pytest.mark.parametrize("body", [ODD, "[1.0, 1.00,-0.0, 1E+2]", "{}", '[\r\n{"b":1,"a":2}]'])
def test_body_given_as_json_is_kept_and_shown_as_written(api: Api, path: str, body: str) -> None:
    made = json.loads(raw(api, "POST", path, endpoint_text(body=body)))
    assert made["body"] == body
    assert Endpoint.objects.get().body == body
    assert made["headers"] == [{"name": "Content-Type", "secret": False, "value": "application/json"}]
    again = json.loads(raw(api, "PATCH", f"{path}/{made['id']}", b'{"body": ' + body.encode() + b" }"))
    assert again["body"] == body


@pytest.mark.django_db
def test_rules_and_criteria_are_shown_as_written(api: Api, path: str) -> None:
    made = raw(api, "POST", path, endpoint_text(rules=RULES, successCriteria=CRITERIA))
    place = f"{path}/{json.loads(made)['id']}"
    for shown in (made, raw(api, "GET", place), raw(api, "GET", path)):
        assert f'"rules":{RULES}' in shown
        assert f'"successCriteria":{CRITERIA}' in shown
    changed = raw(api, "PATCH", place, b'{"rules": [], "successCriteria": null}')
    assert '"rules":[]' in changed
    assert '"successCriteria":null' in changed


@pytest.mark.django_db
def test_endpoints_made_with_their_job_are_kept_as_written(api: Api) -> None:
    first = endpoint_text(body=ODD, rules=RULES).decode()
    second = endpoint_text(successCriteria=CRITERIA, body="[1.50]").decode()
    shown = raw(api, "POST", "/api/jobs", f'{{"name": "J", "endpoints": [{first} ,\n {second}]}}'.encode())
    assert [endpoint["body"] for endpoint in json.loads(shown)["endpoints"]] == [ODD, "[1.50]"]
    assert f'"rules":{RULES}' in shown
    assert f'"successCriteria":{CRITERIA}' in shown


@pytest.mark.django_db
def test_text_of_rules_that_were_changed_elsewhere_is_not_shown(api: Api, path: str) -> None:
    raw(api, "POST", path, endpoint_text(rules=RULES, successCriteria=CRITERIA))
    new = [{"when": {"failing_for": 2}, "then": {"clear": True}}]
    Endpoint.objects.update(rules=new, success_criteria={"status": [200], "assertions": []})
    (shown,) = api.get(path)["endpoints"]
    assert shown["rules"] == new
    assert shown["successCriteria"] == {"status": [200], "assertions": []}


@pytest.mark.django_db
def test_a_text_of_blanks_has_a_limit(api: Api, path: str) -> None:
    blanks = " " * 300_000
    data = endpoint_text(rules=f"[{blanks}]", successCriteria=f"{{{blanks}}}")
    status, body = api.send("POST", path, data)
    assert status == 400
    assert {(error["field"], error["code"]) for error in body["errors"]} == {
        ("rules", "too_large"),
        ("successCriteria", "too_large"),
    }


@pytest.mark.django_db
def test_the_console_shows_and_keeps_what_was_written(cast: Cast, api: Api, path: str) -> None:
    body = '{"a": 1.50,\n "b": 2}\n'
    made = json.loads(
        raw(api, "POST", path, endpoint_text(rules=RULES, successCriteria=CRITERIA, body=json.dumps(body)))
    )
    client = Client()
    client.force_login(cast.alice)
    page = f"/jobs/endpoint/{made['id']}/change/"
    form = client.get(page).context["adminform"].form
    values: dict[str, Any] = {}
    for bound in form:
        if bound.name != "headers":
            value = bound.value()
            values[bound.html_name] = "" if value is None else value
    assert values["rules"] == RULES
    assert values["success_criteria"] == CRITERIA
    # A browser sends CRLF.
    sent = {name: str(value).replace("\n", "\r\n") for name, value in values.items()} | {"name": "Renamed"}
    assert client.post(page, sent).status_code == 302
    row = Endpoint.objects.get()
    assert (row.name, row.body, row.rules_text, row.success_criteria_text) == ("Renamed", body, RULES, CRITERIA)
    spelled = RULES.replace("19.90", "19.9000")
    assert client.post(page, sent | {"rules": spelled.replace("\n", "\r\n")}).status_code == 302
    row.refresh_from_db()
    assert row.rules_text == spelled
    twice = '[{"when": {"failing_for": 2, "failing_for": 3}, "then": {"clear": true}}]'
    answer = client.post(page, sent | {"rules": twice})
    assert answer.status_code == 200
    assert "same key twice" in answer.content.decode()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"a": 1, "a": 2}', "duplicate_key"),
        ('{"a": {"b": 1, "\\u0062": 2}}', "duplicate_key"),
        ("[NaN]", "malformed"),
        ("[1e999]", "malformed"),
        ("[" * 40 + "]" * 40, "too_deep"),
        ("[" * 100_000, "too_deep"),
        ('{"a": }', "malformed"),
        ("", "malformed"),
    ],
)
def test_ambiguous_json_is_refused(text: str, code: str) -> None:
    with pytest.raises(MalformedJsonError) as refusal:
        read_json(text)
    assert refusal.value.code == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(JSON, st.sampled_from([None, 1, "\t"]), st.booleans(), st.sampled_from(["", " \n"]))
def test_every_part_carries_the_text_that_it_had(value: Any, indent: Any, ascii_only: bool, blanks: str) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    found = read_json(f"{blanks}{text}{blanks}")
    assert found == value
    if isinstance(value, dict | list):
        assert text_of(found) == text
    waiting = [found]
    while waiting:
        item = waiting.pop()
        if isinstance(item, WrittenObject | WrittenList):
            assert json.loads(item.text) == item
            waiting += item.values() if isinstance(item, dict) else item


def test_a_value_without_a_text_is_written_compactly() -> None:
    assert written({"b": 1.5, "a": ["é"]}) == '{"b":1.5,"a":["é"]}'


def test_a_large_text_is_read_in_a_moment() -> None:
    text = json.dumps({"endpoints": [{"body": {str(key): [key] * 5 for key in range(900)}} for _ in range(40)]})
    begun = time.process_time()
    read_json(text)
    assert time.process_time() - begun < 5
