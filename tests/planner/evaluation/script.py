"""A scripted model: small policies that read the figures from the briefing they are sent and answer with tool calls."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from planner.analyst.conversation import Answer, Ask
from planner.analyst.llm import Model, ModelAccess
from tests.support.http_target import Reply
from tests.support.model_server import ModelServer, call, completion, submit

LOOK_AGAIN_MS = 300_000
Calls = list[dict[str, Any]]


@dataclass(frozen=True)
class Facts:
    """What a person would read off the briefing; `told` are the results of the tools that were used since."""

    text: str
    told: list[str]

    @classmethod
    def of(cls, request: dict[str, Any]) -> "Facts":
        text = next(message["content"] for message in request["messages"] if message["role"] == "user")
        return cls(text, [message["content"] for message in request["messages"] if message["role"] == "tool"])

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self._found(r"^Now (\S+Z)\."))

    @property
    def name(self) -> str:
        return str(json.loads(self._found(r'^Endpoint ("[^"]*")')))

    @property
    def failures(self) -> int:
        return int(self._found(r"^Failures in a row: (\d+)"))

    @property
    def hinted(self) -> bool:
        return "every " in self._found(r"^In force: (.*)$")

    @property
    def body(self) -> dict[str, Any]:
        found = re.search(r'^Latest body \(untrusted\): (".*")', self.text, re.MULTILINE)
        document = json.loads(json.loads(found[1])) if found else {}
        assert isinstance(document, dict)
        return document

    @property
    def latest_run(self) -> tuple[datetime, str]:
        """When the latest run was due, and its HTTP status."""
        found = re.search(r"^Last runs, newest first:\n(\S+Z) \w+ (\S+)", self.text, re.MULTILINE)
        assert found
        return datetime.fromisoformat(found[1]), found[2]

    def success_of_the_last_hour(self) -> tuple[int, int]:
        """How many runs there were, and how many in a hundred succeeded."""
        found = re.search(r"^1 h: (\d+), (\d+) %", self.text, re.MULTILINE)
        return (int(found[1]), int(found[2])) if found else (0, 100)

    def sibling_ran_at(self, sibling: str) -> datetime | None:
        """When it ran last, as the tool told."""
        for entry in json.loads(self.told[-1])["siblings"]:
            if json.loads(entry["name"]) == sibling and "at" in entry:
                return datetime.fromisoformat(entry["at"])
        return None

    def _found(self, pattern: str) -> str:
        found = re.search(pattern, self.text, re.MULTILINE)
        assert found, f"{pattern} is not in the briefing:\n{self.text}"
        return found[1]


Policy = Callable[[Facts], Calls]


def interval(milliseconds: int, ttl_minutes: int = 60, reason: str = "above its threshold") -> dict[str, Any]:
    return call("propose_interval", {"interval_ms": milliseconds, "ttl_minutes": ttl_minutes, "reason": reason})


def run(sibling: str, facts: Facts, ttl_minutes: int = 5) -> dict[str, Any]:
    at = facts.now.isoformat()
    arguments = {"next_run_at": at, "ttl_minutes": ttl_minutes, "reason": "it is time", "endpoint": sibling}
    return call("propose_next_time", arguments)


def while_out_of_range(wanted: bool, over: bool, facts: Facts, proposal: dict[str, Any]) -> Calls:
    """The proposal while it is wanted, and, once in force, until it is over; then back to the baseline."""
    if wanted or (facts.hinted and not over):
        return [proposal]
    return [call("clear_hints", {"reason": "back in its range"})] if facts.hinted else []


def rises(path: str, high: float, low: float, interval_ms: int, ttl_minutes: int = 60) -> Policy:
    def policy(facts: Facts) -> Calls:
        value = facts.body[path]
        return while_out_of_range(value > high, value < low, facts, interval(interval_ms, ttl_minutes))

    return policy


def nothing(facts: Facts) -> Calls:
    return []


def checkout_that_fails_now_and_then(facts: Facts) -> Calls:
    """Of the hour's share of successes it thinks the worst, and then looks at the last ten runs."""
    runs, percent = facts.success_of_the_last_hour()
    if not facts.hinted and (runs < 4 or percent >= 95):
        return []
    if not facts.told:
        return [call("get_response_history", {"limit": 10})]
    failed = sum(entry["status"] == "failed" for entry in json.loads(facts.told[-1])["runs"])
    return while_out_of_range(failed > 0, failed == 0, facts, interval(60_000))


