"""What a play came to, beside the same world without the planner or beside the record, as text and as JSON. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from planner.analyst.conversation import EndStatus
from planner.evaluation.desk import Entry
from planner.evaluation.model import Session
from planner.evaluation.play import Played
from planner.evaluation.world import Spell
from planner.proposals.wishes import PauseUntil, ProposeInterval, ProposeNextTime
from scheduling.plan.wording import duration_words, instant_words
from scheduling.simulation.timeline import LEGEND, TimeLine

HINT, REST, TROUBLE = "=", "-", "~"
BANDS = f"{HINT} interval hint in force  {REST} pause  {TROUBLE} trouble"
COLUMNS = 80
DAY_MINUTES = 1_440


@dataclass(frozen=True, slots=True)
class Noticed:
    """When runs first showed a trouble and when first that it was over, from its beginning; None is never."""

    seen_after: timedelta | None
    over_after: timedelta | None

    def words(self) -> str:
        """As a cell of the table."""
        if self.seen_after is None:
            return "not seen"
        over = "never over" if self.over_after is None else f"over {_rounded(self.over_after)}"
        return f"seen {_rounded(self.seen_after)}, {over}"

    def to_json(self) -> dict[str, float | None]:
        """In seconds."""
        return {
            "seen_after_s": None if self.seen_after is None else self.seen_after.total_seconds(),
            "over_after_s": None if self.over_after is None else self.over_after.total_seconds(),
        }


def noticed(played: Played, spell: Spell) -> Noticed:
    """How soon the runs of a play show a trouble, and its end: the first sound run after the last that showed it."""
    begin = played.world.at(spell.begin)
    during = [run for run in played.runs(spell.endpoint, spell.begin, spell.end) if spell.shows(run)]
    if not during:
        return Noticed(None, None)
    after = [run for run in played.runs(spell.endpoint) if run.started_at > during[-1].started_at]
    over_at = next((run.started_at for run in after if not spell.shows(run)), None)
    return Noticed(during[0].started_at - begin, None if over_at is None else over_at - begin)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A play and what it is held against, each with a short name."""

    played: Played
    label: str
    beside: Played
    beside_label: str
    sessions: tuple[Session, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All figures: the same for the same plays."""
        world = self.played.world
        return {
            "world": world.name,
            "summary": world.summary,
            "start": world.start.isoformat(),
            "minutes": world.minutes,
            "planner": self.label,
            "beside": self.beside_label,
            "endpoints": [
                {
                    "name": member.name,
                    "tier": member.tier,
                    self.label: _figures(self.played, member.name),
                    self.beside_label: _figures(self.beside, member.name),
                }
                for member in world.members
            ],
            "troubles": [
                {
                    "endpoint": spell.endpoint,
                    "what": spell.what,
                    "from": world.at(spell.begin).isoformat(),
                    "to": world.at(spell.end).isoformat(),
                    self.label: noticed(self.played, spell).to_json(),
                    self.beside_label: noticed(self.beside, spell).to_json(),
                }
                for spell in world.spells
            ],
            "decisions": [_entry_json(entry) for entry in self.played.entries],
            "sessions": [session.to_json() for session in self.sessions],
            "wanted": [
                {"words": want.words, self.label: want.holds(self.played), self.beside_label: want.holds(self.beside)}
                for want in world.wants
            ],
        }

    def lines(self) -> Iterator[str]:
        """The report as text."""
        world = self.played.world
        span = duration_words(timedelta(minutes=world.minutes))
        yield f"{world.name}: {world.summary}"
        yield f"{span} from {world.start:%Y-%m-%d %H:%M} UTC: {self.label} beside {self.beside_label}"
        yield ""
        yield from self._calls()
        yield from self._troubles()
        yield from self._decisions()
        yield from self._analyses()
        yield from self._wants()
        yield from self._drawing()

    def _calls(self) -> Iterator[str]:
        columns = ("calls", "failed", "changes")
        rows = [["endpoint", *(head for name in columns for head in (name, self.beside_label))]]
        for member in self.played.world.members:
            ours, theirs = _figures(self.played, member.name), _figures(self.beside, member.name)
            rows.append([member.name, *(str(side[name]) for name in columns for side in (ours, theirs))])
        yield from _table(rows)

    def _troubles(self) -> Iterator[str]:
        world = self.played.world
        if not world.spells:
            return
        yield ""
        rows = [["trouble", "from", self.label, self.beside_label]]
        for spell in world.spells:
            ours, theirs = noticed(self.played, spell).words(), noticed(self.beside, spell).words()
            rows.append([f"{spell.endpoint}: {spell.what}", f"{world.at(spell.begin):%m-%d %H:%M}", ours, theirs])
        yield from _table(rows)

    def _decisions(self) -> Iterator[str]:
        yield ""
        yield f"What the planner did ({len(self.played.entries)})"
        stamp = "%H:%M:%S" if self.played.world.minutes < DAY_MINUTES else "%m-%d %H:%M:%S"
        for entry in self.played.entries:
            who = f"{entry.speaker.value} {entry.key}" if entry.key else entry.speaker.value
            note = f" ({entry.note})" if entry.note else ""
            yield (
                f"  {entry.at:{stamp}} {entry.endpoint}: {_wish_words(entry)}: {entry.verdict.value}{note}, "
                f"by {who} because {entry.granted.reason}"
            )

    def _analyses(self) -> Iterator[str]:
        if not self.sessions:
            return
        done = sum(session.status is EndStatus.COMPLETED for session in self.sessions)
        tokens = [
            sum(each) for each in zip(*((s.prompt_tokens, s.completion_tokens) for s in self.sessions), strict=True)
        ]
        yield ""
        yield f"Analyses: {len(self.sessions)}, {done} completed; {tokens[0]} prompt and {tokens[1]} completion tokens"

    def _wants(self) -> Iterator[str]:
        world = self.played.world
        if not world.wants:
            return
        yield ""
        rows = [["wanted", self.label, self.beside_label]]
        for want in world.wants:
            rows.append([want.words, *("yes" if want.holds(side) else "no" for side in (self.played, self.beside))])
        yield from _table(rows)

    def _drawing(self) -> Iterator[str]:
        world = self.played.world
        scenario = world.scenario()
        lines = {
            name: TimeLine(scenario, columns=COLUMNS) for name in (self.label, self.beside_label, "hints", "trouble")
        }
        for label, side in ((self.label, self.played), (self.beside_label, self.beside)):
            for run in side.history:
                if scenario.start <= run.started_at < scenario.end:
                    lines[label].add(run)
        for entry in self.played.entries:
            mark = {ProposeInterval: HINT, PauseUntil: REST}.get(type(entry.wish))
            if entry.applied and mark is not None and entry.until is not None:
                end = min(entry.ended_at or entry.until, scenario.end)
                lines["hints"].band(entry.endpoint, entry.at, end, mark)
        for spell in world.spells:
            lines["trouble"].band(spell.endpoint, world.at(spell.begin), world.at(spell.end), TROUBLE)
        yield ""
        yield f"From {scenario.start:%H:%M} UTC, {duration_words(lines['hints'].column)} a column:"
        width = max(len(member.name) for member in world.members)
        tier = ""
        for member in world.members:
            if member.tier != tier:
                tier = member.tier
                yield f"[{tier}]" if tier else ""
            for label, line in lines.items():
                name = member.name if label == self.label else ""
                if label in (self.label, self.beside_label) or line.line(member.name).strip("."):
                    yield f"{name:<{width}}  {label:<8} {line.line(member.name)}".rstrip()
        yield LEGEND
        yield BANDS


def _figures(side: Played, endpoint: str) -> dict[str, int]:
    runs = side.runs(endpoint)
    return {
        "calls": len(runs),
        "failed": sum(not run.ok for run in runs),
        "changes": len(side.applied(endpoint)),
    }


def _wish_words(entry: Entry) -> str:
    wish, at = entry.granted, entry.at
    if isinstance(wish, ProposeInterval):
        until = "" if entry.until is None else f" until {instant_words(entry.until, at)}"
        return f"every {duration_words(wish.interval_ms)}{until}"
    if isinstance(wish, ProposeNextTime):
        return f"one run at {instant_words(wish.next_run_at, at)}"
    if isinstance(wish, PauseUntil):
        return "resume" if wish.until is None else f"pause until {instant_words(wish.until, at)}"
    return "clear hints"


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "at": entry.at.isoformat(),
        "endpoint": entry.endpoint,
        "speaker": entry.speaker.value,
        "key": entry.key,
        "tool": entry.tool,
        "verdict": entry.verdict.value,
        "values": entry.values,
        "reason": entry.granted.reason,
        "note": entry.note,
        "until": entry.until and entry.until.isoformat(),
        "ended_at": entry.ended_at and entry.ended_at.isoformat(),
        "session": entry.session,
    }


def _rounded(duration: timedelta) -> str:
    return duration_words(timedelta(seconds=round(duration.total_seconds())))


def _table(rows: list[list[str]]) -> Iterator[str]:
    """Columns as wide as they need; the first is aligned left, numbers right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            f"{cell:>{width}}" if cell.isdigit() else f"{cell:<{width}}"
            for cell, width in zip(row, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()
