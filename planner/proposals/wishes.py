"""What the planner may ask for: strict arguments, the schemas made from them, and the guardrails. Pure.

Whoever speaks, a rule, a heuristic or the model, asks with the same arguments and is held to the same bounds.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from jobs.conditions import visible
from scheduling.plan.wording import duration_words, instant_words

MINUTE_MS = 60_000
DAY_MS = 86_400_000
MAX_PAUSE = timedelta(hours=24)
MAX_PAUSE_PER_WEEK = timedelta(hours=48)
WEEK = timedelta(days=7)
SHORTEST_PAUSE = timedelta(seconds=1)
MAX_REASON = 500
LONGEST_INTERVAL_MS = DAY_MS
# How many times slower than the baseline it may run where the owner set no maximum: three doublings.
MOST_SLOWER = 8


class Speaker(StrEnum):
    """Who asks; the values are those of `planner.models.Cause`."""

    PERSON = "person"
    RULE = "rule"
    MODEL = "model"
    HEURISTIC = "heuristic"

    def outranks(self, other: "Speaker") -> bool:
        """Whether this one's word stands against the other's: person, owner's rule, model, heuristic."""
        order = list(Speaker)
        return order.index(self) < order.index(other)


def _in_utc(instant: datetime) -> datetime:
    """The same instant in UTC: PostgreSQL takes no offset of 16 hours or more. Raises ValueError."""
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is out of range") from None


# Whose pauses the week's allowance limits; what the owner's own rules ask for is the owner's word.
ALLOWANCE_SPEAKERS = (Speaker.MODEL, Speaker.HEURISTIC)


def _iso_8601(value: object) -> object:
    """A text in ISO 8601 with an offset as an instant. Raises ValueError.

    Digits alone are refused: seconds and milliseconds cannot be told apart.
    """
    if isinstance(value, datetime) or value is None:
        return value
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        return datetime.fromisoformat(value.upper())
    raise ValueError("give an ISO 8601 time with its offset, such as 2026-03-02T12:00:00Z")


_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)"
)
Instant = Annotated[AwareDatetime, BeforeValidator(_iso_8601), AfterValidator(_in_utc)]


def _shown(value: object) -> object:
    return visible(value).strip() if isinstance(value, str) else value


# Cleaned before it is measured: what is stored is read again by the same bounds.
Reason = Annotated[str, BeforeValidator(_shown), Field(min_length=1, max_length=MAX_REASON)]
Minutes = Annotated[int, Field(ge=1, le=1_440)]
Target = Annotated[
    str | None, Field(max_length=255, description="A sibling's name, to run it sooner; default: this one.")
]


class Arguments(BaseModel):
    """Arguments of one tool: no conversions, no unknown fields, no defaults that surprise."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    tool: ClassVar[str]
    summary: ClassVar[str]


class Wish(Arguments):
    """Arguments of a tool that asks for a change of the schedule."""

    reason: Reason
    endpoint: Target = None


class ProposeInterval(Wish):
    """Another interval for a while."""

    tool = "propose_interval"
    summary = "Run at another interval for a while, then return to the baseline."

    interval_ms: Annotated[int, Field(ge=1_000, le=LONGEST_INTERVAL_MS)]
    ttl_minutes: Minutes = 60


class ProposeNextTime(Wish):
    """One extra run."""

    tool = "propose_next_time"
    summary = "Run once at a given time, on top of the schedule. To defer runs, use pause_until."

    next_run_at: Annotated[Instant, Field(description="ISO 8601; a past time means now.")]
    ttl_minutes: Minutes = 30


class PauseUntil(Wish):
    """A rest, or the end of the planner's own rest."""

    tool = "pause_until"
    summary = "Rest until a time, at most 24 h away; null ends the planner's own pause."

    until: Annotated[Instant | None, BeforeValidator(_iso_8601)]


class ClearHints(Wish):
    """Back to the baseline."""

    tool = "clear_hints"
    summary = "Drop the planner's hints: back to the baseline now."


class GetLatestResponse(Arguments):
    """The latest body, longer than in the briefing."""

    tool = "get_latest_response"
    summary = "The latest response, at more length than below."


class GetResponseHistory(Arguments):
    """Earlier runs."""

    tool = "get_response_history"
    summary = "Earlier runs, newest first."

    limit: Annotated[int, Field(ge=1, le=10)] = 5
    offset: Annotated[int, Field(ge=0, le=1_000)] = 0
    include_bodies: bool = False


