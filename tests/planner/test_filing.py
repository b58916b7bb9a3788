"""What is stored and applied when a wish is filed: ranks, the week's pauses, both or neither."""

from datetime import timedelta
from typing import Any

import pytest

from jobs import services as hints
from jobs.models import Author, Endpoint, PlannerMode
from planner.models import Proposal, ProposalStatus
from planner.proposals.filing import file_proposal
from planner.proposals.verdicts import approve
from planner.proposals.wishes import ClearHints, PauseUntil, ProposeInterval, ProposeNextTime, Speaker
from tests.planner.scenes import file, offered, utc_now
from tests.support.factories import make_endpoint

pytestmark = pytest.mark.django_db


def test_a_new_offer_takes_the_place_of_the_old_one() -> None:
    endpoint, first = offered()
    second = file(endpoint, ProposeInterval(interval_ms=60_000, reason="calmer"))
    first.refresh_from_db()
    assert second is not None
    assert (first.status, second.status) == (ProposalStatus.SUPERSEDED, ProposalStatus.PENDING)


@pytest.mark.parametrize(
    ("baseline", "most_ms"),
    [
        ({"baseline_interval_ms": 60_000}, 480_000),
        ({"baseline_cron": "*/5 * * * *"}, 2_400_000),
        ({"baseline_interval_ms": 60_000, "max_interval_ms": 3_600_000}, 3_600_000),
    ],
)
def test_slowing_down_is_no_pause_where_the_owner_set_no_maximum(baseline: dict[str, Any], most_ms: int) -> None:
    endpoint = make_endpoint(**baseline)
    asleep = file(endpoint, ProposeInterval(interval_ms=86_000_000, ttl_minutes=1_440, reason="asleep"))
    assert asleep is not None
    endpoint.refresh_from_db()
    assert (asleep.status, endpoint.ai_hint_interval_ms) == (ProposalStatus.APPLIED, most_ms)


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


def paused_lately(endpoint: Endpoint, cause: str) -> None:
    """Pauses of two full days within the last week."""
    for day in (5, 3):
        began = utc_now() - timedelta(days=day)
        Proposal.objects.create(
            endpoint=endpoint,
            owner_id=endpoint.owner_id,
            cause=cause,
            tool="pause_until",
            mode="auto",
            status="expired",
            applied_at=began,
            hint_expires_at=began + timedelta(hours=24),
        )


@pytest.mark.parametrize("cause", ["model", "heuristic", "rule"])
def test_rules_of_the_owner_pause_however_much_was_paused_this_week(cause: str) -> None:
    endpoint = make_endpoint()
    paused_lately(endpoint, cause)
    until = utc_now() + timedelta(hours=20)
    pause = file(endpoint, PauseUntil(until=until, reason="maintenance"), Speaker.RULE, key="maintenance")
    assert pause is not None
    endpoint.refresh_from_db()
    assert (pause.status, endpoint.paused_until) == (ProposalStatus.APPLIED, until)


def test_what_rules_paused_takes_nothing_from_the_allowance_of_the_model() -> None:
    endpoint = make_endpoint()
    paused_lately(endpoint, "rule")
    until = utc_now() + timedelta(hours=20)
    assert file(endpoint, PauseUntil(until=until, reason="rest")) is not None
    endpoint.refresh_from_db()
    assert endpoint.paused_until == until


def test_offer_of_a_rule_is_approved_however_much_was_paused_this_week() -> None:
    endpoint = make_endpoint(planner_mode="approve")
    paused_lately(endpoint, "model")
    offer = file(endpoint, PauseUntil(until=utc_now() + timedelta(hours=20), reason="maintenance"), Speaker.RULE)
    assert offer is not None
    assert approve(proposal_id=offer.pk, by=endpoint.owner_id).status == ProposalStatus.APPLIED


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


def test_clearing_drops_the_one_shot_hint_too_but_not_a_persons() -> None:
    endpoint = make_endpoint()
    look = ProposeNextTime(next_run_at=utc_now() + timedelta(minutes=2), reason="look")
    hint, oneshot = file(endpoint), file(endpoint, look)
    assert file(endpoint, ClearHints(reason="calm")) is not None
    endpoint.refresh_from_db()
    assert (endpoint.ai_hint_interval_ms, endpoint.ai_hint_next_run_at) == (None, None)
    for proposal in (hint, oneshot):
        assert proposal is not None
        proposal.refresh_from_db()
        assert proposal.status == ProposalStatus.CLEARED
    file(endpoint)
    hints.set_oneshot_hint(
        endpoint_id=endpoint.pk, next_run_in_ms=60_000, ttl_ms=600_000, reason="mine", author=Author.USER
    )
    Endpoint.objects.update(planner_hold_until=None)
    assert file(endpoint, ClearHints(reason="calm")) is not None
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms is None
    assert endpoint.ai_hint_next_run_at is not None


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


