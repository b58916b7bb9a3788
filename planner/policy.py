"""Who deserves a look by the model, and when the next look is due. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from uuid import UUID

from scheduling.exchange.bodies import Unparsable, safe_json

# Between two analyses of one endpoint, whatever happens to it: a storm of failures is no storm of analyses.
SHORTEST_GAP = timedelta(minutes=5)
PAUSE_ENDS_SOON = timedelta(minutes=10)
AFTER_FAILED_SESSION = timedelta(minutes=10)
FAILING_AGAIN_IN = timedelta(minutes=5)
ADVISED_AGAIN_IN = timedelta(minutes=15)
HEALTHY_AGAIN_IN = timedelta(minutes=60)
SHAPE_DEPTH = 3
ITEMS_LOOKED_AT = 20


class Trigger(StrEnum):
    """Why an endpoint is analysed; the most urgent first."""

    FAILURES_ROSE = "failures_rose"
    RECOVERED = "recovered"
    PAUSE_ENDS = "pause_ends"
    NEVER_ANALYSED = "never_analysed"
    DUE = "due"
    SHAPE_CHANGED = "shape_changed"


@dataclass(frozen=True, slots=True)
class LastSession:
    """The latest analysis of an endpoint; `shape` None means that there was no JSON body."""

    analyzed_at: datetime
    failure_count: int
    shape: str | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint with runs since its last analysis, or under a pause of the planner that ends soon.

    `tokens_left` is what the budgets of its owner and of the service still hold today; `body` is the latest one, None
    where there is none.
    """

    endpoint_id: UUID
    owner_id: UUID
    failure_count: int
    next_analysis_at: datetime | None
    last: LastSession | None
    body: str | None
    pause_ends_at: datetime | None
    tokens_left: int


def trigger_of(candidate: Candidate, now: datetime) -> Trigger | None:
    """Why the endpoint deserves a look now; None when it does not."""
    if candidate.tokens_left <= 0:
        return None
    last = candidate.last
    if last is None:
        return Trigger.NEVER_ANALYSED
    if last.analyzed_at > now - SHORTEST_GAP:
        return None
    if candidate.failure_count >= max(1, 2 * last.failure_count):
        return Trigger.FAILURES_ROSE
    if last.failure_count and not candidate.failure_count:
        return Trigger.RECOVERED
    if candidate.pause_ends_at is not None and now < candidate.pause_ends_at <= now + PAUSE_ENDS_SOON:
        return Trigger.PAUSE_ENDS
    if candidate.next_analysis_at is None or candidate.next_analysis_at <= now:
        return Trigger.DUE
    if candidate.body is not None and body_shape(candidate.body) != last.shape:
        return Trigger.SHAPE_CHANGED
    return None


def next_look(now: datetime, *, failure_count: int, advised: bool, asked_in_ms: int | None) -> datetime:
    """When the endpoint is due again: as the model asked, else by its state. `advised`: a hint is in force."""
    if asked_in_ms is not None:
        return now + timedelta(milliseconds=asked_in_ms)
    if failure_count:
        return now + FAILING_AGAIN_IN
    return now + (ADVISED_AGAIN_IN if advised else HEALTHY_AGAIN_IN)


def body_shape(text: str) -> str | None:
    """A short digest of which keys with which types a JSON body has, whatever their values; None for other bodies."""
    document = safe_json(text)
    if isinstance(document, Unparsable):
        return None
    return blake2b("\n".join(sorted(set(_keys(document, "", SHAPE_DEPTH)))).encode(), digest_size=16).hexdigest()


def _keys(value: object, path: str, depth: int) -> list[str]:
    items: list[tuple[str, object]]
    if isinstance(value, dict):
        items = [(f"{path}.{name}", item) for name, item in value.items()]
    elif isinstance(value, list):
        items = [(f"{path}[]", item) for item in value[:ITEMS_LOOKED_AT]]
    else:
        kind = "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
        return [f"{path}:{kind}"]
    if not items or not depth:
        return [f"{path}:{type(value).__name__}"]
    return [key for place, item in items for key in _keys(item, place, depth - 1)]
