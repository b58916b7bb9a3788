"""The rules pass on a virtual clock: the owner's rules and the heuristics, by the real `advise`. Pure."""

from datetime import datetime, timedelta

from jobs.rules import runs_needed
from planner.evaluation.desk import Desk
from planner.evaluation.history import PlayedRun
from planner.rules.advice import MOST_UNSEEN, Advice, SeenRun, Watched, advise, unseen_of, why_deaf
from planner.rules.heuristics import RUNS_NEEDED
from planner.rules.memory import Memory

PASS_EVERY = timedelta(seconds=2)


class RulesPlanner:
    """Looks at every endpoint with new runs, at the next tick of a pass that runs every two seconds."""

    def __init__(self, *, heuristics: bool = True) -> None:
        self._heuristics = heuristics

    def begin(self, desk: Desk) -> None:
        """A play begins."""
        self._desk = desk
        self._rules = {member.name: member.parsed_rules() for member in desk.world.members}
        self._runs = {name: max(runs_needed(rules), RUNS_NEEDED) for name, rules in self._rules.items()}
        self._fresh: dict[str, None] = {}
        self._pass_at: datetime | None = None
        self._through: dict[str, datetime] = {}
        self._memory: dict[str, Memory] = {}

    def settled(self, run: PlayedRun) -> None:
        """A run has ended; the next pass will see it."""
        desk = self._desk
        if desk.world.by_name[run.endpoint].mode == "off":
            return
        self._fresh[run.endpoint] = None
        if self._pass_at is None:
            passes = (desk.now - desk.world.start) // PASS_EVERY + 1
            self._pass_at = desk.world.start + passes * PASS_EVERY
            desk.stage.wake(self._pass_at)

    def woken(self) -> None:
        """Makes the pass when its time has come."""
        if self._pass_at is None or self._desk.now < self._pass_at:
            return
        fresh, self._fresh, self._pass_at = self._fresh, {}, None
        for name in fresh:
            watched = self._watched(name)
            self._memory[name] = watched.remembered()
            for ended in self._memory[name].ended:
                if any(each.name == ended.sibling for each in self._desk.world.siblings(name)):
                    self._desk.withdraw(ended.sibling or "", f"{name}:{ended.key}")
            for advice in advise(watched, self._desk.now, heuristics=self._heuristics):
                self._file(name, watched, advice)

    def _watched(self, name: str) -> Watched:
        desk = self._desk
        row, advised = desk.stage.row(name), desk.advised(name)
        runs = [_seen(run) for run in desk.history.latest(name, self._runs[name] + MOST_UNSEEN - 1)]
        through, self._through[name] = self._through.get(name), runs[0].finished_at
        return Watched(
            endpoint_id=row.id,
            name=name,
            interval_ms=row.baseline_interval_ms,
            max_interval_ms=row.max_interval_ms,
            next_run_at=row.next_run_at,
            rules=self._rules[name],
            interval_hint=advised.interval,
            oneshot_hint=advised.oneshot,
            pause=advised.pause,
            runs=runs,
            turns=desk.turns(name),
            overruled=desk.overruled(name),
            unseen=unseen_of(runs, through),
            memory=self._memory.get(name),
        )

    def _file(self, name: str, watched: Watched, advice: Advice) -> None:
        desk, target, key = self._desk, name, advice.key
        if advice.wish.endpoint is not None:
            target = advice.wish.endpoint
            sibling = next((each for each in desk.world.siblings(name) if each.name == target), None)
            is_off = sibling is not None and sibling.mode == "off"
            deaf = why_deaf(target, known=sibling is not None, is_off=is_off)
            if deaf is not None:
                desk.refuse(name, advice.wish, speaker=advice.speaker, key=key, why=deaf)
                return
            key = f"{name}:{advice.key}"
            own_key = key if advice.since is None else None
            last_at = desk.last_asked(target, advice.speaker, own_key, advice.wish.tool)
            if advice.asked_already(last_at, desk.now):
                return
        desk.file(target, advice.wish, speaker=advice.speaker, key=key, own_only=advice.own_only)


def _seen(run: PlayedRun) -> SeenRun:
    return SeenRun(run.finished_at, run.observation)
