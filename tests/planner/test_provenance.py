"""The endpoint's page says who set what is in force, and leads to the session."""

from datetime import timedelta
from html import unescape

import pytest
from django.test import Client

from jobs import services as hints
from jobs.models import Author, Endpoint, RunStatus
from planner.models import AnalysisSession, Proposal
from planner.proposals.wishes import PauseUntil, Speaker
from planner.rules.rulespass import rules_pass
from planner.scoring.scores import score_the_ended
from planner.templatetags.provenance import speaker
from tests.planner.scenes import FASTER, busy_endpoint, file, offered, ran, utc_now
from tests.support.factories import make_endpoint, make_job

pytestmark = pytest.mark.django_db


def signed_in(endpoint: Endpoint) -> Client:
    client = Client()
    client.force_login(endpoint.job.owner, backend="django.contrib.auth.backends.ModelBackend")
    return client


def page(endpoint: Endpoint) -> str:
    return unescape(signed_in(endpoint).get(f"/jobs/endpoint/{endpoint.pk}/").content.decode())


def test_a_hint_of_a_rule_leads_to_its_proposal_and_its_session() -> None:
    endpoint = busy_endpoint()
    rules_pass(last_pass_at=None, heuristics=True)
    shown = page(endpoint)
    assert f'href="/planner/proposal/{Proposal.objects.get().pk}/">the rule "rules[0]"</a>' in shown
    assert f'in <a class="cc-link" href="/planner/analysissession/{AnalysisSession.objects.get().pk}/">' in shown
    assert "because queue_depth is 412, above 100" in shown


def test_a_pause_of_the_model_and_a_hint_of_a_person_are_told_apart() -> None:
    endpoint = make_endpoint()
    pause = file(endpoint, PauseUntil(until=utc_now() + timedelta(hours=1), reason="it rests"))
    hints.set_interval_hint(endpoint_id=endpoint.pk, interval_ms=60_000, ttl_ms=600_000, reason="", author=Author.USER)
    shown = page(endpoint)
    assert pause is not None
    assert f'by <a class="cc-link" href="/planner/proposal/{pause.pk}/">the model</a>' in shown
    assert "set by a person" in shown


def test_what_the_planner_applied_is_undone_with_one_click() -> None:
    endpoint = busy_endpoint()
    rules_pass(last_pass_at=None, heuristics=True)
    pause = file(endpoint, PauseUntil(until=utc_now() + timedelta(hours=1), reason="it rests"))
    assert pause is not None
    shown = page(endpoint)
    for proposal in Proposal.objects.all():
        address = f"/planner/proposal/{proposal.pk}/do/undo/"
        assert f'action="{address}"' in shown
        signed_in(endpoint).post(address)
        proposal.refresh_from_db()
        assert proposal.status == "undone"
    endpoint.refresh_from_db()
    assert (endpoint.ai_hint_interval_ms, endpoint.paused_until) == (None, None)
    assert "/do/undo/" not in page(endpoint)


def test_a_system_pause_has_no_proposal() -> None:
    endpoint = make_endpoint()
    hints.pause(endpoint_id=endpoint.pk, until=utc_now() + timedelta(hours=1), reason="lost", author=Author.SYSTEM)
    assert "<b>Paused</b> by the system" in page(endpoint)


def test_who_spoke_in_words() -> None:
    job = make_job()
    rules = [{"name": "help: now", "when": {"failing_for": 1}, "then": {"run_sibling": "recover"}}]
    check = make_endpoint(job=job, name="check", rules=rules)
    make_endpoint(job=job, name="recover", baseline_cron="0 3 * * *")
    ran(check, status=RunStatus.FAILED, status_code=500)
    rules_pass(last_pass_at=None, heuristics=False)
    assert speaker(Proposal.objects.get()) == 'the rule "help: now" of endpoint "check"'
    own = file(check, speaker=Speaker.RULE, key="busy: very")
    slow = file(make_endpoint(), speaker=Speaker.HEURISTIC, key="unchanged")
    assert own is not None
    assert slow is not None
    assert (speaker(own), speaker(slow)) == ('the rule "busy: very"', "a heuristic")


def test_an_offer_is_shown_on_the_endpoint_in_words_and_approved_there() -> None:
    endpoint, proposal = offered()
    shown = page(endpoint)
    assert f'href="/planner/proposal/{proposal.pk}/">Every 30 s</a></b> by the model' in shown
    address = f"/planner/proposal/{proposal.pk}/do/approve/"
    assert f'action="{address}"' in shown
    assert f'action="/planner/proposal/{proposal.pk}/do/reject/"' in shown
    signed_in(endpoint).post(address)
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms == 30_000
    assert "Offer:" not in page(endpoint)


def test_a_rule_that_names_no_sibling_says_so_on_the_endpoint() -> None:
    rule = {"name": "help", "when": {"failing_for": 1}, "then": {"run_sibling": "recovr"}}
    check = make_endpoint(rules=[rule])
    ran(check, status=RunStatus.FAILED, status_code=500)
    rules_pass(last_pass_at=None, heuristics=False)
    shown = page(check)
    assert 'The rule "help"</a> matched and could do nothing. This job has no other endpoint called "recovr".' in shown
    Proposal.objects.update(created_at=utc_now() - timedelta(hours=2))
    assert "could do nothing" not in page(check)


def test_the_page_of_a_proposal_shows_what_it_replaced_and_its_scorecard() -> None:
    endpoint = make_endpoint()
    first = file(endpoint, FASTER.model_copy(update={"interval_ms": 60_000}))
    second = file(endpoint)
    assert first is not None
    assert second is not None
    began = utc_now() - timedelta(hours=3)
    ended = {"applied_at": began, "ended_at": began + timedelta(hours=1), "status": "expired", "ended_by": "expired"}
    Proposal.objects.filter(pk=second.pk).update(**ended, hint_expires_at=began + timedelta(hours=1))
    assert score_the_ended(10) == 1
    shown = unescape(signed_in(endpoint).get(f"/planner/proposal/{second.pk}/").content.decode())
    assert f'<a class="cc-link" href="/planner/proposal/{first.pk}/">every 1 min</a>' in shown
    assert "1 h, faster" in shown
    assert "0, your schedule would have made 12" in shown
