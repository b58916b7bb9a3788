"""What a response looks like once echoes of secrets are masked, and that rules and assertions read it unmasked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from accounts.vault import seal
from cronicorn.runtime.clock import database_now
from jobs.models import Endpoint, Run, RunResponse
from jobs.rules import verdicts
from planner.rules.snapshots import watched
from scheduling.exchange.masking import MASK
from scheduling.worker.worker import Worker
from tests.support.http_target import HttpTarget, Reply, redirect

pytestmark = pytest.mark.django_db(transaction=True)
MakeDue = Callable[..., Endpoint]


def give_secrets(endpoint: Endpoint, **secrets: str) -> None:
    """Give the endpoint secret headers; underscores stand for dashes."""
    values = {name.replace("_", "-"): value for name, value in secrets.items()}
    Endpoint.objects.filter(pk=endpoint.pk).update(
        headers=[{"name": name, "secret": True, "value": None} for name in values],
        headers_sealed=seal(f"job_endpoints:{endpoint.pk}", values),
    )


def matching(endpoint: Endpoint) -> set[str]:
    """The names of the endpoint's rules that match its latest run, as the rules pass sees it."""
    with connection.cursor() as cursor:
        now = database_now(cursor)
    found, unreadable = watched([endpoint.pk], now)
    assert not unreadable
    (item,) = found
    matched = verdicts(item.rules, [run.observation for run in item.runs])
    return {verdict.rule.key for verdict in matched.values()}


def rule(name: str, path: str, op: str, value: object, sibling: str = "") -> dict[str, Any]:
    # Every sibling is a kind of its own, so that all rules that match are found.
    return {"name": name, "when": {"path": path, "op": op, "value": value}, "then": {"run_sibling": sibling or name}}


def test_short_header_value_leaves_numbers_alone_and_the_rule_fires(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    url = target.route("/queue", Reply(200, body=b'{"queue_depth":1000}'))
    endpoint = make_due(url, rules=[rule("busy", "$.queue_depth", ">", 500)])
    give_secrets(endpoint, X_Limit="1000")
    worker.run_once()
    stored = RunResponse.objects.get()
    assert (stored.body, stored.flags, stored.rule_verdicts) == ('{"queue_depth":1000}', [], None)
    assert matching(endpoint) == {"busy"}


def test_values_of_public_headers_are_never_masked(make_due: MakeDue, worker: Worker, target: HttpTarget) -> None:
    body = b'{"type": "application/json", "lang": "de-DE"}'
    endpoint = make_due(target.route("/echo", Reply(200, body=body)))
    give_secrets(endpoint, Accept="application/json", Accept_Language="de-DE", Authorization="Bearer t0ken-value")
    worker.run_once()
    stored = RunResponse.objects.get()
    assert stored.body == body.decode()
    assert stored.content_type == "application/json"
    assert "masked" not in stored.flags


def test_rules_and_assertions_read_the_body_before_it_is_masked_and_nothing_secret_is_stored(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    body = b'{"state": "ready-4711x", "list": ["ready-4711x"], "depth": 7, "note": "say ready-4711x!"}'
    rules = [
        rule("same", "$.state", "==", "ready-4711x"),
        rule("other", "$.state", "!=", "ready-4711x"),
        rule("in list", "$.list", "contains", "ready-4711x"),
        rule("in text", "$.note", "contains", "4711"),
        rule("starred", "$.state", "==", MASK),
        rule("number", "$.depth", "==", 7),
        rule("absent", "$.gone", "exists", False),
    ]
    criteria = {"assertions": [{"path": "$.state", "op": "==", "value": "ready-4711x"}]}
    url = target.route("/state", Reply(200, body=body))
    endpoint = make_due(url, rules=rules, success_criteria=criteria)
    give_secrets(endpoint, X_State="ready-4711x")
    worker.run_once()
    assert Run.objects.get().status == "success"
    assert matching(endpoint) == {"same", "in list", "in text", "number", "absent"}
    stored = RunResponse.objects.get()
    assert json.loads(stored.body)["state"] == MASK
    assert "masked" in stored.flags
    shown = " ".join([stored.body, str(stored.headers), str(stored.content_type)])
    assert "4711" not in shown
    assert set((stored.rule_verdicts or {}).values()) <= {True, False}


def test_body_whose_keys_become_the_same_is_still_read_by_rules(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    body = b'{"s3cret-0123456789": 1, "depth": 600, "echo": "s3cret-0123456789"}'
    endpoint = make_due(target.route("/q", Reply(200, body=body)), rules=[rule("deep", "$.depth", ">", 500)])
    give_secrets(endpoint, X_Token="s3cret-0123456789")
    worker.run_once()
    assert RunResponse.objects.get().body == '{"s3cret-0123456789": 1, "depth": 600, "echo": "********"}'
    assert matching(endpoint) == {"deep"}


def test_the_digest_that_tells_bodies_apart_is_that_of_the_unmasked_body(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    url = target.route("/same", Reply(200, body=b'{"echo": "abc123"}'))
    for secret in ("abc123", "abc1234"):
        give_secrets(make_due(url), X_Token=secret)
    worker.run_once()
    assert len(set(RunResponse.objects.values_list("sha256", flat=True))) == 1
    assert len(set(RunResponse.objects.values_list("body", flat=True))) == 2


def test_redirect_is_stored_with_its_remedy_and_without_the_secret(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    endpoint = make_due(target.route("/old", redirect("https://new.example/?key=abc123&a=1")))
    give_secrets(endpoint, X_Key="abc123")
    worker.run_once()
    assert RunResponse.objects.get().headers["location"] == f"https://new.example/?key={MASK}&a=1"
    message = Run.objects.get().error_message or ""
    assert f"redirecting to https://new.example/?key={MASK}&a=1." in message
    assert "use that address" in message


@pytest.mark.parametrize("before", [1, 270], ids=["before the cut", "across the cut"])
@pytest.mark.parametrize("secret", ["abc123", "s3cret-0123456789"])
def test_a_long_redirect_is_cut_without_a_piece_of_the_secret(
    make_due: MakeDue, worker: Worker, target: HttpTarget, before: int, secret: str
) -> None:
    location = f"https://new.example/?a={'1' * before}&k={secret}&b={'2' * 400}"
    give_secrets(make_due(target.route("/old", redirect(location))), X_Key=secret)
    worker.run_once()
    message = Run.objects.get().error_message or ""
    assert "https://new.example/?a=1" in message
    assert secret[:4] not in message


def test_our_own_sentences_are_not_masked(make_due: MakeDue, worker: Worker, target: HttpTarget) -> None:
    endpoint = make_due(target.route("/down", Reply(503)))
    give_secrets(endpoint, X_One="server", X_Two="answered")
    worker.run_once()
    assert Run.objects.get().error_message == "The server answered 503."


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([], "Cronicorn/0.1"),
        ([{"name": "User-Agent", "secret": False, "value": "Shop/2 (ops)"}], "Shop/2 (ops) Cronicorn/0.1"),
        ([{"name": "user-agent", "secret": False, "value": ""}], "Cronicorn/0.1"),
    ],
)
def test_user_agent_of_the_owner_is_sent_with_ours_behind_it(
    make_due: MakeDue, worker: Worker, target: HttpTarget, given: list[dict[str, object]], sent: str
) -> None:
    endpoint = make_due(target.route("/", Reply(200)))
    Endpoint.objects.filter(pk=endpoint.pk).update(headers=given)
    worker.run_once()
    (request,) = target.requests
    assert [value for name, value in request.headers if name.lower() == "user-agent"] == [sent]