class GetSiblingLatestResponses(Arguments):
    """What the siblings said last."""

    tool = "get_sibling_latest_responses"
    summary = "The latest run of each other endpoint of the same job."

    include_responses: bool = False


class SubmitAnalysis(Arguments):
    """The verdict; it ends the analysis."""

    tool = "submit_analysis"
    summary = "End the analysis. Call it exactly once, in the same answer as any proposal."

    reasoning: Annotated[str, Field(min_length=1, max_length=2_000)]
    confidence: Annotated[float, Field(ge=0, le=1)]
    next_analysis_in_ms: Annotated[int, Field(ge=300_000, le=DAY_MS)] | None = None


WISHES: tuple[type[Wish], ...] = (ProposeInterval, ProposeNextTime, PauseUntil, ClearHints)
TOOLS: dict[str, type[Arguments]] = {
    **{kind.tool: kind for kind in WISHES},
    GetLatestResponse.tool: GetLatestResponse,
    GetResponseHistory.tool: GetResponseHistory,
    GetSiblingLatestResponses.tool: GetSiblingLatestResponses,
    SubmitAnalysis.tool: SubmitAnalysis,
}
# What an endpoint answers may make a sibling run sooner, and never rest or fall back to its baseline.
NO_SIBLING = frozenset({PauseUntil.tool, ClearHints.tool})


class BadArgumentsError(ValueError):
    """A tool call that cannot be carried out; the message tells the model what to mend."""


def read_arguments(tool: str, text: str) -> Arguments:
    """Reads the JSON arguments of a tool call. Raises BadArgumentsError for an unknown tool and for anything unfit."""
    kind = TOOLS.get(tool)
    if kind is None:
        raise BadArgumentsError(f"There is no such tool. Use one of {', '.join(TOOLS)}.")
    try:
        arguments = kind.model_validate_json(text or "{}")
    except ValidationError as refusal:
        faults = refusal.errors(include_url=False, include_context=False, include_input=False)
        words = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}" for fault in faults[:5])
        raise BadArgumentsError(f"Refused: {words}"[:500]) from refusal
    if tool in NO_SIBLING and isinstance(arguments, Wish) and arguments.endpoint is not None:
        raise BadArgumentsError(f"Refused: {tool} takes no endpoint; a sibling may only be made to run sooner.")
    return arguments


def stored_wish(tool: str, arguments: object) -> Wish:
    """The wish of a proposal, as stored. Raises BadArgumentsError where it cannot be read any more."""
    try:
        wish = TOOLS[tool].model_validate(arguments, strict=False)
    except (KeyError, ValidationError) as refusal:
        raise BadArgumentsError("The arguments of this proposal cannot be read.") from refusal
    if not isinstance(wish, Wish):
        raise BadArgumentsError("This is no proposal.")
    return wish


def tool_schemas(*, siblings: bool) -> list[dict[str, Any]]:
    """The tools as the chat completions API describes them, from the same classes that read the arguments.

    Without siblings the parts that speak of them are left out.
    """
    return [
        {"type": "function", "function": {"name": name, "description": kind.summary, "parameters": schema}}
        for name, kind in TOOLS.items()
        if (schema := _schema(kind, siblings)) and (siblings or kind is not GetSiblingLatestResponses)
    ]


def _schema(kind: type[Arguments], siblings: bool) -> dict[str, Any]:
    schema = _lean(kind.model_json_schema())
    if kind.tool in NO_SIBLING or not siblings:
        schema["properties"].pop("endpoint", None)
    return schema


# Left out of the schemas, which are paid for with every request: what a reader of the names does not need.
_UNTOLD = frozenset({"title", "minLength", "maxLength", "additionalProperties"})


