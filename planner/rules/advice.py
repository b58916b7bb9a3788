"""What rules and heuristics advise for one endpoint, given its latest runs and what is in force. Pure.

Advice is given when something is to be written: a hint that says the same and is not yet at half of its life is
left alone. A run that failed is unknown to a rule that looks at the body: it neither matches nor ends a hint. What
makes an endpoint flap is damped: a rule's hint is dropped only after two runs in a row that no rule matched, and one
that was eased `MOST_TURNS` times within an hour stays until its time to live ends. The other way about, a heuristic
that had to take back its slower pace as often, or whose hint somebody of higher rank cleared, does not slow down again
within the hour.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from uuid import UUID

from jobs.conditions import Observation
from jobs.rules import Clear, Pause, Rule, RuleVerdict, SetInterval, is_unknown, verdicts
from planner.proposals.judgement import InForce, may_clear, says_the_same
from planner.proposals.wishes import MAX_REASON, ClearHints, PauseUntil, ProposeInterval, ProposeNextTime, Speaker, Wish
from planner.rules.heuristics import slow_down

SLOW_TTL = timedelta(hours=1)
DAY_MINUTES = 1_440
MOST_TURNS = 3
# A pass compares with the runs that came since the last one, and with the one before those; with no more than so many.
MOST_UNSEEN = 5
TURNS_WITHIN = timedelta(hours=1)
_NOT_OVER = ", and that is not over yet"


@dataclass(frozen=True, slots=True)
class SeenRun:
    """A finished run."""

    finished_at: datetime
    observation: Observation


@dataclass(frozen=True, slots=True)
class Watched:
    """An endpoint with new runs, as the rules pass sees it; runs are newest first, at least one.

    `next_run_at` is the stored plan, in which a pause counts. `turns` counts for each speaker how often within
    `TURNS_WITHIN` its interval hint was dropped by its own word or replaced by a slower one; `overruled` tells
    that a heuristic's was cleared by somebody of higher rank within that time. `unseen` is how many of the latest runs
    no pass has looked at, at most `MOST_UNSEEN`.
    """

    endpoint_id: UUID
    interval_ms: int | None
    max_interval_ms: int | None
    next_run_at: datetime | None
    rules: tuple[Rule, ...]
    interval_hint: InForce | None
    oneshot_hint: InForce | None
    pause: InForce | None
    runs: Sequence[SeenRun]
    turns: Mapping[Speaker, int] = field(default_factory=dict)
    overruled: bool = False
    unseen: int = 1

    def set_by(self, speaker: Speaker) -> InForce | None:
        """The interval hint in force, where it is this speaker's."""
        hint = self.interval_hint
        return hint if hint is not None and hint.speaker is speaker else None

    def flaps(self, speaker: Speaker) -> bool:
        """Whether the speaker turned about so often that it must not again for now."""
        return self.turns.get(speaker, 0) >= MOST_TURNS


@dataclass(frozen=True, slots=True)
class Advice:
    """A wish with its speaker; `key` names the rule.

    `own_only` drops hints of this very speaker and leaves those of others. For a sibling `new_match` tells that the
    rule did not match all the time since the last run that was looked at; else it is asked for again only when
    `again_after` has passed.
    """

    speaker: Speaker
    wish: Wish
    key: str | None = None
    own_only: bool = False
    new_match: bool = True
    again_after: timedelta = timedelta(0)

    def asked_already(self, last_at: datetime | None, run_at: datetime, now: datetime) -> bool:
        """Whether a sibling was asked for this very run, or, while the rule keeps matching, not long ago.

        `last_at` is when this rule asked it last, None is never; `run_at` is the end of the latest run.
        """
        if last_at is None:
            return False
        return last_at >= run_at or (not self.new_match and last_at > now - self.again_after)


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
    runs = [run.observation for run in watched.runs]
    hint = watched.set_by(Speaker.RULE)
    in_force = hint.key if hint is not None else None
    found = verdicts(watched.rules, runs, in_force=in_force)
    earlier = [verdicts(watched.rules, runs[back:], in_force=in_force) for back in range(1, max(watched.unseen, 1) + 1)]
    before = earlier[0]
    advice = list(_by_rules(watched, found, earlier, now))
    if heuristics and "interval" not in found and "interval" not in before:
        advice += _pace(watched, now)
    return advice


