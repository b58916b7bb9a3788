"""Recorded history is read as it was, and played again answers as it was answered."""

from dataclasses import replace
from datetime import timedelta

import pytest

from jobs.models import Endpoint, Run
from planner.evaluation import record
from planner.evaluation.history import PlayedRun
from planner.evaluation.play import Played, play
from planner.evaluation.record import TooManyRunsError, recorded
from planner.evaluation.rules import RulesPlanner
from planner.evaluation.scenarios import SCENARIOS
from planner.evaluation.world import Spell
from planner.models import Proposal
from planner.proposals.judgement import Verdict
from planner.proposals.wishes import ProposeInterval, Speaker
from tests.planner.evaluation.stored import Filed, store_endpoints, store_runs, store_state
from tests.support.factories import make_endpoint

pytestmark = pytest.mark.django_db
WORLD = SCENARIOS["degradation"]


def stored(played: Played) -> dict[str, Endpoint]:
    return store_endpoints(played)


def read(endpoint: Endpoint, minutes: float = WORLD.minutes) -> Played:
    return recorded(endpoint.pk, begin=WORLD.start, end=WORLD.at(minutes))


def facts(run: PlayedRun) -> tuple[object, ...]:
    return run.started_at, run.finished_at, run.ok, run.status_code, run.error_kind, run.body, run.headers


def test_record_played_without_a_planner_is_the_record() -> None:
    was = play(WORLD)
    endpoints = stored(was)
    record = read(endpoints["shop"])
    again = play(record.world)
    for name in endpoints:
        assert [facts(run) for run in record.history.of(name)] == [facts(run) for run in was.history.of(name)]
        assert [facts(run) for run in again.history.of(name)] == [facts(run) for run in was.history.of(name)]
    assert [member.name for member in record.world.members] == ["shop", "checkout"]
    assert record.world.siblings("shop")[0].name == "checkout"


def test_record_played_with_rules_shows_what_they_would_have_done() -> None:
    endpoints = stored(play(WORLD))
    record = read(endpoints["shop"])
    played = play(record.world, RulesPlanner())
    assert played.changes_of_pace("shop") == 2
    assert len(played.runs("shop", 75, 150)) > 4 * len(record.runs("shop", 75, 150))
    # Between two recorded runs the target answers as the earlier one was answered.
    bodies = {run.body for run in record.history.of("shop")}
    assert {run.body for run in played.history.of("shop")} <= bodies


def test_failures_of_the_record_are_its_troubles() -> None:
    was = play(SCENARIOS["ratelimit"])
    endpoint = stored(was)["quota"]
    world = read(endpoint, 300).world
    assert [(round(spell.begin), spell.what) for spell in world.spells] == [(60, "failures"), (200, "failures")]
    assert isinstance(world.spells[0], Spell)
    open_end = read(endpoint, 90).world
    assert [(round(spell.begin), spell.end) for spell in open_end.spells] == [(60, 90)]


def test_what_the_planner_did_then_is_read_too() -> None:
    was = play(WORLD, RulesPlanner())
    endpoints = stored(was)
    row = WORLD.scenario().endpoints[0].new_row()
    entries = [entry for entry in was.entries if entry.endpoint == "shop"]
    refused = replace(entries[0], verdict=Verdict.REFUSED, at=entries[0].at + timedelta(minutes=1))
    offered = replace(entries[0], verdict=Verdict.PENDING, at=entries[0].at + timedelta(minutes=2))
    states = [Filed(entries[0], "superseded"), Filed(refused, "refused"), Filed(offered, "rejected")]
    store_state(endpoints["shop"], row, states)
    found = read(endpoints["shop"]).entries
    assert [entry.verdict for entry in found] == [Verdict.APPLIED, Verdict.REFUSED, Verdict.PENDING]
    assert (found[0].at, found[0].speaker, found[0].until) == (entries[0].at, Speaker.RULE, entries[0].until)
    assert isinstance(found[0].wish, ProposeInterval)


