"""What rules and heuristics advise for one endpoint, given its latest runs and what is in force. Pure.

Advice is given when something is to be written: a hint that says the same and is not yet at half of its life is
left alone. A run that failed is unknown to a rule that looks at the body: it neither matches nor ends a hint. What
makes an endpoint flap is damped: a rule's hint is dropped only after two runs in a row that no rule
matched, and one of a rule whose hint was eased `MOST_TURNS` times within an hour stays until its time to live ends.
Where a rule ends and a weaker one still holds, by its own `until`, that one takes over at once. The other way
about, a heuristic that had to take back its slower pace as often, or whose hint
somebody of higher rank cleared, does not slow down again within the hour.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from uuid import UUID

from jobs.conditions import Observation
from jobs.rules import Clear, Pause, Rule, RuleVerdict, RunSibling, SetInterval, is_unknown, verdicts
from planner.proposals.authors import at_endpoint
from planner.proposals.judgement import InForce, may_clear, says_the_same
from planner.proposals.wishes import MAX_REASON, ClearHints, PauseUntil, ProposeInterval, ProposeNextTime, Speaker, Wish
from planner.rules.heuristics import slow_down
from planner.rules.memory import Memory, stepped

SLOW_TTL = timedelta(hours=1)
DAY_MINUTES = 1_440
MOST_TURNS = 3
# A pass compares with the runs that came since the last one, and with the one before those; with no more than so many.
MOST_UNSEEN = 5
TURNS_WITHIN = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class SeenRun:
    """A finished run."""

    finished_at: datetime
    observation: Observation


@dataclass(frozen=True, slots=True)
class Watched:
    """An endpoint with new runs, as the rules pass sees it; runs are newest first, at least one.

    `next_run_at` is the stored plan, in which a pause counts. `turns` counts for each speaker's each rule how often
    within `TURNS_WITHIN` its interval hint was dropped by its own word or replaced by a slower one; `overruled` tells
    that a heuristic's was cleared by somebody of higher rank within that time. `unseen` is how many of the latest runs
    no pass has looked at, at most `MOST_UNSEEN`. `memory` is what the pass before left.
    """

    endpoint_id: UUID
    name: str
    interval_ms: int | None
    max_interval_ms: int | None
    next_run_at: datetime | None
    rules: tuple[Rule, ...]
    interval_hint: InForce | None
    oneshot_hint: InForce | None
    pause: InForce | None
    runs: Sequence[SeenRun]
    turns: Mapping[tuple[Speaker, str | None], int] = field(default_factory=dict)
    overruled: bool = False
    unseen: int = 1
    memory: Memory | None = None

    def set_by(self, speaker: Speaker) -> InForce | None:
        """The interval hint in force, where it is this speaker's."""
        hint = self.interval_hint
        return hint if hint is not None and hint.speaker is speaker else None

    def flaps(self, speaker: Speaker, key: str | None) -> bool:
        """Whether the speaker's rule turned about so often that it must not again for now."""
        return self.turns.get((speaker, key), 0) >= MOST_TURNS

    @property
    def is_slowable(self) -> bool:
        """Whether the heuristic for what does not change may look at it."""
        return self.interval_ms is not None and self.max_interval_ms is not None

    def remembered(self) -> Memory:
        """What is remembered after these runs."""
        hint = self.set_by(Speaker.RULE)
        return stepped(
            self.memory,
            self.rules,
            self.runs,
            unseen=max(self.unseen, 1),
            rule_in_force=hint.key or "" if hint is not None else None,
            times_wanted=self.is_slowable,
        )