def _lean(value: dict[str, Any]) -> dict[str, Any]:
    """The schema in fewer tokens; what it no longer says is still checked when the arguments are read."""
    kept = {key: item for key, item in value.items() if key not in _UNTOLD}
    if "properties" in kept:
        kept.pop("description", None)
        kept["properties"] = {key: _lean(item) for key, item in kept["properties"].items()}
    if "anyOf" in kept:
        kept |= _lean(kept.pop("anyOf")[0])
        if "default" in kept:
            kept.pop("default")
        else:
            kept["type"] = [kept["type"], "null"]
    return kept


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an endpoint allows. Durations in milliseconds where they say so; None means that the owner set no bound.

    `floor_ms` holds where there is no minimum; `pause_left` is what the week's allowance of pauses still has, for model
    and heuristics;
    `runs_once` marks an endpoint that has no interval to change; `usual_gap_ms` is the pace of its baseline, None where
    it has none.
    """

    min_interval_ms: int | None
    max_interval_ms: int | None
    floor_ms: int
    last_started_at: datetime | None
    pause_left: timedelta
    runs_once: bool = False
    usual_gap_ms: int | None = None

    def limits_ms(self) -> tuple[int, int]:
        """The fastest and the slowest interval that the planner may set.

        Without a maximum that is eight times the baseline, at most a day: slower would be a pause by another name.
        """
        low = self.floor_ms if self.min_interval_ms is None else self.min_interval_ms
        high = self.max_interval_ms
        if high is None:
            slow = LONGEST_INTERVAL_MS if self.usual_gap_ms is None else MOST_SLOWER * self.usual_gap_ms
            high = min(max(slow, low), LONGEST_INTERVAL_MS)
        return min(low, high), high


@dataclass(frozen=True, slots=True)
class Bounded:
    """A wish inside the bounds: what to apply, for how long, and what was changed, in words ("" is nothing)."""

    wish: Wish
    ttl_ms: int | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a wish cannot be granted, as one sentence."""

    why: str


def bound(wish: Wish, bounds: Bounds, now: datetime, *, speaker: Speaker) -> Bounded | Refusal:
    """Brings a wish inside the bounds of its endpoint, or refuses it. Its reason loses invisible characters."""
    wish = wish.model_copy(update={"reason": visible(wish.reason)[:MAX_REASON]})
    if isinstance(wish, ProposeInterval):
        return _bound_interval(wish, bounds)
    if isinstance(wish, ProposeNextTime):
        return _bound_next_time(wish, bounds, now)
    if isinstance(wish, PauseUntil):
        return _bound_pause(wish, bounds, now, speaker)
    return Bounded(wish, None)


def _bound_interval(wish: ProposeInterval, bounds: Bounds) -> Bounded | Refusal:
    if bounds.runs_once:
        return Refusal("The endpoint runs once; it has no interval.")
    low, high = bounds.limits_ms()
    interval_ms = min(max(wish.interval_ms, low), high)
    ttl_ms = wish.ttl_minutes * MINUTE_MS
    if interval_ms >= ttl_ms:
        return Refusal(f"The hint would end before its first run: {duration_words(interval_ms)} of interval.")
    note = "" if interval_ms == wish.interval_ms else f"interval clamped from {duration_words(wish.interval_ms)}"
    return Bounded(wish.model_copy(update={"interval_ms": interval_ms}), ttl_ms, note)


def _bound_next_time(wish: ProposeNextTime, bounds: Bounds, now: datetime) -> Bounded | Refusal:
    at = max(wish.next_run_at, now)
    if bounds.last_started_at is not None:
        gap_ms = bounds.floor_ms if bounds.min_interval_ms is None else bounds.min_interval_ms
        at = max(at, bounds.last_started_at + timedelta(milliseconds=gap_ms))
    ttl_ms = wish.ttl_minutes * MINUTE_MS
    if at >= now + timedelta(milliseconds=ttl_ms):
        return Refusal(f"The hint would end before its run at {instant_words(at, now)}; give a longer ttl_minutes.")
    is_moved = at - wish.next_run_at >= timedelta(seconds=1)
    note = f"moved from {instant_words(wish.next_run_at, now)}" if is_moved else ""
    return Bounded(wish.model_copy(update={"next_run_at": at}), ttl_ms, note)


def _bound_pause(wish: PauseUntil, bounds: Bounds, now: datetime, speaker: Speaker) -> Bounded | Refusal:
    if wish.until is None:
        return Bounded(wish, None)
    until = min(wish.until, now + MAX_PAUSE)
    if speaker in ALLOWANCE_SPEAKERS:
        until = min(until, now + bounds.pause_left)
    if wish.until < now + SHORTEST_PAUSE:
        return Refusal("The pause would be over already.")
    if until < now + SHORTEST_PAUSE:
        return Refusal("The planner has paused this endpoint for 48 h within a week; that is all it may.")
    note = "" if until == wish.until else f"shortened from {instant_words(wish.until, now)}"
    return Bounded(wish.model_copy(update={"until": until}), (until - now) // timedelta(milliseconds=1), note)