def test_endpoint_that_is_off_is_played_but_not_its_siblings_that_are() -> None:
    endpoints = stored(play(WORLD))
    Endpoint.objects.update(planner_mode="off")
    modes = {member.name: member.mode for member in read(endpoints["checkout"]).world.members}
    assert modes == {"checkout": "auto", "shop": "off"}
    Endpoint.objects.update(planner_mode="shadow")
    assert {member.mode for member in read(endpoints["checkout"]).world.members} == {"auto"}


def test_grid_of_an_interval_that_was_anchored_since_is_the_same_before() -> None:
    endpoints = stored(play(WORLD))
    Endpoint.objects.filter(pk=endpoints["shop"].pk).update(anchor_at=WORLD.at(121))
    played = play(read(endpoints["shop"]).world)
    assert played.minutes("shop", 0, 12) == [1, 6, 11]


def test_slots_that_were_served_before_are_not_served_again() -> None:
    once = make_endpoint(run_once_at=WORLD.at(-30), created_at=WORLD.at(-60))
    Endpoint.objects.filter(pk=once.pk).update(last_slot_at=None)
    assert len(play(read(once).world).history.of(once.name)) == 1
    assert play(read(once).world).history.of(once.name)[0].ok
    store = PlayedRun(once.name, WORLD.at(-30), WORLD.at(-30), WORLD.at(-29), "run-once", True, 200)
    store_runs(once, [store])
    assert play(read(once).world).history.of(once.name) == []


@pytest.mark.parametrize(
    ("begin", "end"),
    [(60, 120), (0, 100), (130, WORLD.minutes), (0, WORLD.minutes)],
    ids=["middle", "head", "tail", "all"],
)
def test_a_stretch_in_which_nobody_called_is_not_called_in_the_replay_either(begin: float, end: float) -> None:
    was = play(WORLD)
    endpoints = stored(was)
    first, last = WORLD.at(begin), WORLD.at(end)
    Run.objects.filter(endpoint=endpoints["shop"], due_at__gte=first, due_at__lt=last).delete()
    record = read(endpoints["shop"])
    again = play(record.world)
    assert len(again.runs("shop")) == len(record.runs("shop"))
    assert again.runs("shop", begin, end) == []
    assert len(again.runs("checkout")) == len(was.runs("checkout"))
    ruled = play(record.world, RulesPlanner())
    # What was asked for before the stretch may call once more on its way into it.
    assert len(ruled.runs("shop", begin + 5, end)) == 0


def test_a_stretch_that_the_planner_paused_is_what_it_saved() -> None:
    was = play(WORLD)
    endpoints = stored(was)
    Run.objects.filter(endpoint=endpoints["shop"], due_at__gte=WORLD.at(60), due_at__lt=WORLD.at(120)).delete()
    Proposal.objects.create(
        endpoint=endpoints["shop"],
        owner_id=endpoints["shop"].owner_id,
        cause="model",
        tool="pause_until",
        mode="auto",
        status="expired",
        created_at=WORLD.at(59),
        applied_at=WORLD.at(59),
        hint_expires_at=WORLD.at(120),
        arguments_asked={"until": WORLD.at(120).isoformat(), "reason": "rest"},
        arguments={"until": WORLD.at(120).isoformat(), "reason": "rest"},
    )
    assert len(play(read(endpoints["shop"]).world).runs("shop")) == len(was.runs("shop"))


def test_a_schedule_that_was_slower_then_is_no_silence() -> None:
    endpoints = stored(play(WORLD))
    Endpoint.objects.filter(pk=endpoints["shop"].pk).update(baseline_interval_ms=60_000)
    assert read(endpoints["shop"]).world.events == ()


def test_endpoints_of_one_name_are_told_apart() -> None:
    endpoints = stored(play(WORLD))
    Endpoint.objects.update(name="same")
    names = [member.name for member in read(endpoints["shop"]).world.members]
    assert names == ["same", f"same {endpoints['checkout'].pk}"]


def test_record_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "MOST_RUNS", 10)
    endpoints = stored(play(WORLD))
    with pytest.raises(TooManyRunsError, match="take fewer hours"):
        read(endpoints["shop"])
