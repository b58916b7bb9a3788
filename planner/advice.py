"""What rules and heuristics advise for one endpoint, given its latest runs and what is in force. Pure.

Advice is given when something is to be written: a hint that says the same and is not yet at half of its life is
left alone, and a rule's hint is dropped only after two runs in a row that its rules did not match.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from jobs.conditions import Observation
from jobs.rules import Clear, Pause, Rule, RuleVerdict, RunSibling, SetInterval, verdicts
from planner.heuristics import slow_down, wait_as_asked
from planner.judgement import InForce, says_the_same
from planner.proposals import ClearHints, PauseUntil, ProposeInterval, ProposeNextTime, Speaker, Wish

SLOW_TTL = timedelta(hours=1)
DAY_MINUTES = 1_440


@dataclass(frozen=True, slots=True)
class SeenRun:
    """A finished run; `retry_after` is the header as it came, None where there was none."""

    finished_at: datetime
    observation: Observation
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Watched:
    """An endpoint with new runs, as the rules pass sees it; runs are newest first, at least one."""

    endpoint_id: UUID
    interval_ms: int | None
    max_interval_ms: int | None
    next_run_at: datetime | None
    rules: tuple[Rule, ...]
    interval_hint: InForce | None
    oneshot_hint: InForce | None
    pause: InForce | None
    runs: Sequence[SeenRun]


@dataclass(frozen=True, slots=True)
class Advice:
    """A wish with its speaker; `key` names the rule.

    `own_only` drops hints of this very speaker and leaves those of others. For a sibling `new_match` tells that the
    rule did not match the run before; else it is asked for again only when `again_after` has passed.
    """

    speaker: Speaker
    wish: Wish
    key: str | None = None
    own_only: bool = False
    new_match: bool = True
    again_after: timedelta = timedelta(0)


def advise(watched: Watched, now: datetime, *, heuristics: bool) -> list[Advice]:
    """What the owner's rules say, and where they are silent, the heuristics."""
    runs = [run.observation for run in watched.runs]
    found = verdicts(watched.rules, runs)
    before = verdicts(watched.rules, runs[1:])
    advice = list(_by_rules(watched, found, before, now))
    if heuristics:
        if "pause" not in found:
            advice += _rest(watched, now)
        if "interval" not in found and "interval" not in before:
            advice += _pace(watched, now)
    return advice


def _by_rules(
    watched: Watched, found: dict[str, RuleVerdict], before: dict[str, RuleVerdict], now: datetime
) -> Iterable[Advice]:
    for kind, verdict in found.items():
        key, reason = verdict.rule.key, verdict.reason
        match verdict.rule.then:
            case SetInterval(interval_ms=interval_ms, ttl_minutes=ttl):
                wish = ProposeInterval(interval_ms=interval_ms, ttl_minutes=ttl, reason=reason)
                if not says_the_same(watched.interval_hint, Speaker.RULE, key, wish, now):
                    yield Advice(Speaker.RULE, wish, key)
            case Clear():
                hints = (watched.interval_hint, watched.oneshot_hint)
                if any(hint is not None and not hint.speaker.outranks(Speaker.RULE) for hint in hints):
                    yield Advice(Speaker.RULE, ClearHints(reason=reason), key)
            case Pause(minutes=minutes):
                until = now + timedelta(minutes=minutes)
                if _would_rest_longer(watched, until):
                    yield Advice(Speaker.RULE, PauseUntil(until=until, reason=reason), key)
            case RunSibling(sibling=sibling, ttl_minutes=ttl):
                yield Advice(
                    Speaker.RULE,
                    ProposeNextTime(next_run_at=now, ttl_minutes=ttl, reason=reason, endpoint=sibling),
                    key,
                    new_match=kind not in before,
                    again_after=timedelta(minutes=ttl),
                )
    hint = watched.interval_hint
    silent = "interval" not in found and "interval" not in before and len(watched.runs) > 1
    if silent and hint is not None and hint.speaker is Speaker.RULE:
        wanted = ClearHints(reason="no rule matched the last 2 runs")
        yield Advice(Speaker.RULE, wanted, hint.key, own_only=True)


def _rest(watched: Watched, now: datetime) -> Iterable[Advice]:
    latest = watched.runs[0]
    rest = wait_as_asked(latest.observation.status_code, latest.retry_after, latest.finished_at)
    if rest is not None and rest.until > now and _would_rest_longer(watched, rest.until):
        yield Advice(Speaker.HEURISTIC, PauseUntil(until=rest.until, reason=rest.reason), "retry_after")


def _would_rest_longer(watched: Watched, until: datetime) -> bool:
    """Whether a pause would defer the next run: one that ends sooner would start it at its end, before its time."""
    return watched.pause is None and watched.next_run_at is not None and watched.next_run_at < until


def _pace(watched: Watched, now: datetime) -> Iterable[Advice]:
    hint = watched.interval_hint
    if hint is not None and hint.speaker is not Speaker.HEURISTIC:
        return
    digests = [None if run.observation.failed else run.observation.digest for run in watched.runs]
    slower = slow_down(digests, watched.interval_ms, watched.max_interval_ms)
    if slower is None:
        if hint is not None:
            yield Advice(Speaker.HEURISTIC, ClearHints(reason="the response changed"), hint.key, own_only=True)
        return
    ttl = max(SLOW_TTL, timedelta(milliseconds=slower.interval_ms * 4)) // timedelta(minutes=1)
    wish = ProposeInterval(interval_ms=slower.interval_ms, ttl_minutes=min(ttl, DAY_MINUTES), reason=slower.reason)
    if not says_the_same(hint, Speaker.HEURISTIC, "unchanged", wish, now):
        yield Advice(Speaker.HEURISTIC, wish, "unchanged")