@dataclass(frozen=True, slots=True)
class Advice:
    """A wish with its speaker; `key` names the rule.

    `own_only` drops hints of this very speaker and leaves those of others. For a sibling `since` is when the rule began
    to match, None where that is not known; `again_after` None asks once for as long as it goes on matching.
    """

    speaker: Speaker
    wish: Wish
    key: str | None = None
    own_only: bool = False
    since: datetime | None = None
    again_after: timedelta | None = None

    def asked_already(self, last_at: datetime | None, now: datetime) -> bool:
        """Whether a sibling was asked since the rule began to match, and is not to be asked again yet.

        `last_at` is when a rule asked it last and was heard, None is never; of what is not known since when, only this
        very rule counts.
        """
        if last_at is None or (self.since is not None and last_at < self.since):
            return False
        return self.again_after is None or last_at > now - self.again_after


def unseen_of(runs: Sequence[SeenRun], through: datetime | None) -> int:
    """How many of the latest runs, newest first, ended after the last one that a pass looked at; None is never."""
    if through is None:
        return min(1, len(runs))
    fresh = takewhile(lambda run: run.finished_at > through, runs[:MOST_UNSEEN])
    return sum(1 for _ in fresh)


def why_deaf(sibling: str, *, known: bool, is_off: bool) -> str | None:
    """Why a sibling that a rule names cannot be asked, as one sentence that its owner will read; None where it can."""
    if not known:
        return f'This job has no other endpoint called "{sibling}".'
    return f'The planner is off for "{sibling}".' if is_off else None


def advise(watched: Watched, now: datetime, *, heuristics: bool) -> list[Advice]:
    """What the owner's rules say, and where they are silent, the heuristics."""
    runs, memory = [run.observation for run in watched.runs], watched.remembered()
    lasting = memory.holding.keys()
    found = verdicts(watched.rules, runs, lasting=lasting)
    before = verdicts(watched.rules, runs[1:], lasting=lasting)
    advice = [*_by_rules(watched, found, before, now), *_wakes(watched, memory, now)]
    if heuristics and "interval" not in found and "interval" not in before:
        advice += _pace(watched, memory, now)
    return advice


def _by_rules(
    watched: Watched, found: dict[str, RuleVerdict], before: dict[str, RuleVerdict], now: datetime
) -> Iterable[Advice]:
    for verdict in found.values():
        key, reason = verdict.rule.key, (verdict.reason or _not_over(watched, verdict.rule))[:MAX_REASON]
        match verdict.rule.then:
            case SetInterval(interval_ms=interval_ms, ttl_minutes=ttl):
                wish = ProposeInterval(interval_ms=interval_ms, ttl_minutes=ttl, reason=reason)
                if _may_turn_to(watched, wish) and not says_the_same(
                    watched.interval_hint, Speaker.RULE, key, wish, now
                ):
                    yield Advice(Speaker.RULE, wish, key)
            case Clear():
                hints = (watched.interval_hint, watched.oneshot_hint)
                if _may_turn_to(watched, None) and any(may_clear(hint, Speaker.RULE, False) for hint in hints):
                    yield Advice(Speaker.RULE, ClearHints(reason=reason), key)
            case Pause(minutes=minutes):
                until = now + timedelta(minutes=minutes)
                if _would_rest_longer(watched, until):
                    yield Advice(Speaker.RULE, PauseUntil(until=until, reason=reason), key)
            case _:
                continue
    yield from _silence(watched, found, before)


def _wakes(watched: Watched, memory: Memory, now: datetime) -> Iterable[Advice]:
    """The siblings that rules want to run: each rule speaks for itself, for as long as it matches."""
    runs = [run.observation for run in watched.runs]
    for rule in watched.rules:
        action, standing = rule.then, memory.holding.get(rule.key)
        if not isinstance(action, RunSibling) or standing is None:
            continue
        words = rule.when.because(runs)
        if words is not None:
            reason = at_endpoint(words, watched.name, MAX_REASON)
            every = timedelta(minutes=action.every_minutes) if action.every_minutes is not None else None
            wake = ProposeNextTime(
                next_run_at=now, ttl_minutes=action.ttl_minutes, reason=reason, endpoint=action.sibling
            )
            yield Advice(Speaker.RULE, wake, rule.key, since=standing.since, again_after=every)


