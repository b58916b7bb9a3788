"""`manage.py evaluate_planner`: one command for scenarios and records."""

import json
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from cronicorn.runtime.clock import database_now
from jobs.models import Endpoint
from planner.evaluation.play import play
from planner.evaluation.scenarios import SCENARIOS
from planner.models import Proposal
from tests.planner.evaluation.script import POLICIES, answering
from tests.planner.evaluation.stored import store_endpoints
from tests.support.model_server import ModelServer, failure


def evaluated(*arguments: str) -> str:
    out = StringIO()
    call_command("evaluate_planner", *arguments, stdout=out)
    return out.getvalue()


def use_model(settings: Any, server: ModelServer) -> None:
    settings.ENV = replace(settings.ENV, openai_api_key="key", openai_base_url=server.base_url)


def test_scenarios_are_listed() -> None:
    lines = evaluated("--list").splitlines()
    assert [line.split()[0] for line in lines] == list(SCENARIOS)


def test_flash_sale_prints_its_time_line_with_hint_bands() -> None:
    text = evaluated("flashsale")
    lines = text.splitlines()
    assert "40 min from 2026-03-02 12:00 UTC: rules beside baseline" in lines
    traffic = next(at for at, line in enumerate(lines) if line.startswith("traffic") and "rules" in line)
    drawn = [line.split()[-1] for line in lines[traffic : traffic + 4]]
    assert [len(line) for line in drawn] == [80] * 4
    hinted, _, bands, trouble = drawn
    assert hinted.count("h") > 40
    assert (set(bands), set(trouble)) == ({".", "="}, {".", "~"})
    for tier in ("[health]", "[analysis]", "[recovery]", "[alerts]"):
        assert tier in lines
    assert "checkout: critical errors" in text
    assert "never over" in text
    assert "by rule checkout:page-oncall because the last 2 calls failed" in text
    assert "In the last 5 minutes people can buy." in text


def test_report_as_json_has_every_figure() -> None:
    report = json.loads(evaluated("flashsale", "--json"))
    assert (report["planner"], report["beside"], report["minutes"]) == ("rules", "baseline", 40)
    traffic = report["endpoints"][0]
    assert (traffic["name"], traffic["tier"]) == ("traffic", "health")
    assert traffic["rules"]["calls"] > traffic["baseline"]["calls"]
    checkout = next(trouble for trouble in report["troubles"] if trouble["endpoint"] == "checkout")
    assert checkout["rules"]["over_after_s"] == 300
    assert checkout["baseline"]["over_after_s"] is None
    assert all(want["rules"] for want in report["wanted"])
    decision = report["decisions"][0]
    assert (decision["endpoint"], decision["verdict"], decision["values"]["interval_ms"]) == (
        "traffic",
        "applied",
        30_000,
    )


def test_without_a_planner_both_sides_are_alike() -> None:
    report = json.loads(evaluated("volume", "--planner", "none", "--json"))
    assert report["endpoints"][0]["none"] == report["endpoints"][0]["baseline"]
    assert report["decisions"] == []


def test_model_is_asked_through_the_real_client(model_server: ModelServer, settings: Any) -> None:
    use_model(settings, model_server)
    model_server.decide(answering(POLICIES["volume"]))
    text = evaluated("volume", "--planner", "model")
    assert "by model because" in text
    assert f"Analyses: {len(model_server.received)}" in text
    report = json.loads(evaluated("volume", "--planner", "model", "--json"))
    assert {session["status"] for session in report["sessions"]} == {"completed"}


def test_rules_and_model_can_plan_together(model_server: ModelServer, settings: Any) -> None:
    use_model(settings, model_server)
    text = evaluated("volume", "--planner", "both")
    assert "by rule" in text
    count = len(model_server.received)
    assert f"Analyses: {count}, {count} completed" in text


def test_model_that_refuses_is_asked_once(model_server: ModelServer, settings: Any) -> None:
    use_model(settings, model_server)
    model_server.script(failure(401))
    with pytest.raises(CommandError, match="was not asked to the end: The service answered 401"):
        evaluated("volume", "--planner", "model")
    assert len(model_server.received) == 1


def test_model_is_not_asked_more_often_than_allowed(model_server: ModelServer, settings: Any) -> None:
    use_model(settings, model_server)
    model_server.decide(answering(POLICIES["volume"]))
    with pytest.raises(CommandError, match="asked for 3 analyses"):
        evaluated("volume", "--planner", "model", "--most-analyses", "3")
    assert len(model_server.received) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give either a scenario"),
        (("volume", "--endpoint", str(uuid4())), "Give either a scenario"),
        (("vulome",), "There is no such scenario; choose one of degradation"),
        (("volume", "--planner", "model"), "set OPENAI_API_KEY"),
        (("--endpoint", str(uuid4()), "--hours", "0"), "Give --hours above 0"),
        (("--endpoint", str(uuid4()), "--hours", "nan"), "Give --hours above 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: tuple[str, ...], message: str, settings: Any) -> None:
    settings.ENV = replace(settings.ENV, openai_api_key="")
    with pytest.raises(CommandError, match=message):
        evaluated(*arguments)


@pytest.mark.django_db
def test_record_is_printed_beside_what_would_have_happened() -> None:
    with connection.cursor() as cursor:
        began_at = database_now(cursor) - timedelta(hours=4)
    was = play(replace(SCENARIOS["degradation"], start=began_at))
    shop = store_endpoints(was)["shop"]
    before = Endpoint.objects.values().get(pk=shop.pk)
    text = evaluated("--endpoint", str(shop.pk), "--hours", "4")
    assert "rules beside recorded" in text
    assert "shop: every 1 min until" in text
    report = json.loads(evaluated("--endpoint", str(shop.pk), "--hours", "3.99", "--json"))
    assert [endpoint["name"] for endpoint in report["endpoints"]] == ["shop", "checkout"]
    assert report["endpoints"][0]["recorded"]["calls"] == len(was.history.of("shop"))
    assert report["endpoints"][0]["rules"]["calls"] > 90
    # Nothing is changed and nothing stored.
    assert Endpoint.objects.values().get(pk=shop.pk) == before
    assert not Proposal.objects.exists()


@pytest.mark.django_db
def test_faults_of_a_record_are_told() -> None:
    with pytest.raises(CommandError, match="no endpoint of that id"):
        evaluated("--endpoint", str(uuid4()))
    endpoint = store_endpoints(play(SCENARIOS["volume"]))["import"]
    Endpoint.objects.filter(pk=endpoint.pk).update(rules=[{"when": {}}])
    with pytest.raises(CommandError, match="rules of an endpoint cannot be read"):
        evaluated("--endpoint", str(endpoint.pk))
