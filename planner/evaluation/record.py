"""Reads what an endpoint and its siblings did from the database, as a world to play again and as the play that it was.

Targets are sampled and held: at any time they answer what the latest recorded run up to then was answered.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Max

from jobs.errors import ConflictError
from jobs.models import Endpoint, EndpointStatus, PlannerMode, Run, RunStatus
from planner.analyst.dossier import subject_of
from planner.evaluation.desk import Entry
from planner.evaluation.history import History, PlayedRun
from planner.evaluation.play import Played
from planner.evaluation.silences import Span, silences
from planner.evaluation.world import Member, Moment, Reply, Respond, Spell, World
from planner.models import Proposal
from planner.proposals.judgement import Verdict
from planner.proposals.wishes import BadArgumentsError, Speaker, stored_wish
from scheduling.exchange.outcome import ErrorKind
from scheduling.exchange.server_wait import is_wait_header
from scheduling.simulation.scenario import Event, Pause

MOST_RUNS = 100_000
_FINISHED = (RunStatus.SUCCESS, RunStatus.FAILED)
_COLUMNS = (
    "baseline_interval_ms",
    "baseline_cron",
    "run_once_at",
    "timezone",
    "starts_at",
    "ends_at",
    "jitter_ms",
    "min_interval_ms",
    "max_interval_ms",
    "recovery_check_ms",
    "retry_limit",
)


class TooManyRunsError(ValueError):
    """The record is too long to be played at once."""


def recorded(endpoint_id: UUID, *, begin: datetime, end: datetime) -> Played:
    """What happened to the endpoint and its siblings in [begin, end); its world answers as they were answered.

    The named endpoint, and siblings that the planner is not off for, are in the mode `auto`, to see what it would do.
    Raises Endpoint.DoesNotExist, TooManyRunsError for more than `MOST_RUNS` runs, and ConflictError where a proposal
    cannot be read.
    """
    chosen = Endpoint.objects.select_related("job").get(pk=endpoint_id)
    others = Endpoint.objects.filter(job_id=chosen.job_id, owner_id=chosen.owner_id).exclude(pk=chosen.pk)
    kept = others.exclude(status=EndpointStatus.ARCHIVED).order_by("created_at", "id")
    names = _names([chosen, *kept])
    rows = Run.objects.filter(
        endpoint_id__in=list(names), status__in=_FINISHED, started_at__gte=begin, started_at__lt=end
    ).select_related("response")
    if rows.count() > MOST_RUNS:
        raise TooManyRunsError(f"More than {MOST_RUNS} runs were recorded in this time; take fewer hours.")
    history = History(_played(run, names[run.endpoint_id]) for run in rows.defer("decision").order_by("finished_at"))
    before = dict(
        Run.objects.filter(endpoint_id__in=list(names), scheduled_for__lt=begin, due_at__lt=begin)
        .order_by()
        .values_list("endpoint_id")
        .annotate(last=Max("scheduled_for"))
    )
    subject = subject_of(endpoint_id)
    members = tuple(
        _member(endpoint, names[endpoint.pk], chosen, begin, before.get(endpoint.pk)) for endpoint in (chosen, *kept)
    )
    entries = tuple(_entries(names, begin, end))
    world = World(
        name=chosen.name,
        summary=f"as recorded, with its {len(names) - 1} siblings of the job {chosen.job.name}",
        minutes=(end - begin) / timedelta(minutes=1),
        members=members,
        targets=lambda: {name: _sampled(history.of(name)) for name in names.values()},
        spells=tuple(spell for name in names.values() for spell in _spells(name, history.of(name), begin, end)),
        events=tuple(event for member in members for event in _pauses(member, history, entries, begin, end)),
        start=begin,
        hint_floor_ms=settings.ENV.hint_floor_ms,
        secrets=subject.secrets,
        bodies_withheld=subject.bodies_withheld,
    )
    return Played(world, history, entries)


def _pauses(
    member: Member, history: History, entries: Sequence[Entry], begin: datetime, end: datetime
) -> Iterator[Event]:
    """Pauses over the times in which nobody called the endpoint, though its schedule would have."""
    row = member.spec(begin).new_row()
    if row.run_once_at is not None:
        return
    advised = [
        Span(entry.at, min(entry.ended_at or end, entry.until, end))
        for entry in entries
        if entry.endpoint == member.name and entry.applied and entry.until is not None
    ]
    runs = sorted(history.of(member.name), key=lambda run: run.started_at)
    for silence in silences(row, runs, begin, end, advised=advised):
        yield Event(silence.begin, member.name, Pause(silence.end, "it was not called then"))


def _names(endpoints: Sequence[Endpoint]) -> dict[UUID, str]:
    """A name of its own for each; the oldest keeps a name that several have."""
    names: dict[UUID, str] = {}
    for endpoint in sorted(endpoints, key=lambda each: (each.created_at, each.pk)):
        taken = endpoint.name in names.values()
        names[endpoint.pk] = f"{endpoint.name} {endpoint.pk}" if taken else endpoint.name
    return names


def _member(endpoint: Endpoint, name: str, chosen: Endpoint, begin: datetime, last_slot_at: datetime | None) -> Member:
    columns: dict[str, Any] = {column: getattr(endpoint, column) for column in _COLUMNS}
    interval_ms = endpoint.baseline_interval_ms
    # A grid that the owner anchored begins with its window.
    if interval_ms is not None and endpoint.anchor_at != endpoint.starts_at:
        interval = timedelta(milliseconds=interval_ms)
        # An anchor of later has the same grid before it.
        back = max(-((begin - endpoint.anchor_at) // interval), 0) * interval
        columns["anchor_at"] = endpoint.anchor_at - back
    off = endpoint.planner_mode == PlannerMode.OFF and endpoint.pk != chosen.pk
    return Member(
        name=name,
        columns=columns | {"last_slot_at": last_slot_at, "last_started_at": last_slot_at},
        description=endpoint.description,
        rules=endpoint.rules or (),
        mode="off" if off else "auto",
        method=endpoint.method,
        id=endpoint.pk,
        created_at=endpoint.created_at,
        misfire_grace_ms=endpoint.misfire_grace_ms,
    )


def _played(run: Run, name: str) -> PlayedRun:
    assert run.started_at is not None
    assert run.finished_at is not None
    response = getattr(run, "response", None)
    return PlayedRun(
        endpoint=name,
        due_at=run.due_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        source=run.source,
        ok=run.status == RunStatus.SUCCESS,
        status_code=run.status_code,
        error_kind=run.error_kind,
        headers=_wait_headers(response.headers) if response is not None else (),
        body=response.body if response is not None else None,
        truncated=response is not None and response.truncated,
        content_type=response.content_type if response is not None else None,
        verdicts=(response.rule_verdicts if response is not None else None) or {},
    )


def _wait_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Those that ask to wait, without the `Date`: the answer is given again at other times of a virtual clock."""
    return tuple((name, value) for name, value in headers.items() if is_wait_header(name))