def health_with_recovery(facts: Facts) -> Calls:
    if facts.failures < 3:
        return while_out_of_range(facts.failures > 0, facts.failures == 0, facts, interval(60_000, 30))
    if not facts.told:
        return [call("get_sibling_latest_responses", {})]
    ran_at = facts.sibling_ran_at("recovery")
    recently = ran_at is not None and facts.now - ran_at < timedelta(minutes=30)
    return [interval(60_000, 30)] if recently else [interval(60_000, 30), run("recovery", facts)]


def step_before(step: str) -> Policy:
    """Runs the next step once this one is done, unless that has run since this one's own run."""

    def policy(facts: Facts) -> Calls:
        if facts.body.get("state") != "done":
            return []
        if not facts.told:
            return [call("get_sibling_latest_responses", {"include_responses": True})]
        done = [json.loads(json.loads(entry["untrusted_body"])) for entry in _with_bodies(facts, step)]
        return [] if done and done[0]["batch"] >= facts.body["batch"] else [run(step, facts)]

    return policy


def _with_bodies(facts: Facts, step: str) -> list[dict[str, Any]]:
    siblings = json.loads(facts.told[-1])["siblings"]
    return [entry for entry in siblings if json.loads(entry["name"]) == step and "untrusted_body" in entry]


def memory_with_restart(facts: Facts) -> Calls:
    """Asks for a restart whenever memory is high: the cooldown is the guardrails' business."""
    return [run("restart", facts)] if facts.body["memory_pct"] > 90 else []


def load_the_other_way_round(facts: Facts) -> Calls:
    percent = facts.body["load_pct"]
    if percent > 80 or percent < 20:
        return [interval(900_000 if percent > 80 else 60_000, 120)]
    return [call("clear_hints", {"reason": "the usual load"})] if facts.hinted and 40 < percent < 70 else []


def quota(facts: Facts) -> Calls:
    at, status = facts.latest_run
    if status != "429":
        return []
    until = at + timedelta(seconds=facts.body["retry_after_s"])
    return [call("pause_until", {"until": until.isoformat(), "reason": "rate limited"})] if until > facts.now else []


def slow_pages(facts: Facts) -> Calls:
    calls = rises("p95_ms", 2_000, 1_000, 60_000, 20)(facts)
    return with_siblings(calls, facts, ("scale-out", "slow-queries")) if facts.body["p95_ms"] > 2_000 else calls


def broken_checkout(facts: Facts) -> Calls:
    calls = while_out_of_range(facts.failures > 0, facts.failures == 0, facts, interval(60_000, 15))
    return with_siblings(calls, facts, ("restart-checkout", "page-oncall")) if facts.failures >= 2 else calls


def with_siblings(calls: Calls, facts: Facts, names: tuple[str, ...]) -> Calls:
    """The calls, and a run of each sibling that never ran."""
    if not facts.told:
        return [call("get_sibling_latest_responses", {})]
    return [*calls, *(run(name, facts) for name in names if facts.sibling_ran_at(name) is None)]


def stock(facts: Facts) -> Calls:
    return [interval(60_000, 20)] if facts.body["in_stock"] < 2_000 else []


POLICIES: dict[str, dict[str, Policy]] = {
    "degradation": {"shop": rises("error_rate_pct", 5, 2, 60_000), "checkout": checkout_that_fails_now_and_then},
    "volume": {"import": rises("pending", 1_000, 100, 60_000)},
    "sibling": {"health": health_with_recovery},
    "pipeline": {"extract": step_before("transform"), "transform": step_before("load")},
    "cooldown": {"service": memory_with_restart},
    "inverse": {"batch": load_the_other_way_round},
    "oscillation": {"queue": rises("depth", 100, 80, 60_000, 30)},
    "ratelimit": {"quota": quota},
    "flashsale": {
        "traffic": rises("requests_per_min", 5_000, 2_000, 30_000, 20),
        "pages": slow_pages,
        "checkout": broken_checkout,
        "stock": stock,
    },
}


def answering(policies: dict[str, Policy]) -> Callable[[dict[str, Any]], Reply]:
    """Answers a request as the policy of its endpoint says; it submits unless a tool is to tell more first."""

    def choose(request: dict[str, Any]) -> Reply:
        facts = Facts.of(request)
        calls = policies.get(facts.name, nothing)(facts)
        asks = any(each["function"]["name"].startswith("get_") for each in calls)
        return completion(*calls) if asks else completion(*calls, submit(next_analysis_in_ms=LOOK_AGAIN_MS))

    return choose


def asking(server: ModelServer) -> tuple[Model, Ask]:
    """The real client of the server, to be closed, and how a planner asks it."""
    model = Model(ModelAccess(api_key="key", base_url=server.base_url, model="scripted-1"))

    def ask(said: list[dict[str, Any]], tools: list[dict[str, Any]], seconds: float) -> Answer:
        return model.ask(said, tools, seconds=seconds)

    return model, ask
