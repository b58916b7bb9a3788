"""The self-test routes, through the test client and, where several calls meet, through threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import include, path

from synthetic import views

urlpatterns = [path("api/synthetic/", include("synthetic.urls"))]
pytestmark = pytest.mark.urls(__name__)


def test_health_answers_without_login(client: Client) -> None:
    answer = client.get("/api/synthetic/health")

    assert (answer.status_code, answer.json().keys()) == (200, {"status", "timestamp"})
    assert answer.json()["status"] == "ok"
    assert abs(datetime.now(UTC) - datetime.fromisoformat(answer.json()["timestamp"])) < timedelta(minutes=1)
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("document", [b'{"a": [1, 2.5, null, "\\u00e9"]}', b"[]", b'"text"', b"0", b"null"])
def test_echo_gives_back_the_same_document(document: bytes) -> None:
    answer = Client(enforce_csrf_checks=True).post("/api/synthetic/echo", document, content_type="application/json")

    assert answer.status_code == 200
    assert answer.json() == {"received": views.json.loads(document)}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"{'a': 1}", b"NaN", b"\xff", b"[" * 16_000, b"1" * 5_000, b"[-1e400]", b'"\x00"'],
    ids=["empty", "cut", "quotes", "nan", "bytes", "deep", "digits", "infinity", "nul"],
)
def test_echo_refuses_what_is_not_json(client: Client, body: bytes) -> None:
    answer = client.post("/api/synthetic/echo", body, content_type="application/json")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "invalid_json"


@pytest.mark.parametrize("size", [views.ECHO_MAX_BYTES + 1, 2_000_000])
def test_echo_refuses_a_body_over_its_cap(client: Client, size: int) -> None:
    answer = client.post("/api/synthetic/echo", b'"' + b"x" * (size - 2) + b'"', content_type="application/json")

    assert answer.status_code == 413


def test_echo_takes_a_body_of_exactly_its_cap(client: Client) -> None:
    body = b'"' + b"x" * (views.ECHO_MAX_BYTES - 2) + b'"'

    assert client.post("/api/synthetic/echo", body, content_type="application/json").status_code == 200


@pytest.mark.parametrize(
    ("method", "route", "allowed"), [("get", "echo", "POST, OPTIONS"), ("post", "health", "GET, HEAD, OPTIONS")]
)
def test_wrong_method_is_a_json_405(client: Client, method: str, route: str, allowed: str) -> None:
    answer = getattr(client, method)(f"/api/synthetic/{route}")

    assert (answer.status_code, answer["Allow"]) == (405, allowed)
    assert answer.json()["errors"][0]["code"] == "method_not_allowed"


def test_flaky_fails_in_about_three_of_ten_calls(client: Client) -> None:
    codes = [client.get("/api/synthetic/flaky").status_code for _ in range(400)]

    assert set(codes) == {200, 500}
    assert 60 <= codes.count(500) <= 180  # 120 expected, 9.2 the standard deviation


def test_slow_answers_after_its_five_seconds(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(views, "_never", type("Waiting", (), {"wait": staticmethod(waits.append)}))

    answer = client.get("/api/synthetic/slow")

    assert answer.json() == {"status": "ok", "waitedMs": 5000}
    assert waits == [5.0]


def test_fifth_slow_call_at_once_is_turned_away_and_a_place_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    inside = threading.Semaphore(0)

    class Waiting:
        def wait(self, seconds: float) -> None:
            inside.release()
            assert release.wait(20)

    monkeypatch.setattr(views, "_never", Waiting())
    request: HttpRequest = RequestFactory().get("/api/synthetic/slow")
    view = views.SlowView.as_view()
    with ThreadPoolExecutor(views.SLOW_AT_ONCE) as pool:
        waiting = [pool.submit(view, request) for _ in range(views.SLOW_AT_ONCE)]
        for _ in waiting:
            assert inside.acquire(timeout=20)
        refused = view(request)
        release.set()
        answers = [future.result(timeout=20).status_code for future in waiting]

    assert (refused.status_code, refused["Retry-After"]) == (429, "5")
    assert answers == [200] * views.SLOW_AT_ONCE
    assert view(request).status_code == 200
