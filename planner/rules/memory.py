"""What the rules pass remembers of an endpoint between two passes: where each rule stands, and when the body changes.

Pure. It is stored with the endpoint (`rules_state`), so that a restart, another planner process or an edit of the rules
neither repeats an action nor forgets one. Stepping through the same runs again changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from jobs.conditions import Observation
from jobs.rules import Rule, RunSibling, SetInterval
from planner.rules.changetimes import ChangeTimes, observed

if TYPE_CHECKING:
    from planner.rules.advice import SeenRun


@dataclass(frozen=True, slots=True)
class Standing:
    """A rule that holds: since the end of which run, None where that was before anything was remembered.

    `digest` tells its condition and its sibling; `sibling` is None for a rule with `until`.
    """

    key: str
    digest: str
    since: datetime | None
    sibling: str | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """The rules that hold, by their keys: those that run a sibling, and those with `until`.

    `ended` are rules for a sibling that held and do so no longer, or are gone.
    """

    holding: Mapping[str, Standing] = field(default_factory=dict)
    ended: tuple[Standing, ...] = ()
    times: ChangeTimes | None = None

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        rules = [
            {
                "key": each.key,
                "digest": each.digest,
                "since": each.since.isoformat() if each.since is not None else None,
                "sibling": each.sibling,
            }
            for each in self.holding.values()
        ]
        return {"rules": rules, "times": self.times.to_json() if self.times is not None else None}

    @classmethod
    def from_json(cls, stored: Any) -> "Memory | None":
        """What `to_json` made; None for None, and for what cannot be read any more."""
        try:
            rules = [
                Standing(each["key"], each["digest"], _instant(each["since"]), each["sibling"])
                for each in stored["rules"]
            ]
            times = ChangeTimes.from_json(stored["times"]) if stored["times"] is not None else None
        except (TypeError, KeyError, ValueError, AttributeError):
            return None
        return cls({each.key: each for each in rules}, (), times)


def stepped(
    memory: Memory | None,
    rules: Sequence[Rule],
    runs: "Sequence[SeenRun]",
    *,
    unseen: int,
    rule_in_force: str | None,
    times_wanted: bool = False,
) -> Memory:
    """What is remembered after the latest `unseen` of the runs, newest first.

    A rule with `until` lasts only while the interval hint of a rule, `rule_in_force`, stands: None is none, and then
    each begins anew. A failed run without a body says nothing of a condition on the body. `memory` None is nothing yet:
    a rule that held in the run before may have acted already.
    """
    tracked = [rule for rule in rules if rule.until is not None or isinstance(rule.then, RunSibling)]
    history = [run.observation for run in runs]
    if memory is None:
        past = history[unseen:]
        holding = {rule.key: _standing(rule, None) for rule in tracked if past and rule.when.because(past) is not None}
        times = None
    else:
        holding, times = _still(memory, tracked), memory.times
    before = {each.key: each for each in memory.holding.values()} if memory is not None else holding
    holding = {key: each for key, each in holding.items() if each.sibling is not None or rule_in_force is not None}
    for rule in tracked:
        if isinstance(rule.then, SetInterval) and rule.key == rule_in_force:
            holding.setdefault(rule.key, _standing(rule, None))
    for back in range(min(unseen, len(runs)) - 1, -1, -1):
        for rule in tracked:
            if not _holds(rule, history[back:], was=rule.key in holding):
                holding.pop(rule.key, None)
            elif rule.key not in holding:
                holding[rule.key] = _standing(rule, runs[back].finished_at)
    if times_wanted:
        for run in reversed(runs):
            digest = None if run.observation.failed else run.observation.digest
            times = observed(times, digest, run.finished_at)
    now = {each.digest for each in holding.values()} | set(holding)
    ended = tuple(each for each in before.values() if each.sibling is not None and not {each.digest, each.key} & now)
    return Memory(holding, ended, times)


def _holds(rule: Rule, history: Sequence[Observation], *, was: bool) -> bool:
    if rule.when.because(history) is not None:
        return True
    if not was:
        return False
    if rule.when.is_unknown(history):
        return True
    return rule.until is not None and rule.until.because(history) is None


def _still(memory: Memory, tracked: Sequence[Rule]) -> dict[str, Standing]:
    """What is remembered of these rules: by condition and sibling, whatever the rule is called now; else by name."""
    by_digest = {each.digest: each for each in memory.holding.values()}
    found = {}
    for rule in tracked:
        fresh = _standing(rule, None)
        known = by_digest.get(fresh.digest) or memory.holding.get(rule.key)
        if known is not None and known.sibling == fresh.sibling:
            found[rule.key] = replace(fresh, since=known.since)
    return found


def _standing(rule: Rule, since: datetime | None) -> Standing:
    sibling = rule.then.sibling if isinstance(rule.then, RunSibling) else None
    digest = blake2b(repr((rule.when, rule.until, sibling)).encode(), digest_size=8).hexdigest()
    return Standing(rule.key, digest, since, sibling)


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
