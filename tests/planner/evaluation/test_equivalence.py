"""A play is what the real scheduler's statements and the planner's real passes make of the same answers."""

import json
import re
from collections import Counter
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from cronicorn.runtime.stopping import Stop
from jobs.models import Endpoint
from jobs.replan import replan
from planner.analyst.llm import ModelAccess
from planner.analyst.modelpass import Analyst
from planner.evaluation.desk import Desk, Entry
from planner.evaluation.history import History, PlayedRun
from planner.evaluation.model import ModelPlanner
from planner.evaluation.play import Played, play
from planner.evaluation.rules import PASS_EVERY, RulesPlanner
from planner.evaluation.scenarios import SCENARIOS
from planner.evaluation.world import World
from planner.models import AnalysisSession, Proposal
from planner.proposals.filing import stored_arguments
from planner.proposals.verdicts import end_the_ended
from planner.rules.rulespass import rules_pass
from scheduling.exchange.outcome import Blame, ErrorKind, Timings
from scheduling.ledger.claims import Claim, claim_due
from scheduling.ledger.settlement import Result, settle
from scheduling.simulation.engine import WORKER, SimulatedRun
from tests.chaos.clock import ShiftedClock, everybodys_clock, own_clock
from tests.planner.evaluation.script import POLICIES, answering, asking
from tests.planner.evaluation.stored import store_endpoints
from tests.scheduling.test_claim_equivalence import read_row
from tests.scheduling.test_settlement import outcome_of
from tests.support.model_server import ModelServer

LEASE = timedelta(hours=1)


class Mirror:
    """Claims, settles and passes in the database at the times of the play, and compares after each pass."""

    def __init__(self, world: World, clock: ShiftedClock) -> None:
        self.world, self.clock = world, clock
        clock.stand(world.start)
        self.endpoints = store_endpoints(Played(world, History(), ()))
        replan([endpoint.pk for endpoint in self.endpoints.values()])
        self.names = {endpoint.pk: name for name, endpoint in self.endpoints.items()}
        self.claims: dict[UUID, Claim] = {}
        self.passes = 0

    def begin(self, desk: Desk) -> None:
        self.desk = desk

    def started(self, run: SimulatedRun) -> None:
        self.clock.stand(run.started_at)
        for claim in claim_due(worker=WORKER, limit=20, lease=LEASE):
            self.claims[claim.endpoint_id] = claim
        assert self.claims[self.endpoints[run.endpoint].pk].slot_at == run.slot_at

    def settled(self, run: PlayedRun) -> None:
        self.clock.stand(run.finished_at)
        claim = self.claims.pop(self.endpoints[run.endpoint].pk)
        fields: dict[str, Any] = {"status_code": run.status_code, "body": run.body, "wait_headers": run.headers}
        fields["timings"] = Timings(total_ms=run.duration_ms)
        fields["headers"] = run.headers
        if not run.ok:
            fields |= {
                "ok": False,
                "error_kind": ErrorKind(run.error_kind),
                "blame": Blame.REMOTE,
                "error_message": "-",
            }
        outcome = outcome_of(claim, **fields)
        result = Result(
            outcome=outcome,
            attempt=claim.attempt,
            slot_at=claim.slot_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
            stopping=False,
        )
        assert settle(worker=WORKER, results=[result]).accepted

    def woken(self) -> None:
        now = self.desk.now
        self.clock.stand(now)
        self.make_pass(now)
        # A default of the column reads the real clock.
        Proposal.objects.filter(created_at__gt=self.world.at(self.world.minutes)).update(created_at=now)
        self.passes += 1
        for name, endpoint in self.endpoints.items():
            if endpoint.pk not in self.claims:
                theirs = asdict(read_row(endpoint.pk)) | {"id": None, "created_at": None}
                assert asdict(self.desk.stage.row(name)) | {"id": None, "created_at": None} == theirs, name

    def make_pass(self, now: datetime) -> None:
        rules_pass(last_pass_at=now - PASS_EVERY, heuristics=True)


class ModelMirror(Mirror):
    """The same for passes of the model."""

    def __init__(self, world: World, clock: ShiftedClock, access: ModelAccess) -> None:
        super().__init__(world, clock)
        self.analyst = Analyst(worker="planner", access=access, concurrency=1)

    def make_pass(self, now: datetime) -> None:
        # The worker does this every minute.
        for minutes in range(5)[::-1]:
            end_the_ended(now - timedelta(minutes=minutes))
        self.analyst.run(Stop())


def of_entry(entry: Entry) -> tuple[Any, ...]:
    arguments = stored_arguments(entry.granted) if entry.verdict != "refused" else {}
    return entry.at, entry.endpoint, entry.speaker.value, entry.verdict.value, entry.tool, arguments, entry.until


def of_proposal(proposal: Proposal, names: dict[UUID, str]) -> tuple[Any, ...]:
    verdict = "applied" if proposal.applied_at is not None else proposal.status
    at, name = proposal.created_at, names[proposal.endpoint_id]
    return at, name, proposal.cause, verdict, proposal.tool, proposal.arguments, proposal.hint_expires_at


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, "auto") for name in ("cooldown", "flashsale", "oscillation", "pipeline", "ratelimit", "sibling")),
        ("cooldown", "shadow"),
        ("flashsale", "shadow"),
        ("ratelimit", "shadow"),
    ],
)
@pytest.mark.timeout(180)
def test_play_files_and_plans_what_the_real_parts_file_and_plan(name: str, mode: str) -> None:
    world = SCENARIOS[name]
    world = replace(world, members=tuple(replace(member, mode=mode) for member in world.members))
    with own_clock() as clock:
        mirror = Mirror(world, clock)
        played = play(world, RulesPlanner(), mirror, observe=mirror.started)
        filed = [of_proposal(each, mirror.names) for each in Proposal.objects.order_by("created_at", "id")]
    assert sorted(filed, key=str) == sorted((of_entry(entry) for entry in played.entries), key=str)
    # To wait as a server asks is the scheduler's work, and no planner has to say so.
    assert bool(filed) is (name != "ratelimit")
    assert mirror.passes > 15
    assert Endpoint.objects.count() == len(world.members)


def without_ids(question: dict[str, Any]) -> str:
    """What was said; the server makes up new ids of calls for each answer."""
    return re.sub(r"call_\d+", "call", json.dumps([question["messages"], question["tools"]]))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["flashsale", "ratelimit", "sibling"])
@pytest.mark.timeout(180)
def test_play_asks_the_model_when_and_what_the_real_pass_asks_it(name: str, model_server: ModelServer) -> None:
    world = SCENARIOS[name]
    model_server.decide(answering(POLICIES[name]))
    model, ask = asking(model_server)
    with everybodys_clock() as clock, model:
        planner = ModelPlanner(ask)
        mirror = ModelMirror(world, clock, ModelAccess("key", model_server.base_url, "scripted-1"))
        played = play(world, planner, mirror, observe=mirror.started)
        filed = [of_proposal(each, mirror.names) for each in Proposal.objects.order_by("created_at", "id")]
        stored = [
            (session.analyzed_at, mirror.names[session.endpoint_id], session.trigger, session.status)
            for session in AnalysisSession.objects.all()
        ]
    ours = [(each.at, each.endpoint, each.trigger.value, each.status.value) for each in planner.sessions]
    assert sorted(stored) == sorted(ours)
    assert sorted(filed, key=str) == sorted((of_entry(entry) for entry in played.entries), key=str)
    # Each question was asked twice, word by word: once for the play, once for the real planner.
    asked = Counter(without_ids(question) for question in model_server.asked)
    assert [question for question, count in asked.items() if count % 2] == []
