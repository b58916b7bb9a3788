"""Where virtual planners ask for changes: judged by the real judgement, carried out on virtual rows. Pure.

What `planner.proposals.filing` does with the database, this does with the rows of a simulation; deciding is `judge` in
both.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, NamedTuple

from planner.evaluation.history import History
from planner.evaluation.world import World
from planner.proposals.authors import at_endpoint, author_words, speaks_of_failures
from planner.proposals.judgement import InForce, Judged, Standing, Verdict, judge, may_clear
from planner.proposals.pace import usual_gap_ms
from planner.proposals.wishes import (
    ALLOWANCE_SPEAKERS,
    MAX_PAUSE_PER_WEEK,
    MAX_REASON,
    MINUTE_MS,
    WEEK,
    Bounded,
    Bounds,
    ClearHints,
    PauseUntil,
    ProposeInterval,
    ProposeNextTime,
    Speaker,
    Wish,
)
from planner.rules.advice import TURNS_WITHIN
from scheduling.plan.decision import Source
from scheduling.plan.governor import plan_next_run, planner_floor_ms
from scheduling.plan.row import PlanRow, facts_of
from scheduling.simulation import scenario as changes
from scheduling.simulation.engine import Stage
from scheduling.simulation.scenario import Change

# The word of `planner.proposals.filing` for a run that was dropped because its reason was gone.
WITHDRAWN = "withdrawn"
# What changes no schedule is noted once in so long a time.
REPEAT_AFTER = timedelta(hours=1)
_MILLISECOND = timedelta(milliseconds=1)
_UNHEARD = (Verdict.REFUSED, Verdict.HELD)


@dataclass(slots=True)
class Entry:
    """One wish, what was `granted` of it, and what became of it.

    It is in force until `until`, or until `ended_at` where something ended it before; `ended_by` is the word that
    proposals have for that. `replaced_ms` and `replaced_key` are interval and rule of the hint that it replaced,
    `renewals` how often its own was made to last longer; `overrules` tells that it cleared a heuristic's hint.
    `session` counts the analyses of the model from 1; None for a rule or a heuristic.
    """

    at: datetime
    endpoint: str
    speaker: Speaker
    key: str | None
    wish: Wish
    granted: Wish
    verdict: Verdict
    note: str
    until: datetime | None = None
    ended_at: datetime | None = None
    ended_by: str | None = None
    replaced_ms: int | None = None
    replaced_key: str | None = None
    session: int | None = None
    renewals: int = 0
    overrules: bool = False

    @property
    def tool(self) -> str:
        """What was asked for."""
        return self.wish.tool

    @property
    def values(self) -> dict[str, Any]:
        """What was granted, as it would be stored."""
        return self.granted.model_dump(mode="json", exclude={"reason", "endpoint"})

    @property
    def applied(self) -> bool:
        """Whether the schedule followed it."""
        return self.verdict is Verdict.APPLIED

    @property
    def counts(self) -> bool:
        """Whether the planner goes on as if the schedule had followed it."""
        return self.verdict in (Verdict.APPLIED, Verdict.SHADOW)


class Advised(NamedTuple):
    """What is in force on an endpoint; None where nothing is."""

    interval: InForce | None
    oneshot: InForce | None
    pause: InForce | None


class Desk:
    """The planner's side of one play: what is in force by whose word, and everything that was asked."""

    def __init__(self, world: World, stage: Stage, history: History) -> None:
        self.world, self.stage, self.history = world, stage, history
        self.entries: list[Entry] = []
        # By endpoint and kind of hint, the latest that was applied; it may have run out.
        self._latest: dict[tuple[str, type[Wish]], Entry] = {}
        # The same of shadows, which count as if they had been applied.
        self._shadows: dict[tuple[str, type[Wish]], Entry] = {}
        # The entries again: of each endpoint, and of each speaker's each rule on it by tool.
        self._on: defaultdict[str, list[Entry]] = defaultdict(list)
        self._said: defaultdict[tuple[str, Speaker, str | None, str], list[Entry]] = defaultdict(list)

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return self.stage.now

    def file(
        self,
        endpoint: str,
        wish: Wish,
        *,
        speaker: Speaker,
        key: str | None = None,
        own_only: bool = False,
        session: int | None = None,
        from_sibling: str | None = None,
    ) -> Judged:
        """Judges a wish and, where the endpoint's mode says so, carries it out."""
        if from_sibling is not None:
            wish = wish.model_copy(update={"reason": at_endpoint(wish.reason, from_sibling, MAX_REASON)})
        now, standing = self.now, self._standing(endpoint, wish)
        judged = judge(
            wish, standing, speaker=speaker, key=key, own_only=own_only, now=now, from_sibling=from_sibling is not None
        )
        if judged.verdict is Verdict.NOTHING:
            return judged
        if judged.renews and judged.bounded is not None:
            self._renew(endpoint, judged.bounded)
            return judged
        bounded = judged.bounded
        granted = bounded.wish if bounded is not None else wish
        entry = Entry(now, endpoint, speaker, key, wish, granted, judged.verdict, judged.why, session=session)
        hint = standing.interval if isinstance(wish, ClearHints) else None
        by_heuristic = hint is not None and hint.speaker is Speaker.HEURISTIC and speaker is not Speaker.HEURISTIC
        entry.overrules = by_heuristic and may_clear(hint, speaker, own_only)
        if entry.applied and bounded is not None:
            self._carry_out(entry, bounded, standing, own_only)
        elif entry.verdict is Verdict.SHADOW and bounded is not None:
            self._follow(entry, bounded, standing, own_only)
        elif self._noted(entry):
            return judged
        self._enter(entry)
        return judged

    def refuse(self, endpoint: str, wish: Wish, *, speaker: Speaker, key: str | None, why: str) -> None:
        """Notes on the endpoint that asked that a wish for a sibling could not be asked there."""
        entry = Entry(self.now, endpoint, speaker, key, wish, wish, Verdict.REFUSED, why)
        if not self._noted(entry):
            self._enter(entry)

    def advised(self, endpoint: str) -> Advised:
        """What is in force on an endpoint by anybody's advice."""
        row = self.stage.row(endpoint)
        return Advised(
            interval=self._in_force(endpoint, ProposeInterval, row.ai_hint_interval_expires_at),
            oneshot=self._in_force(endpoint, ProposeNextTime, row.ai_hint_next_run_expires_at),
            pause=self._in_force(endpoint, PauseUntil, row.paused_until),
        )

    def bounds(self, endpoint: str) -> Bounds:
        """What the endpoint allows the planner at this moment."""
        row, now = self.stage.row(endpoint), self.now
        facts = facts_of(row, now, unclaimed=False, hint_floor_ms=self.world.hint_floor_ms)
        return Bounds(
            min_interval_ms=row.min_interval_ms,
            max_interval_ms=row.max_interval_ms,
            floor_ms=planner_floor_ms(facts),
            last_started_at=row.last_started_at,
            pause_left=MAX_PAUSE_PER_WEEK - self._paused_this_week(endpoint),
            runs_once=row.run_once_at is not None,
            usual_gap_ms=usual_gap_ms(row.baseline_interval_ms, row.baseline_cron, row.timezone, now),
        )

    def _standing(self, endpoint: str, wish: Wish) -> Standing:
        """What the wish is to be judged by."""
        row, advised = self.stage.row(endpoint), self.advised(endpoint)
        return Standing(
            mode=self.world.by_name[endpoint].mode,
            active=row.status == "active" and row.job_status == "active",
            hold_until=None,
            interval=advised.interval,
            oneshot=advised.oneshot,
            pause=advised.pause,
            bounds=self.bounds(endpoint),
            next_run_at=self._run_at_without(row, "paused_until") if isinstance(wish, PauseUntil) else None,
            backed_off_until=self._backed_off_until(endpoint, row),
        )

    def last_asked(self, endpoint: str, speaker: Speaker, key: str | None, tool: str) -> datetime | None:
        """When the speaker was heard last with a wish of this kind that served, by this rule or, for None, by any."""
        last = next(
            (
                entry
                for entry in reversed(self._on[endpoint])
                if (entry.speaker, entry.tool) == (speaker, tool)
                and (key is None or entry.key == key)
                and entry.verdict not in _UNHEARD
            ),
            None,
        )
        if last is None or last.ended_by == WITHDRAWN or self.state(last) == "expired":
            return None
        return last.at

    def withdraw(self, endpoint: str, key: str) -> None:
        """Drops the one run that a sibling's rule asked for, if it has not come yet."""
        row = self.stage.row(endpoint)
        entry = self._latest.get((endpoint, ProposeNextTime))
        waits = entry is not None and entry.key == key and entry.until is not None and entry.until > self.now
        if waits and row.ai_hint_next_run_at is not None:
            self._end(endpoint, ProposeNextTime, WITHDRAWN)
            self.stage.change(endpoint, changes.ClearHints(interval=False))
        shadow = self._shadows.get((endpoint, ProposeNextTime))
        if shadow is not None and shadow.key == key and shadow.until is not None and shadow.until > self.now:
            del self._shadows[endpoint, ProposeNextTime]
            shadow.ended_at, shadow.ended_by = self.now, WITHDRAWN

    def turns(self, endpoint: str) -> dict[tuple[Speaker, str | None], int]:
        """How often lately each rule of a speaker had its interval hint dropped, or replaced by a rule's slower one."""
        found: dict[tuple[Speaker, str | None], int] = {}
        since = self.now - TURNS_WITHIN
        for entry in takewhile(lambda entry: entry.at > since, reversed(self._on[endpoint])):
            if not entry.counts:
                continue
            interval_ms = entry.values.get("interval_ms", 0)
            slower = entry.speaker is Speaker.RULE and entry.replaced_ms is not None and entry.replaced_ms < interval_ms
            if isinstance(entry.wish, ClearHints) or slower:
                eased = entry.speaker, entry.replaced_key or entry.key
                found[eased] = found.get(eased, 0) + 1
        return found

    def overruled(self, endpoint: str) -> bool:
        """Whether a speaker of higher rank cleared the hint of a heuristic lately."""
        since = self.now - TURNS_WITHIN
        lately = takewhile(lambda entry: entry.at > since, reversed(self._on[endpoint]))
        return any(entry.overrules and entry.counts for entry in lately)

    def state(self, entry: Entry) -> str:
        """What has become of a wish by now, in the words of proposals."""
        if not entry.applied or entry.ended_by is not None or entry.until is None or entry.until > self.now:
            return entry.ended_by or entry.verdict.value
        runs = self.history.of(entry.endpoint)
        used = any(run.source == Source.AI_ONESHOT and run.started_at >= entry.at for run in runs)
        return entry.verdict.value if used and isinstance(entry.wish, ProposeNextTime) else "expired"

    def _in_force(self, endpoint: str, kind: type[Wish], until: datetime | None) -> InForce | None:
        """What no entry here accounts for was set by a person; only that comes before a shadow."""
        real: InForce | None = None
        if until is not None and until > self.now:
            entry = self._latest.get((endpoint, kind))
            if entry is None or entry.until != until:
                interval_ms = self.stage.row(endpoint).ai_hint_interval_ms if kind is ProposeInterval else None
                return InForce(Speaker.PERSON, None, {}, until, interval_ms)
            real = _word(entry, until)
        shadow = self._shadows.get((endpoint, kind))
        if shadow is None or shadow.until is None:
            return real
        until = shadow.until
        if isinstance(shadow.granted, ProposeNextTime):
            until = min(until, shadow.granted.next_run_at)
        return _word(shadow, until) if until > self.now else real

    def _paused_this_week(self, endpoint: str) -> timedelta:
        total = timedelta(0)
        for entry in self._on[endpoint]:
            counts = entry.counts and entry.speaker in ALLOWANCE_SPEAKERS
            if isinstance(entry.wish, PauseUntil) and counts and entry.until:
                end = min(entry.until, entry.ended_at or entry.until, self.now)
                total += max(end - max(entry.at, self.now - WEEK), timedelta(0))
        return total

    def _backed_off_until(self, endpoint: str, row: PlanRow) -> datetime | None:
        if not row.failure_count or row.baseline_interval_ms is None:
            return None
        if speaks_of_failures(self.world.by_name[endpoint].description):
            return None
        advice = ("paused_until", "ai_hint_interval_ms", "ai_hint_next_run_at", "manual_run_at", "retry_at")
        return self._run_at_without(row, *advice)

    def _run_at_without(self, row: PlanRow, *names: str) -> datetime | None:
        """When it would run without these columns."""
        nothing: dict[str, Any] = dict.fromkeys(names)
        free = replace(row, **nothing)
        facts = facts_of(free, self.now, unclaimed=row.lease_owner is None, hint_floor_ms=self.world.hint_floor_ms)
        return plan_next_run(facts, self.now).run_at

    def _carry_out(self, entry: Entry, bounded: Bounded, standing: Standing, own_only: bool) -> None:
        wish, endpoint, now = bounded.wish, entry.endpoint, self.now
        change: Change
        if isinstance(wish, ClearHints):
            kinds: list[tuple[type[Wish], InForce | None]] = [
                (ProposeInterval, standing.interval),
                (ProposeNextTime, standing.oneshot),
            ]
            cleared = [kind for kind, hint in kinds if may_clear(hint, entry.speaker, own_only)]
            change = changes.ClearHints(interval=ProposeInterval in cleared, oneshot=ProposeNextTime in cleared)
            if ProposeInterval in cleared and standing.interval is not None:
                entry.replaced_key = standing.interval.key
            for kind in cleared:
                self._end(endpoint, kind, "cleared")
        else:
            entry.replaced_ms = self.stage.row(endpoint).ai_hint_interval_ms
            replaced = self._latest.get((endpoint, type(wish)))
            entry.replaced_key = replaced.key if replaced is not None else None
            self._end(endpoint, type(wish), "superseded")
            if isinstance(wish, ProposeInterval):
                change = self._interval_hint(entry, wish)
                entry.until = now + timedelta(minutes=wish.ttl_minutes)
            elif isinstance(wish, ProposeNextTime):
                # Rounded up, so that it is not sooner than what was bounded.
                in_ms = -((now - wish.next_run_at) // _MILLISECOND)
                change = changes.SetOneShotHint(
                    in_ms, wish.ttl_minutes * MINUTE_MS, wish.reason, author_words=self._author(entry)
                )
                entry.until = now + timedelta(minutes=wish.ttl_minutes)
            else:
                assert isinstance(wish, PauseUntil)
                change = changes.Resume()
                if wish.until is not None:
                    change = changes.Pause(wish.until, wish.reason, "planner", self._author(entry))
                entry.until = wish.until
            self._latest[endpoint, type(wish)] = entry
        self.stage.change(endpoint, change)

    def _renew(self, endpoint: str, bounded: Bounded) -> None:
        wish, in_shadow = bounded.wish, self.world.by_name[endpoint].mode == "shadow"
        assert isinstance(wish, ProposeInterval)
        entry = (self._shadows if in_shadow else self._latest)[endpoint, ProposeInterval]
        entry.until, entry.renewals = self.now + timedelta(minutes=wish.ttl_minutes), entry.renewals + 1
        if not in_shadow:
            self.stage.change(endpoint, self._interval_hint(entry, wish))

    def _interval_hint(self, entry: Entry, wish: ProposeInterval) -> changes.SetIntervalHint:
        ttl_ms, author = wish.ttl_minutes * MINUTE_MS, self._author(entry)
        return changes.SetIntervalHint(wish.interval_ms, ttl_ms, wish.reason, author_words=author)

    def _author(self, entry: Entry) -> str:
        """Who asked, in words; the key of a sibling's rule begins with that endpoint's name."""
        key, of_endpoint = entry.key, None
        sibling = next((each.name for each in self.world.siblings(entry.endpoint) if _is_of(key, each.name)), None)
        if key is not None and sibling is not None:
            key, of_endpoint = key.removeprefix(f"{sibling}:"), sibling
        as_asked = speaks_of_failures(self.world.by_name[entry.endpoint].description)
        return author_words(entry.speaker, key, of_endpoint=of_endpoint, as_asked=as_asked)

    def _follow(self, entry: Entry, bounded: Bounded, standing: Standing, own_only: bool) -> None:
        """Notes on a shadow, and on the shadows it ends, what would have come of it."""
        wish, endpoint = bounded.wish, entry.endpoint
        kinds: list[type[Wish]] = [type(wish)]
        if isinstance(wish, ClearHints):
            hints: list[tuple[type[Wish], InForce | None]] = [
                (ProposeInterval, standing.interval),
                (ProposeNextTime, standing.oneshot),
            ]
            kinds = [kind for kind, hint in hints if may_clear(hint, entry.speaker, own_only)]
        elif bounded.ttl_ms is not None:
            entry.until = self.now + timedelta(milliseconds=bounded.ttl_ms)
        if ProposeInterval in kinds and standing.interval is not None:
            entry.replaced_ms, entry.replaced_key = standing.interval.interval_ms, standing.interval.key
        for kind in kinds:
            ended = self._shadows.pop((endpoint, kind), None)
            if ended is not None and ended.until is not None and ended.until > self.now:
                ended.ended_at = self.now
        if not isinstance(wish, ClearHints):
            self._shadows[endpoint, type(wish)] = entry

    def _end(self, endpoint: str, kind: type[Wish], how: str) -> None:
        """Notes that what was in force has ended now, unless it had run out or was used up before."""
        entry = self._latest.pop((endpoint, kind), None)
        used = kind is ProposeNextTime and self.stage.row(endpoint).ai_hint_next_run_at is None
        if entry is not None and entry.until is not None and entry.until > self.now and not used:
            entry.ended_at, entry.ended_by = self.now, how

    def _enter(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._on[entry.endpoint].append(entry)
        self._said[entry.endpoint, entry.speaker, entry.key, entry.tool].append(entry)

    def _noted(self, entry: Entry) -> bool:
        """Whether the speaker's last words on this, all that had the same verdict, hold the same and are fresh."""
        since = self.now - REPEAT_AFTER
        said = reversed(self._said[entry.endpoint, entry.speaker, entry.key, entry.tool])
        alike = takewhile(lambda earlier: earlier.verdict is entry.verdict and earlier.at > since, said)
        interval_ms = getattr(entry.wish, "interval_ms", None)
        return any(getattr(earlier.wish, "interval_ms", None) == interval_ms for earlier in alike)


def _is_of(key: str | None, name: str) -> bool:
    return key is not None and key.startswith(f"{name}:")


def _word(entry: Entry, until: datetime) -> InForce:
    asked = entry.wish.model_dump(mode="json", exclude={"endpoint"})
    interval_ms = entry.granted.interval_ms if isinstance(entry.granted, ProposeInterval) else None
    return InForce(entry.speaker, entry.key, asked, until, interval_ms, entry.verdict is Verdict.SHADOW)
