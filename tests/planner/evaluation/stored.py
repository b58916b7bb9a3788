"""Puts a play into the database, as the scheduler and the planner would have left it there."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from accounts.models import User
from jobs.models import Endpoint, Job, Run, RunResponse
from planner.evaluation.desk import Entry
from planner.evaluation.history import PlayedRun
from planner.evaluation.play import Played
from planner.evaluation.world import Member
from planner.models import Proposal
from planner.proposals.filing import stored_arguments
from planner.proposals.wishes import MINUTE_MS, ClearHints, PauseUntil, ProposeInterval, ProposeNextTime
from scheduling.plan.row import PlanRow
from tests.support.factories import make_job, make_user

_HINTS = {
    ProposeInterval: ("ai_hint_interval_expires_at", "ai_hint_interval_set_by", "ai_hint_interval_proposal_id"),
    ProposeNextTime: ("ai_hint_next_run_expires_at", "ai_hint_next_run_set_by", "ai_hint_next_run_proposal_id"),
    PauseUntil: ("paused_until", "paused_by", "pause_proposal_id"),
}


def store_endpoints(played: Played) -> dict[str, Endpoint]:
    """The endpoints of a world with the runs of a play, by name."""
    owner = make_user()
    jobs: dict[str, Job] = {}
    stored = {}
    for place, member in enumerate(played.world.members):
        job = jobs.setdefault(member.job, make_job(owner))
        # The order of creation is the order of the members.
        created_at = played.world.start - timedelta(microseconds=len(played.world.members) - place)
        stored[member.name] = _endpoint(member, job, owner, created_at, played.world.start)
        store_runs(stored[member.name], played.history.of(member.name))
    return stored


def _endpoint(member: Member, job: Job, owner: User, created_at: datetime, start: datetime) -> Endpoint:
    return Endpoint.objects.create(
        job=job,
        owner=owner,
        name=member.name,
        url="https://example.com/",
        host="example.com",
        description=member.description,
        method=member.method,
        rules=[dict(rule) for rule in member.rules],
        planner_mode=member.mode,
        created_at=created_at,
        anchor_at=start,
        **member.columns,
    )


def store_runs(endpoint: Endpoint, runs: list[PlayedRun]) -> None:
    for run in runs:
        stored = Run.objects.create(
            endpoint=endpoint,
            owner_id=endpoint.owner_id,
            scheduled_for=run.due_at,
            due_at=run.due_at,
            source=run.source,
            status="success" if run.ok else "failed",
            claimed_at=run.started_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
            duration_ms=run.duration_ms,
            status_code=run.status_code,
            error_kind=run.error_kind,
        )
        if run.body is not None:
            RunResponse.objects.create(
                run=stored,
                endpoint=endpoint,
                received_at=run.finished_at,
                body=run.body,
                sha256=sha256(run.body.encode()).hexdigest(),
                headers=dict(run.headers),
            )


@dataclass(frozen=True)
class Filed:
    """An entry of a desk, with its state at the time that was looked."""

    entry: Entry
    state: str


def store_state(endpoint: Endpoint, row: PlanRow, filed: list[Filed]) -> None:
    """What the planner and the governor know of the endpoint at one moment; `filed` is oldest first."""
    columns = asdict(row)
    for name in ("id", "status", "job_status", "created_at", "lease_owner", "uncalled"):
        del columns[name]
    for each in filed:
        entry = each.entry
        proposal = Proposal.objects.create(
            endpoint=endpoint,
            owner_id=endpoint.owner_id,
            created_at=entry.at,
            cause=entry.speaker,
            cause_key=entry.key,
            tool=entry.tool,
            arguments_asked=stored_arguments(entry.wish),
            arguments=stored_arguments(entry.granted),
            mode="auto",
            status=each.state,
            reason=entry.granted.reason,
            ttl_ms=getattr(entry.wish, "ttl_minutes", 0) * MINUTE_MS or None,
            applied_at=entry.at if entry.applied else None,
            hint_expires_at=entry.until,
        )
        if entry.applied and not isinstance(entry.wish, ClearHints):
            until, author, source = _HINTS[type(entry.wish)]
            if columns[until] is not None and columns[until] == entry.until:
                columns |= {author: "planner", source: proposal.pk}
    Endpoint.objects.filter(pk=endpoint.pk).update(**columns)
