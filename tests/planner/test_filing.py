"""What is stored and applied when a wish is filed: ranks, the week's pauses, both or neither."""

from datetime import timedelta
from typing import Any

import pytest

from jobs import services as hints
from jobs.models import Author, Endpoint
from planner.models import Proposal, ProposalStatus
from planner.proposals import ClearHints, PauseUntil, ProposeInterval, Speaker
from tests.planner.scenes import file, offered, utc_now
from tests.support.factories import make_endpoint

pytestmark = pytest.mark.django_db


def test_a_new_offer_takes_the_place_of_the_old_one() -> None:
    endpoint, first = offered()
    second = file(endpoint, ProposeInterval(interval_ms=60_000, reason="calmer"))
    first.refresh_from_db()
    assert second is not None
    assert (first.status, second.status) == (ProposalStatus.SUPERSEDED, ProposalStatus.PENDING)


def test_a_persons_pause_is_never_touched() -> None:
    endpoint = make_endpoint()
    hints.pause(endpoint_id=endpoint.pk, until=utc_now() + timedelta(hours=1), reason="mine", author=Author.USER)
    Endpoint.objects.filter(pk=endpoint.pk).update(planner_hold_until=None)
    for until in (None, utc_now() + timedelta(hours=2)):
        refused = file(endpoint, PauseUntil(until=until, reason="x"))
        assert refused is None or refused.status == ProposalStatus.REFUSED
    endpoint.refresh_from_db()
    assert endpoint.paused_by == Author.USER


def test_the_planner_ends_its_own_pause() -> None:
    endpoint = make_endpoint()
    pause = file(endpoint, PauseUntil(until=utc_now() + timedelta(hours=1), reason="rest"))
    assert file(endpoint, PauseUntil(until=None, reason="it is back")) is not None
    endpoint.refresh_from_db()
    assert endpoint.paused_until is None
    assert pause is not None
    pause.refresh_from_db()
    assert pause.status == ProposalStatus.SUPERSEDED


def test_pauses_of_a_week_add_up_to_two_days_at_most() -> None:
    endpoint = make_endpoint()
    for day in (3, 2):
        began = utc_now() - timedelta(days=day)
        Proposal.objects.create(
            endpoint=endpoint,
            owner_id=endpoint.owner_id,
            cause="model",
            tool="pause_until",
            mode="auto",
            status="expired",
            applied_at=began,
            hint_expires_at=began + timedelta(hours=23),
        )
    pause = file(endpoint, PauseUntil(until=utc_now() + timedelta(hours=20), reason="rest"))
    assert pause is not None
    endpoint.refresh_from_db()
    left = endpoint.paused_until - utc_now()
    assert timedelta(hours=1, minutes=59) < left <= timedelta(hours=2)


def test_a_model_may_not_clear_what_a_rule_set_but_a_rule_may_clear_what_a_model_set() -> None:
    endpoint = make_endpoint()
    file(endpoint, speaker=Speaker.RULE, key="busy")
    assert file(endpoint, ClearHints(reason="x")) is None
    assert file(endpoint, ClearHints(reason="x"), Speaker.RULE) is not None
    file(endpoint)
    assert file(endpoint, ClearHints(reason="x"), Speaker.RULE, own_only=True) is None
    assert file(endpoint, ClearHints(reason="x"), Speaker.RULE) is not None
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms is None


def test_a_stored_hint_and_its_record_fail_together(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = make_endpoint()
    monkeypatch.setattr(Proposal, "save", _fail_after(Proposal.save, calls=1))
    with pytest.raises(RuntimeError):
        file(endpoint)
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms is None
    assert not Proposal.objects.exists()


def _fail_after(save: Any, *, calls: int) -> Any:
    done = []

    def failing(self: Proposal, *args: Any, **options: Any) -> None:
        if len(done) >= calls:
            raise RuntimeError("The planner is gone.")
        done.append(1)
        save(self, *args, **options)

    return failing
