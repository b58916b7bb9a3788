"""Who deserves a look by the model, how many a pass takes, and when the next look is due. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from uuid import UUID

from planner.attention.numbers import Usual, numbers_out_of_range
from scheduling.exchange.bodies import Unparsable, safe_json

# Between two analyses of one endpoint, whatever happens to it: a storm of failures is no storm of analyses.
SHORTEST_GAP = timedelta(minutes=5)
# What changes cannot start more often than this within an hour: an endpoint that comes and goes.
MOST_LOOKS_AN_HOUR = 4
PAUSE_ENDS_SOON = timedelta(minutes=10)
AFTER_FAILED_SESSION = timedelta(minutes=10)
FAILING_AGAIN_IN = timedelta(minutes=5)
FAILING_AGAIN_AT_MOST = timedelta(minutes=60)
ADVISED_AGAIN_IN = timedelta(minutes=15)
HEALTHY_AGAIN_IN = timedelta(minutes=60)
SHAPE_DEPTH = 3
ITEMS_LOOKED_AT = 20
# Keys and their number are the server's choice: what a digest is made of stays below 200 KB of text.
MOST_PLACES = 2_000
LONGEST_PLACE = 100

# What one pass takes; the rest keeps its turn, the endpoint that was looked at longest ago first.
MOST_OF_A_JOB = 10
MOST_OF_AN_OWNER = 50
MOST_IN_A_PASS = 400
MOST_BY_THEIR_BODIES = 100
# A cautious size of an analysis: an owner gets no more places than the day's tokens pay for.
USUAL_TOKENS = 2_500
# One endpoint may spend a tenth of its owner's tokens of the day, and one full session in any case: a model that asks
# to look again at once, talked into it or not, leaves the owner's other endpoints theirs.
SHARE_OF_AN_ENDPOINT = 10


class Trigger(StrEnum):
    """Why an endpoint is analysed; the most urgent first."""

    FAILURES_ROSE = "failures_rose"
    RECOVERED = "recovered"
    PAUSE_ENDS = "pause_ends"
    NEVER_ANALYSED = "never_analysed"
    DUE = "due"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    SHAPE_CHANGED = "shape_changed"


@dataclass(frozen=True, slots=True)
class LastSession:
    """The latest analysis of an endpoint; `shape` None means that there was no JSON body.

    `next_analysis_at` is what the session noted: an interrupted one did not get to write it on the endpoint.
    """

    analyzed_at: datetime
    failure_count: int
    shape: str | None
    numbers: Mapping[str, Usual] = field(default_factory=dict)
    next_analysis_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint that may deserve a look.

    `tokens_left` is what the budgets of its owner and of the service still hold today; `body` is the latest one, None
    where there is none or it is not looked at; `looks_this_hour` counts its sessions of the last hour; `pause_ends_at`
    is None without a pause of the planner.
    """

    endpoint_id: UUID
    owner_id: UUID
    failure_count: int
    next_analysis_at: datetime | None
    last: LastSession | None
    body: str | None
    pause_ends_at: datetime | None
    tokens_left: int
    job_id: UUID | None = None
    ran_since: bool = True
    looks_this_hour: int = 0


def trigger_of(candidate: Candidate, now: datetime) -> Trigger | None:
    """Why the endpoint deserves a look now; None when it does not."""
    if candidate.tokens_left <= 0:
        return None
    last = candidate.last
    if last is None:
        return Trigger.NEVER_ANALYSED
    if last.analyzed_at > now - SHORTEST_GAP:
        return None
    changes_count = candidate.looks_this_hour < MOST_LOOKS_AN_HOUR
    if changes_count and _failures_rose(last.failure_count, candidate.failure_count):
        return Trigger.FAILURES_ROSE
    if changes_count and last.failure_count and not candidate.failure_count:
        return Trigger.RECOVERED
    if _pause_ends(candidate.pause_ends_at, last.analyzed_at, now):
        return Trigger.PAUSE_ENDS
    if not candidate.ran_since:
        return None
    if _due(candidate.next_analysis_at, last.next_analysis_at, now):
        return Trigger.DUE
    if changes_count and candidate.body is not None:
        return _change_of_body(candidate.body, last)
    return None