def _by_rules(
    watched: Watched, found: dict[str, RuleVerdict], earlier: Sequence[dict[str, RuleVerdict]], now: datetime
) -> Iterable[Advice]:
    runs = [run.observation for run in watched.runs]
    for kind, verdict in found.items():
        key, reason = verdict.rule.key, (verdict.reason or _not_over(watched))[:MAX_REASON]
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
            case _ as run:
                wake = ProposeNextTime(
                    next_run_at=now, ttl_minutes=run.ttl_minutes, reason=reason, endpoint=run.sibling
                )
                again_after = timedelta(minutes=run.ttl_minutes)
                new_match = any(
                    kind not in before and not is_unknown(watched.rules, key, runs[back:])
                    for back, before in enumerate(earlier, start=1)
                )
                yield Advice(Speaker.RULE, wake, key, new_match=new_match, again_after=again_after)
    yield from _silence(watched, found, earlier[0])


def _silence(watched: Watched, found: dict[str, RuleVerdict], before: dict[str, RuleVerdict]) -> Iterable[Advice]:
    """Drops a rule's hint that no rule asks for any more."""
    hint = watched.set_by(Speaker.RULE)
    if hint is None or "interval" in found or not _may_turn_to(watched, None):
        return
    runs = [run.observation for run in watched.runs]
    if any(rule.key == hint.key and rule.until is not None for rule in watched.rules):
        yield Advice(Speaker.RULE, ClearHints(reason=f"the until of {hint.key} holds"[:MAX_REASON]), hint.key, True)
    elif any(is_unknown(watched.rules, hint.key, runs[back:]) for back in (0, 1)):
        return
    elif "interval" not in before and len(watched.runs) > 1:
        yield Advice(Speaker.RULE, ClearHints(reason="no rule matched the last 2 runs"), hint.key, own_only=True)


def _not_over(watched: Watched) -> str:
    """The reason of a rule that lasts until its other condition holds: why it began."""
    began = watched.interval_hint.asked.get("reason", "") if watched.interval_hint is not None else ""
    return f"{str(began).removesuffix(_NOT_OVER)[: MAX_REASON - len(_NOT_OVER)]}{_NOT_OVER}"


def _may_turn_to(watched: Watched, wish: ProposeInterval | None) -> bool:
    """Whether the rules may replace their own hint by this, None being no hint: at any time by something faster."""
    hint = watched.set_by(Speaker.RULE)
    if hint is None or not watched.flaps(Speaker.RULE):
        return True
    return wish is not None and wish.interval_ms <= hint.asked.get("interval_ms", 0)


def _would_rest_longer(watched: Watched, until: datetime) -> bool:
    """Whether a rule's pause would defer the next run, and replaces none but a shorter one of lower rank."""
    pause = watched.pause
    if pause is not None and not (Speaker.RULE.outranks(pause.speaker) and pause.expires_at < until):
        return False
    return watched.next_run_at is not None and watched.next_run_at < until


def _pace(watched: Watched, now: datetime) -> Iterable[Advice]:
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
    if hint is None and (watched.overruled or watched.flaps(Speaker.HEURISTIC)):
        return
    ttl = max(SLOW_TTL, timedelta(milliseconds=slower.interval_ms * 4)) // timedelta(minutes=1)
    wish = ProposeInterval(interval_ms=slower.interval_ms, ttl_minutes=min(ttl, DAY_MINUTES), reason=slower.reason)
    if not says_the_same(hint, Speaker.HEURISTIC, "unchanged", wish, now):
        yield Advice(Speaker.HEURISTIC, wish, "unchanged")
