"""When the model is asked and when it is not: the breaker alone, in a pass, and between planners."""

from typing import Any

import pytest

import planner.analyst.breaker
import planner.analyst.conversation
from cronicorn.runtime.stopping import Stop
from jobs.heartbeats import beat
from jobs.models import WorkerKind
from planner.analyst.breaker import FAILING_SECONDS, FAILURES_IN_A_ROW, RATE_LIMIT_SECONDS, REFUSED_SECONDS, Breaker
from planner.analyst.conversation import ModelError
from planner.analyst.llm import ModelAccess
from planner.analyst.modelpass import Analyst
from planner.models import AnalysisSession
from tests.planner.scenes import busy_endpoint
from tests.support.model_server import ModelServer, completion, failure, submit

REFUSED = ModelError("unauthorized", "The service answered 401.", hopeless=True)
AWAY = ModelError("server_error", "The service answered 500.", passing=True)


class Clock:
    """A monotonic clock that moves when told to."""

    def __init__(self) -> None:
        self.ns = 10**12

    def __call__(self) -> int:
        return self.ns

    def move(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(planner.analyst.breaker, "monotonic_ns", clock)
    return clock


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (REFUSED, REFUSED_SECONDS),
        (ModelError("rate_limited", "429"), RATE_LIMIT_SECONDS),
        (ModelError("rate_limited", "429", retry_after=7.0), 7.0),
        (ModelError("server_error", "503", retry_after=90.0), 90.0),
    ],
)
def test_it_stays_open_for_as_long_as_the_error_says(clock: Clock, error: ModelError, seconds: float) -> None:
    breaker = Breaker()
    assert breaker.heed(error)
    clock.move(seconds - 0.1)
    assert breaker.why_open() == f"{error.kind}: {error}"
    assert breaker.published() == (f"{error.kind}: {error}", pytest.approx(0.1))
    clock.move(0.2)
    assert breaker.why_open() is None
    assert breaker.published() is None


def test_failures_in_a_row_open_it_and_a_good_answer_starts_the_count_anew(clock: Clock) -> None:
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW - 1):
        assert not breaker.heed(AWAY)
    breaker.heed(None)
    for _ in range(FAILURES_IN_A_ROW - 1):
        assert not breaker.heed(AWAY)
    assert breaker.heed(AWAY)
    clock.move(FAILING_SECONDS + 1)
    assert breaker.doubtful()
    assert breaker.heed(AWAY)
    clock.move(FAILING_SECONDS + 1)
    breaker.heed(None)
    assert not breaker.doubtful()
    assert not breaker.heed(AWAY)


def test_a_shorter_time_does_not_end_a_longer_one(clock: Clock) -> None:
    breaker = Breaker()
    breaker.heed(REFUSED)
    assert not breaker.heed(ModelError("rate_limited", "429", retry_after=1.0))
    clock.move(60)
    assert breaker.why_open() == "unauthorized: The service answered 401."


def test_the_word_of_another_opens_it_and_is_not_published_again(clock: Clock) -> None:
    breaker = Breaker()
    breaker.adopt("rate_limited: 429", 30.0)
    assert breaker.why_open() == "rate_limited: 429"
    assert breaker.published() is None
    clock.move(31)
    assert breaker.why_open() is None
    assert breaker.doubtful()


def analyst(server: ModelServer, name: str = "planner-1") -> Analyst:
    return Analyst(worker=name, access=ModelAccess("sk-test", server.base_url, "scripted-1"), concurrency=4)


def publish(name: str, facts: dict[str, Any]) -> None:
    beat(worker=name, kind=WorkerKind.PLANNER, facts=facts)


@pytest.mark.django_db(transaction=True)
def test_a_dead_model_is_asked_a_few_times_and_not_for_every_endpoint(
    model_server: ModelServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner.analyst.conversation, "RETRY_PAUSE", 0.001)
    for _ in range(20):
        busy_endpoint(rules=[])
    model_server.script(failure(500))
    planner_1 = analyst(model_server)
    assert FAILURES_IN_A_ROW <= planner_1.run(Stop()) <= FAILURES_IN_A_ROW + 3
    asked = len(model_server.asked)
    assert planner_1.run(Stop()) == 0
    clock.move(FAILING_SECONDS + 1)
    assert planner_1.run(Stop()) == 1
    assert len(model_server.asked) == asked + 2
    clock.move(FAILING_SECONDS + 1)
    model_server.script(completion(submit()))
    left = 20 - AnalysisSession.objects.count()
    assert planner_1.run(Stop()) == left
    assert planner_1.facts()["breaker"] is None


@pytest.mark.django_db(transaction=True)
def test_a_date_that_no_calendar_has_is_no_time_to_wait(model_server: ModelServer, clock: Clock) -> None:
    busy_endpoint(rules=[])
    absurd = "Thu, 01 Jan 99999999999999999999 00:00:00 GMT"
    model_server.script(failure(429, Retry_After=absurd, Date="Thu, 01 Jan 2026 00:00:00 GMT"))
    planner_1 = analyst(model_server)
    assert planner_1.run(Stop()) == 1
    assert AnalysisSession.objects.get().error_kind == "rate_limited"
    clock.move(RATE_LIMIT_SECONDS - 1)
    assert planner_1.facts()["breaker"] is not None
    clock.move(2)
    assert planner_1.facts()["breaker"] is None


@pytest.mark.django_db(transaction=True)
def test_another_planner_and_the_next_process_wait_as_well(model_server: ModelServer) -> None:
    busy_endpoint(rules=[])
    model_server.script(failure(429, Retry_After="60"))
    planner_1 = analyst(model_server)
    assert planner_1.run(Stop()) == 1
    publish("planner-1", planner_1.facts())
    busy_endpoint(rules=[])
    assert analyst(model_server, "planner-2").run(Stop()) == 0
    other_key = ModelAccess("sk-mended", model_server.base_url, "scripted-1")
    model_server.script(completion(submit()))
    assert Analyst(worker="planner-3", access=other_key, concurrency=4).run(Stop()) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"Retry-After": "7"}, 0, 7),
        ({"Retry-After": "999999"}, 500, 600),
        ({"Retry-After": "Mon, 05 Oct 2026 07:00:45 GMT", "Date": "Mon, 05 Oct 2026 07:00:00 GMT"}, 30, 45),
        ({"Retry-After": "Mon, 05 Oct 2026 07:00:45 GMT"}, 20, 30),
        ({"Retry-After": "-7"}, 20, 30),
        ({"Retry-After": "soon"}, 20, 30),
        ({}, 20, 30),
    ],
)
def test_the_time_that_a_service_asks_for_is_kept_and_bounded(
    model_server: ModelServer, headers: dict[str, str], low: float, high: float
) -> None:
    busy_endpoint(rules=[])
    model_server.script(failure(429, **{name.replace("-", "_"): value for name, value in headers.items()}))
    planner_1 = analyst(model_server)
    planner_1.run(Stop())
    assert low < planner_1.facts()["breaker_seconds"] <= high