def _failures_rose(before: int, after: int) -> bool:
    """Whether a streak began, or doubled, or another one has begun since."""
    return after > 0 and (after >= 2 * before or after < before)


def _pause_ends(pause_ends_at: datetime | None, analyzed_at: datetime, now: datetime) -> bool:
    """Whether the pause ends soon and was not looked at for that already."""
    if pause_ends_at is None:
        return False
    return now < pause_ends_at <= now + PAUSE_ENDS_SOON and analyzed_at < pause_ends_at - PAUSE_ENDS_SOON


def _due(noted_on_endpoint: datetime | None, noted_by_session: datetime | None, now: datetime) -> bool:
    if noted_on_endpoint is None or noted_on_endpoint <= now:
        return True
    return noted_by_session is not None and noted_by_session <= now


def _change_of_body(body: str, last: LastSession) -> Trigger | None:
    if numbers_out_of_range(body, last.numbers):
        return Trigger.NUMBER_OUT_OF_RANGE
    return Trigger.SHAPE_CHANGED if body_shape(body) != last.shape else None


def with_places(chosen: Sequence[Candidate], changed: Iterable[Candidate]) -> Iterator[Candidate]:
    """What was chosen, then of those whose body changed as many as the places of the pass allow.

    Of a job and of an owner no more than their places in all, so that a change in many bodies at once is no storm.
    """
    jobs = Counter(candidate.job_id for candidate in chosen)
    owners = Counter(candidate.owner_id for candidate in chosen)
    yield from chosen
    places = MOST_BY_THEIR_BODIES
    for candidate in changed:
        if jobs[candidate.job_id] >= MOST_OF_A_JOB or owners[candidate.owner_id] >= MOST_OF_AN_OWNER:
            continue
        jobs[candidate.job_id] += 1
        owners[candidate.owner_id] += 1
        places -= 1
        yield candidate
        if not places:
            return


def next_look(now: datetime, *, failure_count: int, advised: bool, asked_in_ms: int | None) -> datetime:
    """When the endpoint is due again: as the model asked, else by its state. `advised`: a hint is in force.

    While it fails, 5 minutes for each two failures in a row, at most 60, and never sooner than that, even if asked.
    """
    asked = timedelta(milliseconds=asked_in_ms) if asked_in_ms is not None else None
    if failure_count:
        gap = FAILING_AGAIN_IN * min(max(1.0, failure_count / 2), FAILING_AGAIN_AT_MOST / FAILING_AGAIN_IN)
        return now + max(gap, asked or gap)
    if asked is not None:
        return now + asked
    return now + (ADVISED_AGAIN_IN if advised else HEALTHY_AGAIN_IN)


def body_shape(text: str) -> str | None:
    """A short digest of which keys with which types a JSON body has, whatever their values; None for other bodies.

    Of a large body the first two thousand places count, of a long path its first hundred characters.
    """
    document = safe_json(text)
    if isinstance(document, Unparsable):
        return None
    places: set[str] = set()
    for place in _keys(document, "", SHAPE_DEPTH):
        places.add(place)
        if len(places) >= MOST_PLACES:
            break
    return blake2b("\n".join(sorted(places)).encode(), digest_size=16).hexdigest()


def _keys(value: object, path: str, depth: int) -> Iterator[str]:
    items: Iterable[tuple[str, object]]
    if isinstance(value, dict):
        items = ((_place(path, f".{name[:LONGEST_PLACE]}"), item) for name, item in value.items())
    elif isinstance(value, list):
        items = ((_place(path, "[]"), item) for item in value[:ITEMS_LOOKED_AT])
    else:
        kind = "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
        yield f"{path}:{kind}"
        return
    if not value or not depth:
        yield f"{path}:{type(value).__name__}"
        return
    for place, item in items:
        yield from _keys(item, place, depth - 1)


def _place(path: str, step: str) -> str:
    return f"{path}{step}"[:LONGEST_PLACE]