def test_what_a_hold_held_back_is_told_once_however_the_speaker_wavers() -> None:
    endpoint = make_endpoint(planner_hold_until=utc_now() + timedelta(hours=1))
    calmer = ProposeInterval(interval_ms=60_000, reason="calmer")
    first, second = file(endpoint), file(endpoint, calmer)
    assert first is not None
    assert second is not None
    assert (first.status, second.status) == (ProposalStatus.HELD, ProposalStatus.HELD)
    assert first.arguments["interval_ms"] == 30_000
    assert [file(endpoint), file(endpoint, calmer)] == [None, None]


def test_an_offer_of_a_rule_stands_against_the_model_and_for_a_while_against_another_rule() -> None:
    endpoint = make_endpoint(planner_mode=PlannerMode.APPROVE)
    calmer = ProposeInterval(interval_ms=60_000, reason="calmer")
    standing = file(endpoint, speaker=Speaker.RULE, key="busy")
    assert file(endpoint, calmer) is None
    assert file(endpoint, speaker=Speaker.RULE, key="busy") is None
    assert file(endpoint, calmer, Speaker.RULE, key="calm") is None
    Proposal.objects.update(created_at=utc_now() - timedelta(minutes=11))
    assert file(endpoint, calmer, Speaker.RULE, key="calm") is not None
    assert standing is not None
    standing.refresh_from_db()
    assert standing.status == ProposalStatus.SUPERSEDED


def test_what_is_applied_ends_an_open_offer_of_its_kind() -> None:
    endpoint, offer = offered()
    Endpoint.objects.filter(pk=endpoint.pk).update(planner_mode=PlannerMode.AUTO)
    applied = file(endpoint)
    offer.refresh_from_db()
    assert applied is not None
    assert (applied.status, offer.status) == (ProposalStatus.APPLIED, ProposalStatus.SUPERSEDED)


def test_a_pause_that_ends_before_the_next_run_is_turned_to_nothing() -> None:
    endpoint = make_endpoint(baseline_interval_ms=3_600_000)
    before = endpoint.next_run_at
    rest = PauseUntil(until=utc_now() + timedelta(minutes=10), reason="rest")
    filed = file_proposal(endpoint_id=endpoint.pk, wish=rest, speaker=Speaker.MODEL)
    assert (filed.proposal_id, filed.status) == (None, None)
    assert "would end before the next run" in filed.note
    endpoint.refresh_from_db()
    assert (endpoint.paused_until, endpoint.next_run_at) == (None, before)


def test_the_planner_may_shorten_its_own_pause_as_long_as_that_defers_the_next_run() -> None:
    endpoint = make_endpoint(baseline_interval_ms=300_000)
    assert file(endpoint, PauseUntil(until=utc_now() + timedelta(hours=2), reason="rest")) is not None
    shorter = utc_now() + timedelta(hours=1)
    assert file(endpoint, PauseUntil(until=utc_now() + timedelta(minutes=1), reason="less")) is None
    assert file(endpoint, PauseUntil(until=shorter, reason="less")) is not None
    endpoint.refresh_from_db()
    assert endpoint.paused_until == endpoint.next_run_at == shorter


@pytest.mark.parametrize(
    ("description", "speaker", "status"),
    [
        ("The nightly report.", Speaker.MODEL, ProposalStatus.REFUSED),
        ("Look every minute while it fails.", Speaker.MODEL, ProposalStatus.APPLIED),
        ("The nightly report.", Speaker.RULE, ProposalStatus.APPLIED),
    ],
)
def test_a_one_shot_of_the_model_does_not_lower_a_back_off_unless_the_owners_text_speaks_of_failures(
    description: str, speaker: Speaker, status: str
) -> None:
    endpoint = make_endpoint(
        description=description, baseline_interval_ms=600_000, failure_count=2, last_slot_at=utc_now()
    )
    found = file(endpoint, ProposeNextTime(next_run_at=utc_now(), reason="look again"), speaker, key="again")
    assert found is not None
    assert found.status == status


def test_an_interval_of_the_model_says_that_it_waits_while_the_endpoint_fails() -> None:
    endpoint = make_endpoint(baseline_interval_ms=600_000, failure_count=2, last_slot_at=utc_now())
    found = file(endpoint)
    assert found is not None
    assert (found.status, found.status_reason) == (
        ProposalStatus.APPLIED,
        "in force when the endpoint answers again",
    )
    endpoint.refresh_from_db()
    assert "waits until the endpoint answers again" in endpoint.next_decision["sentence"]
    assert endpoint.ai_hint_interval_author == "the model"


def test_what_the_model_wants_of_a_sibling_says_where_it_was_seen() -> None:
    endpoint = make_endpoint()
    wake = ProposeNextTime(next_run_at=utc_now(), reason="it failed 3 times")
    found = file(endpoint, wake, from_sibling="health")
    assert found is not None
    assert found.reason == 'it failed 3 times (of endpoint "health")'
