"""A world to try a planner in: endpoints, what their targets answer over time, and what a person would want. Pure.

Targets of one world may share state: a call to one endpoint can change what another one meets. `targets` builds them
anew for every play, so that each play begins the same.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid5

from jobs.rules import Rule, parse_rules
from scheduling.exchange.masking import NO_SECRETS, Masker
from scheduling.exchange.outcome import ErrorKind, Outcome
from scheduling.simulation.scenario import EndpointSpec, Event, Scenario
from scheduling.simulation.targets import call_of, dice_of, outcome_of

if TYPE_CHECKING:
    from planner.evaluation.history import PlayedRun
    from planner.evaluation.play import Played

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE_MS = 60_000
_ID_SPACE = UUID("b7a1b5c2-6f0e-5c1e-8a55-9d1f0d1c7e42")


class Moment(NamedTuple):
    """When a call meets its target: the time, the minutes since the world began, and the endpoint's own dice."""

    now: datetime
    minute: float
    dice: Random

    def during(self, begin: float, end: float) -> bool:
        """Whether this is in the minutes [begin, end)."""
        return begin <= self.minute < end


@dataclass(frozen=True, slots=True)
class Reply:
    """What a target answers. A text is sent as it is, any other body as JSON; None is no body.

    A `status` of None is a call that got no response, by `error_kind` or else for its deadline. `ok` None goes by the
    status. Of a `truncated` body only the beginning was kept. `retry_after` is one more of the `headers` by which it
    asks to be left alone.
    """

    body: Any = None
    status: int | None = 200
    duration_ms: int = 100
    retry_after: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    ok: bool | None = None
    truncated: bool = False
    error_kind: ErrorKind | None = None

    @property
    def text(self) -> str:
        """The body as it is sent."""
        return "" if self.body is None else self.body if isinstance(self.body, str) else json.dumps(self.body)

    @property
    def wait_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers by which it asks to be left alone."""
        return self.headers if self.retry_after is None else (*self.headers, ("retry-after", self.retry_after))

    @property
    def succeeded(self) -> bool:
        """Whether the call counts as a success."""
        return self.ok if self.ok is not None else self.status is not None and 200 <= self.status < 300


Respond = Callable[[Moment], Reply]


@dataclass(frozen=True, slots=True)
class Member:
    """An endpoint of a world; `columns` are its schedule, bounds and policies, `rules` its owner's in the stored form.

    `job` tells siblings from strangers. `id` and `created_at` None are made from the name, and the start of the world.
    """

    name: str
    columns: Mapping[str, Any]
    description: str = ""
    rules: Sequence[Mapping[str, Any]] = ()
    mode: str = "auto"
    method: str = "GET"
    job: str = ""
    tier: str = ""
    id: UUID | None = None
    created_at: datetime | None = None
    misfire_grace_ms: int | None = None

    def parsed_rules(self) -> tuple[Rule, ...]:
        """Its rules. Raises InvalidInputError."""
        return parse_rules([dict(rule) for rule in self.rules])

    def spec(self, start: datetime) -> EndpointSpec:
        """The endpoint as the simulation knows it."""
        return EndpointSpec(
            name=self.name,
            id=self.id or uuid5(_ID_SPACE, self.name),
            created_at=self.created_at or start,
            columns=self.columns,
            misfire_grace_ms=self.misfire_grace_ms,
        )


def failed(run: "PlayedRun") -> bool:
    """What shows a spell of failures."""
    return not run.ok


@dataclass(frozen=True, slots=True)
class Spell:
    """A time of trouble, in minutes [begin, end), and by which runs of its endpoint one sees it."""

    endpoint: str
    what: str
    begin: float
    end: float
    shows: Callable[["PlayedRun"], bool] = failed


@dataclass(frozen=True, slots=True)
class Want:
    """Something that a person would want of a planner in this world, and whether it came about."""

    words: str
    holds: Callable[["Played"], bool]


@dataclass(frozen=True, slots=True)
class World:
    """What is played, for `minutes` from `start`; the same each time for the same seed.

    `secrets` are masked in whatever a model is told; with `bodies_withheld` it is told no bodies.
    """

    name: str
    summary: str
    minutes: float
    members: tuple[Member, ...]
    targets: Callable[[], Mapping[str, Respond]]
    spells: tuple[Spell, ...] = ()
    wants: tuple[Want, ...] = ()
    events: tuple[Event, ...] = ()
    start: datetime = NOON
    seed: int = 0
    hint_floor_ms: int = 10_000
    secrets: Masker = field(default=NO_SECRETS, repr=False)
    bodies_withheld: bool = False
    by_name: Mapping[str, Member] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {member.name: member for member in self.members})

    def at(self, minute: float) -> datetime:
        """The instant so many minutes after the start."""
        return self.start + timedelta(minutes=minute)

    def minute_of(self, instant: datetime) -> float:
        """The minutes from the start to the instant."""
        return (instant - self.start) / timedelta(minutes=1)

    def siblings(self, name: str) -> list[Member]:
        """The other endpoints of its job."""
        job = self.by_name[name].job
        return [member for member in self.members if member.job == job and member.name != name]

    def scenario(self) -> Scenario:
        """What the simulation plays."""
        return Scenario(
            name=self.name,
            start=self.start,
            end=self.at(self.minutes),
            endpoints=tuple(member.spec(self.start) for member in self.members),
            events=self.events,
            seed=self.seed,
            hint_floor_ms=self.hint_floor_ms,
        )


class WorldTarget:
    """The target of one endpoint in one play."""

    def __init__(self, world: World, spec: EndpointSpec, respond: Respond) -> None:
        self._start, self._respond = world.start, respond
        self._call, self._dice = call_of(spec), dice_of(spec, world.seed)

    def answer(self, now: datetime) -> tuple[Outcome, timedelta]:
        """What the world answers at this time."""
        reply = self._respond(Moment(now, (now - self._start) / timedelta(minutes=1), self._dice))
        outcome = outcome_of(
            self._call,
            ok=reply.succeeded,
            status_code=reply.status,
            wait_headers=reply.wait_headers,
            body=reply.text,
            truncated=reply.truncated,
            error_kind=reply.error_kind,
        )
        return outcome, timedelta(milliseconds=reply.duration_ms)
