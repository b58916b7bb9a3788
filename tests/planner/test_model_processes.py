"""Real planner processes and the model on the wire: kills, leases, and a model that is dead for a day."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import F
from django.test import Client

import planner.analyst.breaker
import planner.analyst.conversation
from cronicorn.runtime.clock import monotonic_ns
from cronicorn.runtime.stopping import Stop
from jobs import services
from jobs.models import Endpoint
from planner.analyst.llm import ModelAccess
from planner.analyst.modelpass import Analyst
from planner.models import AnalysisSession, Proposal
from planner.proposals.verdicts import end_the_ended
from tests.planner.scenes import busy_endpoint, ran, utc_now
from tests.support.factories import make_user
from tests.support.http_target import Answer, Received, Wire
from tests.support.model_server import ModelServer, call, completion, failure, held, submit
from tests.support.processes import Command, eventually

pytestmark = pytest.mark.django_db(transaction=True)

FASTER = {"interval_ms": 30_000, "reason": "queue_depth is 412"}
HOLD = 4_711


def process(server: ModelServer, model: str = "scripted-1") -> Command:
    """A planner process that looks for work every second."""
    command = Command(
        "run_ai_planner",
        OPENAI_API_KEY="sk-test",
        OPENAI_BASE_URL=server.base_url,
        AI_MODEL=model,
        AI_ANALYSIS_INTERVAL_MS="1000",
        PLANNER_BACKEND="openai",
    )
    command.wait_for_line("worker_started")
    return command


def analyst(server: ModelServer, name: str = "planner-2", concurrency: int = 4) -> Analyst:
    return Analyst(worker=name, access=ModelAccess("sk-test", server.base_url, "scripted-1"), concurrency=concurrency)


def later(by: timedelta) -> None:
    """Moves what is stored into the past, as if so much time had gone by."""
    AnalysisSession.objects.update(analyzed_at=F("analyzed_at") - by, next_analysis_at=F("next_analysis_at") - by)
    Endpoint.objects.update(
        **{
            column: F(column) - by
            for column in (
                "next_analysis_at",
                "analysis_lease_until",
                "last_run_at",
                "last_started_at",
                "last_slot_at",
                "ai_hint_interval_expires_at",
                "next_run_at",
                "next_slot_at",
                "anchor_at",
            )
        }
    )
    Proposal.objects.update(hint_expires_at=F("hint_expires_at") - by, applied_at=F("applied_at") - by)


@pytest.mark.processes
def test_a_planner_killed_between_two_rounds_leaves_hint_proposal_and_session(model_server: ModelServer) -> None:
    endpoint = busy_endpoint(rules=[])
    gate = threading.Event()
    first = completion(call("propose_interval", FASTER), call("get_latest_response", {}))
    model_server.script(first, held(gate, submit()), completion(submit()))
    with process(model_server) as killed:
        model_server.wait_for(2)
        killed.send(signal.SIGKILL)
        killed.wait(10)
    gate.set()
    endpoint.refresh_from_db()
    session, proposal = AnalysisSession.objects.get(), Proposal.objects.get()
    assert (session.status, session.error_kind, session.prompt_tokens) == ("failed", "interrupted", 900)
    assert [noted["name"] for noted in session.tool_calls] == ["propose_interval", "get_latest_response"]
    assert (proposal.status, proposal.session_id) == ("applied", session.pk)
    assert (endpoint.ai_hint_interval_ms, endpoint.ai_hint_interval_proposal_id) == (30_000, proposal.pk)
    assert endpoint.analysis_lease_until > utc_now()
    assert analyst(model_server).run(Stop()) == 0
    later(timedelta(minutes=11))
    ran(endpoint, {"queue_depth": 400}, ago=0)
    assert analyst(model_server).run(Stop()) == 1
    assert AnalysisSession.objects.filter(status="completed").count() == 1


@contextmanager
def stuck(table: str, event: str) -> Iterator[None]:
    """Whoever writes so waits in the middle of the transaction for as long as this lasts."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS"
            f" 'BEGIN PERFORM pg_advisory_xact_lock_shared({HOLD}); RETURN NULL; END'"
        )
        cursor.execute(f"CREATE TRIGGER wait_here AFTER {event} ON {table} FOR EACH ROW EXECUTE FUNCTION wait_here()")
        cursor.execute("SELECT pg_advisory_lock(%s)", [HOLD])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [HOLD])
            cursor.execute(f"DROP TRIGGER wait_here ON {table}")
            cursor.execute("DROP FUNCTION wait_here")


def waiting() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted", [HOLD]
        )
        count: int = cursor.fetchone()[0]
    return count


