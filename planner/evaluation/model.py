"""The model pass on a virtual clock: who deserves a look, what it is told, what its tools do. Pure: asking is given."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from planner.analyst.briefing import messages
from planner.analyst.conversation import Ask, Ended, EndStatus, Limits, converse
from planner.attention.numbers import BODIES_REMEMBERED, usual_numbers
from planner.attention.policy import (
    AFTER_FAILED_SESSION,
    Candidate,
    LastSession,
    Trigger,
    body_shape,
    next_look,
    trigger_of,
)
from planner.evaluation.desk import Desk
from planner.evaluation.dossier import (
    briefing_of,
    latest_body,
    latest_response,
    response_history,
    sibling_responses,
    siblings_of,
)
from planner.evaluation.history import PlayedRun
from planner.proposals.judgement import Verdict
from planner.proposals.wishes import (
    Arguments,
    BadArgumentsError,
    GetLatestResponse,
    GetResponseHistory,
    Speaker,
    Wish,
    tool_schemas,
)

PASS_EVERY = timedelta(minutes=5)
SESSION_TOKENS = 20_000
_UNLIMITED = 2**53


@dataclass(slots=True)
class Session:
    """One analysis; `kind` says why it was not completed."""

    at: datetime
    endpoint: str
    trigger: Trigger
    number: int
    status: EndStatus = EndStatus.FAILED
    kind: str | None = None
    reasoning: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The session as JSON."""
        return {**asdict(self), "at": self.at.isoformat()}


class ModelPlanner:
    """Looks every five minutes at who deserves it. Time stands still while the model thinks.

    After `most_sessions`, or an error that asking again will not help, it asks no more; `gave_up` says why.
    """

    def __init__(self, ask: Ask, *, wait: Callable[[float], object] | None = None, most_sessions: int = 1_000) -> None:
        self._ask, self._wait, self._most_sessions = ask, wait, most_sessions
        self.sessions: list[Session] = []
        self.gave_up: str | None = None

    def begin(self, desk: Desk) -> None:
        """A play begins."""
        self._desk = desk
        self._last: dict[str, LastSession] = {}
        self._due: dict[str, datetime] = {}
        self._pass_at = desk.world.start + PASS_EVERY
        desk.stage.wake(self._pass_at)

    def settled(self, run: PlayedRun) -> None:
        """A run has ended; the next pass will see it."""

    def woken(self) -> None:
        """Makes the pass when its time has come."""
        now = self._desk.now
        if now < self._pass_at:
            return
        self._pass_at = now + PASS_EVERY
        self._desk.stage.wake(self._pass_at)
        found = [(member.name, self._trigger(member.name)) for member in self._desk.world.members]
        chosen = [(name, trigger) for name, trigger in found if trigger is not None]
        for name, trigger in sorted(chosen, key=lambda pair: list(Trigger).index(pair[1])):
            if len(self.sessions) >= self._most_sessions:
                self.gave_up = f"The model was asked for {self._most_sessions} analyses, the most that were allowed."
            if self.gave_up is None:
                self._analyse(name, trigger)

    def _trigger(self, name: str) -> Trigger | None:
        """Why the endpoint is looked at now; None where it is not."""
        desk, now = self._desk, self._desk.now
        row, pause = desk.stage.row(name), desk.advised(name).pause
        runs = desk.history.latest(name, 1)
        by_person = pause is not None and pause.speaker is Speaker.PERSON
        active = row.status == row.job_status == "active"
        if desk.world.by_name[name].mode == "off" or not active or by_person or not runs:
            return None
        last = self._last.get(name)
        looks = sum(session.endpoint == name and session.at > now - timedelta(hours=1) for session in self.sessions)
        candidate = Candidate(
            endpoint_id=row.id,
            owner_id=row.id,
            failure_count=row.failure_count,
            next_analysis_at=self._due.get(name),
            last=last,
            body=latest_body(desk, name),
            pause_ends_at=pause.expires_at if pause is not None else None,
            tokens_left=_UNLIMITED,
            ran_since=last is None or runs[0].finished_at > last.analyzed_at,
            looks_this_hour=looks,
        )
        return trigger_of(candidate, now)

    def _analyse(self, name: str, trigger: Trigger) -> None:
        desk = self._desk
        session = Session(desk.now, name, trigger, len(self.sessions) + 1)
        self.sessions.append(session)
        briefing = briefing_of(desk, name, trigger=trigger.value)
        bodies = [run.body for run in desk.history.latest(name, BODIES_REMEMBERED) if run.body is not None]
        failures_before = desk.stage.row(name).failure_count

        def book(prompt: int, completion: int) -> None:
            session.prompt_tokens += prompt
            session.completion_tokens += completion

        tools = tool_schemas(siblings=bool(siblings_of(desk, name)))
        ended = converse(
            messages(briefing, tools),
            tools,
            ask=self._ask,
            use=lambda arguments: self._use(arguments, session),
            limits=Limits(tokens=SESSION_TOKENS),
            seconds_used=lambda: 0.0,
            on_answer=book,
            on_call=lambda carried: session.calls.append(carried.name),
            wait=self._wait,
        )
        session.status, session.kind = ended.status, ended.kind
        session.reasoning = ended.verdict.reasoning if ended.verdict is not None else ""
        if ended.error is not None and ended.error.hopeless:
            self.gave_up = str(ended.error)
        due = self._due[name] = self._due_again(name, ended)
        shape = body_shape(briefing.body) if briefing.body is not None else None
        self._last[name] = LastSession(desk.now, failures_before, shape, usual_numbers(bodies), due)

    def _due_again(self, name: str, ended: Ended) -> datetime:
        now, in_force = self._desk.now, self._desk.advised(name)
        if ended.verdict is None:
            return now + AFTER_FAILED_SESSION
        return next_look(
            now,
            failure_count=self._desk.stage.row(name).failure_count,
            advised=in_force.interval is not None or in_force.pause is not None,
            asked_in_ms=ended.verdict.next_analysis_in_ms,
        )

    def _use(self, arguments: Arguments, session: Session) -> str:
        """Carries out one tool call and returns what the model is told. Raises BadArgumentsError."""
        desk, name = self._desk, session.endpoint
        if isinstance(arguments, Wish):
            return self._propose(arguments, session)
        if isinstance(arguments, GetLatestResponse):
            told = latest_response(desk, name)
        elif isinstance(arguments, GetResponseHistory):
            page = {"limit": arguments.limit, "offset": arguments.offset}
            told = response_history(desk, name, **page, include_bodies=arguments.include_bodies)
        else:
            told = sibling_responses(desk, name, include_responses=getattr(arguments, "include_responses", False))
        return json.dumps(told, ensure_ascii=False)

    def _propose(self, wish: Wish, session: Session) -> str:
        target = wish.endpoint or session.endpoint
        from_sibling = session.endpoint if target != session.endpoint else None
        if from_sibling is not None and all(
            sibling.name != target for sibling in self._desk.world.siblings(session.endpoint)
        ):
            raise BadArgumentsError("Refused: there is no endpoint of that name in this job.")
        judged = self._desk.file(target, wish, speaker=Speaker.MODEL, session=session.number, from_sibling=from_sibling)
        status = judged.verdict.value if judged.verdict is not Verdict.NOTHING else "Not done"
        return f"{status}. {judged.why}".strip()