def _silence(watched: Watched, found: dict[str, RuleVerdict], before: dict[str, RuleVerdict]) -> Iterable[Advice]:
    """Drops a rule's hint that no rule asks for any more."""
    hint = watched.set_by(Speaker.RULE)
    if hint is None or "interval" in found or not _may_turn_to(watched, None):
        return
    runs = [run.observation for run in watched.runs]
    if any(rule.key == hint.key and rule.until is not None for rule in watched.rules):
        yield Advice(Speaker.RULE, ClearHints(reason=_over(watched, hint.key)), hint.key, own_only=True)
    elif any(is_unknown(watched.rules, hint.key, runs[back:]) for back in (0, 1)):
        return
    elif "interval" not in before and len(watched.runs) > 1:
        yield Advice(Speaker.RULE, ClearHints(reason="no rule matched the last 2 runs"), hint.key, own_only=True)


def _over(watched: Watched, key: str | None) -> str:
    """Why a rule with `until` ended, with the figures."""
    runs = [run.observation for run in watched.runs]
    words = next(rule.until.because(runs) for rule in watched.rules if rule.key == key and rule.until is not None)
    return f'the until of "{key}" holds: {words or "it was ended by an earlier run"}'[:MAX_REASON]


def _not_over(watched: Watched, rule: Rule) -> str:
    """The reason of a rule that lasts until its other condition holds, with the figures of that one."""
    runs = [run.observation for run in watched.runs]
    figures = rule.until.figures(runs) if rule.until is not None else ""
    return f'the until of "{rule.key}" does not hold yet: {figures}'


def _may_turn_to(watched: Watched, wish: ProposeInterval | None) -> bool:
    """Whether the rules may replace their own hint by this, None being no hint: at any time by something faster."""
    hint = watched.set_by(Speaker.RULE)
    if hint is None or not watched.flaps(Speaker.RULE, hint.key):
        return True
    return wish is not None and wish.interval_ms <= hint.asked.get("interval_ms", 0)


def _would_rest_longer(watched: Watched, until: datetime) -> bool:
    """Whether a rule's pause would defer the next run, and replaces none but a shorter one of lower rank."""
    pause = watched.pause
    if pause is not None and not (Speaker.RULE.outranks(pause.speaker) and pause.expires_at < until):
        return False
    return watched.next_run_at is not None and watched.next_run_at < until


def _pace(watched: Watched, memory: Memory, now: datetime) -> Iterable[Advice]:
    hint = watched.interval_hint
    if hint is not None and hint.speaker is not Speaker.HEURISTIC:
        return
    digests = [None if run.observation.failed else run.observation.digest for run in watched.runs]
    slower = slow_down(digests, watched.interval_ms, watched.max_interval_ms)
    if slower is None:
        if hint is not None:
            reason = "the last call failed" if digests[0] is None else "the response changed"
            yield Advice(Speaker.HEURISTIC, ClearHints(reason=reason), hint.key, own_only=True)
        return
    if hint is None and (watched.overruled or watched.flaps(Speaker.HEURISTIC, "unchanged")):
        return
    quiet_until = memory.times.quiet_until(now) if memory.times is not None else None
    if quiet_until is None:
        return
    slower_for = timedelta(milliseconds=slower.interval_ms)
    ttl = min(max(SLOW_TTL, slower_for * 4), quiet_until - now) // timedelta(minutes=1)
    if timedelta(minutes=ttl) < slower_for * 2:
        return
    wish = ProposeInterval(interval_ms=slower.interval_ms, ttl_minutes=min(ttl, DAY_MINUTES), reason=slower.reason)
    if not says_the_same(hint, Speaker.HEURISTIC, "unchanged", wish, now):
        yield Advice(Speaker.HEURISTIC, wish, "unchanged")