def _sampled(runs: Sequence[PlayedRun]) -> Respond:
    """Answers as the latest of the runs was answered, before the first as that one; well and empty without any."""
    started = [run.started_at for run in runs]

    def respond(at: Moment) -> Reply:
        if not runs:
            return Reply()
        run = runs[max(bisect_right(started, at.now) - 1, 0)]
        return Reply(
            body=run.body,
            status=run.status_code,
            duration_ms=max(round(run.duration_ms), 1),
            headers=run.headers,
            ok=run.ok,
            truncated=run.truncated,
            error_kind=next((kind for kind in ErrorKind if kind == run.error_kind), None),
        )

    return respond


def _spells(name: str, runs: Sequence[PlayedRun], begin: datetime, end: datetime) -> list[Spell]:
    """The times from a first failed run to the next one that succeeded."""
    minute = timedelta(minutes=1)
    found: list[Spell] = []
    since: datetime | None = None
    for run in runs:
        if not run.ok and since is None:
            since = run.started_at
        elif run.ok and since is not None:
            found.append(Spell(name, "failures", (since - begin) / minute, (run.started_at - begin) / minute))
            since = None
    if since is not None:
        found.append(Spell(name, "failures", (since - begin) / minute, (end - begin) / minute))
    return found


def _entries(names: dict[UUID, str], begin: datetime, end: datetime) -> list[Entry]:
    """What the planner asked for in that time."""
    filed = Proposal.objects.filter(endpoint_id__in=list(names), created_at__gte=begin, created_at__lt=end)
    found = []
    for proposal in filed.order_by("created_at", "id"):
        try:
            wish = stored_wish(proposal.tool, proposal.arguments_asked)
            granted = stored_wish(proposal.tool, proposal.arguments or proposal.arguments_asked)
        except BadArgumentsError as refusal:
            raise ConflictError("proposal_unreadable", f"{refusal} Its id is {proposal.pk}.") from refusal
        found.append(
            Entry(
                at=proposal.applied_at or proposal.created_at,
                endpoint=names[proposal.endpoint_id],
                speaker=Speaker(proposal.cause),
                key=proposal.cause_key,
                wish=wish,
                granted=granted,
                verdict=_verdict(proposal),
                note=proposal.status_reason or "",
                until=proposal.hint_expires_at,
                ended_at=proposal.ended_at,
            )
        )
    return found


def _verdict(proposal: Proposal) -> Verdict:
    """What was decided at first; an offer that was turned down or ran out was one that waited."""
    if proposal.applied_at is not None:
        return Verdict.APPLIED
    return next((verdict for verdict in Verdict if verdict == proposal.status), Verdict.PENDING)