@pytest.mark.processes
@pytest.mark.parametrize(
    ("table", "event"), [("proposals", "INSERT"), ("job_endpoints", "UPDATE OF ai_hint_interval_ms")]
)
def test_a_planner_killed_in_the_middle_of_a_proposal_leaves_neither(
    model_server: ModelServer, table: str, event: str
) -> None:
    endpoint = busy_endpoint(rules=[])
    model_server.script(completion(call("propose_interval", FASTER), submit()))
    with stuck(table, event), process(model_server) as killed:
        eventually(lambda: waiting() > 0)
        killed.send(signal.SIGKILL)
        killed.wait(10)
    endpoint.refresh_from_db()
    assert endpoint.ai_hint_interval_ms is None
    assert not Proposal.objects.exists()
    session = AnalysisSession.objects.get()
    assert (session.status, session.error_kind, session.prompt_tokens) == ("failed", "interrupted", 900)


class Overlaps:
    """Answers in two rounds after a while, and counts how many requests about one endpoint it has at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.models: Counter[str] = Counter()

    def __call__(self, request: dict[str, Any]) -> Answer:
        said = request["messages"]
        (name,) = (line.split('"')[1] for line in said[1]["content"].splitlines() if line.startswith('Endpoint "'))
        reply = completion(submit() if len(said) > 2 else call("get_latest_response", {}))

        def answer(received: Received, wire: Wire) -> None:
            with self._lock:
                self.models[request["model"]] += 1
                self._now[name] += 1
                self.most[name] = max(self.most[name], self._now[name])
            wire.pause(0.4)
            with self._lock:
                self._now[name] -= 1
            reply(received, wire)

        return answer


@pytest.mark.processes
def test_two_planners_never_analyse_one_endpoint_at_once(model_server: ModelServer) -> None:
    endpoints = [busy_endpoint(rules=[], name=f"endpoint {number}") for number in range(5)]
    overlaps = Overlaps()
    model_server.decide(overlaps)

    def both_have_done_much() -> bool:
        # Everything is due again at once, so that nothing but the lease keeps them apart.
        long_ago = utc_now() - timedelta(hours=1)
        AnalysisSession.objects.update(analyzed_at=long_ago, next_analysis_at=long_ago)
        Endpoint.objects.update(next_analysis_at=long_ago, last_run_at=utc_now())
        return len(overlaps.models) == 2 and min(overlaps.models.values()) >= 20

    with process(model_server, "scripted-1"), process(model_server, "scripted-2"):
        eventually(both_have_done_much, 40)
    assert set(overlaps.most) == {endpoint.name for endpoint in endpoints}
    assert set(overlaps.most.values()) == {1}


def test_fifty_analyses_a_minute_at_two_seconds_of_latency(model_server: ModelServer) -> None:
    for _ in range(25):
        busy_endpoint(rules=[])

    def slow(received: Received, wire: Wire) -> None:
        wire.pause(2.0)
        completion(submit())(received, wire)

    model_server.script(slow)
    began_ns = monotonic_ns()
    assert analyst(model_server, concurrency=settings.ENV.planner_concurrency).run(Stop()) == 25
    assert (monotonic_ns() - began_ns) / 1e9 < 15
    assert set(AnalysisSession.objects.values_list("status", flat=True)) == {"completed"}


def test_a_model_dead_for_a_day_leaves_baselines_and_is_told_since_when(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner.analyst.conversation, "RETRY_PAUSE", 0.001)
    monkeypatch.setattr(planner.analyst.breaker, "FAILING_SECONDS", 0.0)
    endpoint = busy_endpoint(rules=[])
    model_server.script(completion(call("propose_interval", FASTER), submit()))
    planner_1 = analyst(model_server)
    assert planner_1.run(Stop()) == 1
    endpoint.refresh_from_db()
    assert endpoint.next_source == "ai-interval"
    model_server.script(failure(500))
    for _ in range(24):
        later(timedelta(hours=1))
        ran(endpoint, {"queue_depth": 500}, ago=0)
        planner_1.run(Stop())
    end_the_ended(utc_now())
    assert AnalysisSession.objects.filter(status="failed", error_kind="server_error").count() == 24
    with services.changing(endpoint.pk):
        pass
    endpoint.refresh_from_db()
    assert endpoint.next_source == "baseline-interval"
    assert timedelta(minutes=50) < endpoint.next_run_at - endpoint.last_started_at <= timedelta(hours=1)
    assert Proposal.objects.get().status == "expired"
    first = AnalysisSession.objects.filter(status="failed").earliest("analyzed_at")
    assert utc_now() - first.analyzed_at > timedelta(hours=22)
    told = Client().get("/api/health").json()["model"]
    assert (told["state"], told["error"]) == ("failing", "server_error")
    assert abs(datetime.fromisoformat(told["failingSince"]) - first.analyzed_at) < timedelta(milliseconds=1)
    client = Client()
    client.force_login(make_user(), backend="django.contrib.auth.backends.ModelBackend")
    assert f"since {first.analyzed_at:%Y-%m-%d %H:%M:%S}" in client.get("/").content.decode()
