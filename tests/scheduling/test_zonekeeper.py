"""The thread that keeps plans by the current zone rules outlives every fault."""

import logging

import pytest
from django.db import OperationalError

from cronicorn.runtime.stopping import Stop
from jobs.zonerules import Search
from scheduling.worker import zonekeeper


def test_fault_of_the_database_or_our_own_is_logged_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Exception | Search] = [
        OperationalError("away"),
        RuntimeError("ours"),
        Search.UNDER_WAY,
        Search.ELSEWHERE,
        Search.DONE,
    ]
    stop, waited = Stop(), list[float]()

    def search_batch() -> Search:
        answer = answers.pop(0)
        if not answers:
            stop.request()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return False

    monkeypatch.setattr(zonekeeper, "search_batch", search_batch)
    monkeypatch.setattr(stop, "wait", wait)
    with caplog.at_level(logging.WARNING):
        zonekeeper.keep_zone_rules(stop)
    assert waited == [30.0, 30.0, 0.1, 5.0, 300.0]
    assert [record.getMessage() for record in caplog.records] == ["zone_rules_failed", "zone_rules_failed"]
