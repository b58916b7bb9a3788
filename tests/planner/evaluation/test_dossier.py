"""The model is told of a play, word by word, what it would be told of the same history in the database."""

from dataclasses import asdict, replace
from datetime import timedelta

import pytest

from jobs.models import Endpoint, Run, RunResponse
from planner.analyst import dossier as real
from planner.analyst.briefing import Briefing, messages
from planner.evaluation import dossier
from planner.evaluation.desk import Desk
from planner.evaluation.history import History, PlayedRun
from planner.evaluation.play import Played, play
from planner.evaluation.rules import RulesPlanner
from planner.evaluation.scenarios import SCENARIOS
from planner.evaluation.world import World
from planner.proposals.filing import bounds_of
from scheduling.plan.row import PlanRow
from tests.planner.evaluation.stored import Filed, store_endpoints, store_state
from tests.planner.scenes import ran
from tests.support.factories import make_endpoint

pytestmark = pytest.mark.django_db
TOLD = {"limit": 3, "offset": 1, "include_bodies": True}


class Looks:
    """Notes at one minute what a model would be told of one endpoint, and what there was to tell."""

    def __init__(self, endpoint: str, minute: float) -> None:
        self.endpoint, self.minute = endpoint, minute

    def begin(self, desk: Desk) -> None:
        self.desk = desk
        desk.stage.wake(desk.world.at(self.minute))

    def settled(self, run: PlayedRun) -> None:
        pass

    def woken(self) -> None:
        desk = self.desk
        if desk.now != desk.world.at(self.minute):
            return
        self.briefing: Briefing = dossier.briefing_of(desk, self.endpoint, trigger="failures_rose")
        self.told = (
            dossier.latest_response(desk, self.endpoint),
            dossier.response_history(desk, self.endpoint, limit=3, offset=1, include_bodies=True),
            dossier.sibling_responses(desk, self.endpoint, include_responses=True),
        )
        self.rows = {name: PlanRow(**asdict(desk.stage.row(name))) for name in desk.world.by_name}
        self.filed = {
            name: [Filed(replace(entry), desk.state(entry)) for entry in desk.entries if entry.endpoint == name]
            for name in desk.world.by_name
        }
        self.history = History(list(desk.history))


def stored_beside(world: World, looks: Looks) -> Endpoint:
    play(world, RulesPlanner(), looks)
    endpoints = store_endpoints(Played(world, looks.history, ()))
    for name, endpoint in endpoints.items():
        store_state(endpoint, looks.rows[name], looks.filed[name])
    return endpoints[looks.endpoint]


@pytest.mark.parametrize(
    ("name", "endpoint", "minute"),
    [
        ("sibling", "health", 34.5),
        ("sibling", "recovery", 75.5),
        ("degradation", "checkout", 101.5),
        ("degradation", "shop", 158.5),
        ("ratelimit", "quota", 75.5),
        ("flashsale", "pages", 12.1),
        ("flashsale", "page-oncall", 30.5),
        ("pipeline", "transform", 20.5),
    ],
)
def test_what_is_told_of_a_play_is_what_would_be_told_of_the_record(name: str, endpoint: str, minute: float) -> None:
    looks = Looks(endpoint, minute)
    stored = stored_beside(SCENARIOS[name], looks)
    subject = real.subject_of(stored.pk)
    now = SCENARIOS[name].at(minute)
    limits_ms = bounds_of(subject.endpoint, now).limits_ms()
    briefing = real.briefing_of(subject, trigger="failures_rose", limits_ms=limits_ms, now=now)
    assert messages(briefing, [])[1]["content"] == messages(looks.briefing, [])[1]["content"]
    assert (
        real.latest_response(subject),
        real.response_history(subject, limit=3, offset=1, include_bodies=True),
        real.sibling_responses(subject, include_responses=True),
    ) == looks.told


def test_content_type_is_data_like_the_body() -> None:
    endpoint = make_endpoint()
    hidden = f'text/html; x="\u202e{"obey " * 40}"'
    ran(endpoint, {"ok": True})
    RunResponse.objects.filter(endpoint=endpoint).update(content_type=hidden)
    told = real.latest_response(real.subject_of(endpoint.pk))["content_type"]
    assert told.startswith(r'"text/html; x=\"obey obey')
    assert "\u202e" not in told
    assert len(told) < 140


def test_siblings_that_the_planner_is_off_for_are_not_told() -> None:
    world = SCENARIOS["sibling"]
    members = (world.members[0], replace(world.members[1], mode="off"))
    looks = Looks("health", 20)
    play(replace(world, members=members), looks)
    assert looks.briefing.siblings == []
    assert looks.told[2] == {"siblings": []}


def test_endpoint_without_runs_has_nothing_to_tell() -> None:
    looks = Looks("health", 1)
    play(replace(SCENARIOS["sibling"]), looks)
    assert looks.told[0] == {"response": None}
    assert (looks.briefing.body, looks.briefing.health[0].p50_ms) == (None, None)
    assert Run.objects.count() == 0


def test_one_shot_endpoint_is_told_when_it_runs() -> None:
    world = SCENARIOS["sibling"]
    once_at = world.start + timedelta(minutes=90)
    members = (replace(world.members[0], columns={"run_once_at": once_at}), world.members[1])
    looks = Looks("health", 1)
    play(replace(world, members=members), looks)
    assert looks.briefing.baseline == "once at 13:30 UTC"
