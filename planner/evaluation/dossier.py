"""What the model is told of an endpoint of a play, in its briefing and when it asks for more. Pure.

As `planner.analyst.dossier` tells it from the database; a test holds the two together, word by word.
"""

from collections.abc import Sequence
from datetime import timedelta
from itertools import takewhile
from typing import Any

from planner.analyst.briefing import (
    LONG_BODY_LENGTH,
    MOST_ACTIONS,
    MOST_RUNS,
    SHORT_BODY_LENGTH,
    ActionLine,
    Briefing,
    HealthLine,
    RunLine,
    SiblingLine,
    as_data,
    body_as_data,
)
from planner.evaluation.desk import Desk, Entry
from planner.evaluation.history import PlayedRun
from planner.evaluation.world import Member
from scheduling.plan.row import PlanRow
from scheduling.plan.wording import duration_words, instant_words

HEALTH_HOURS = (1, 4, 24)
MOST_ENDPOINTS = 30
TOLD_ARGUMENTS = ("interval_ms", "ttl_minutes", "next_run_at", "until")


def siblings_of(desk: Desk, name: str) -> list[Member]:
    """The siblings that the model may hear of."""
    return [sibling for sibling in desk.world.siblings(name) if sibling.mode != "off"][:MOST_ENDPOINTS]


def briefing_of(desk: Desk, name: str, *, trigger: str) -> Briefing:
    """The facts of the endpoint as they stand."""
    member, row, history = desk.world.by_name[name], desk.stage.row(name), desk.history
    return Briefing(
        now=desk.now,
        trigger=trigger.replace("_", " "),
        name=name,
        description=member.description,
        method=member.method,
        baseline=_baseline(desk, row),
        limits_ms=desk.bounds(name).limits_ms(),
        failure_count=row.failure_count,
        next_run_at=row.next_run_at,
        next_source=row.next_source,
        in_force=_in_force(desk, name, row),
        health=_health(desk, name),
        runs=[_line(run) for run in history.latest(name, MOST_RUNS)],
        body=latest_body(desk, name),
        actions=[_action(desk, entry) for entry in _entries(desk, name)[:MOST_ACTIONS]],
        siblings=[_sibling(desk, sibling) for sibling in siblings_of(desk, name)],
        secrets=desk.world.secrets,
        bodies_withheld=desk.world.bodies_withheld,
    )


def latest_body(desk: Desk, name: str) -> str | None:
    """The body of the latest response; None where there was none."""
    return next((run.body for run in reversed(desk.history.of(name)) if run.body is not None), None)


def latest_response(desk: Desk, name: str) -> dict[str, Any]:
    """What `get_latest_response` answers."""
    run = next((run for run in reversed(desk.history.of(name)) if run.body is not None), None)
    if run is None or run.body is None:
        return {"response": None}
    return {
        "received_at": run.finished_at.isoformat(),
        "content_type": as_data(run.content_type or "", desk.world.secrets, 100),
        "untrusted_body": _told_body(run.body, desk, LONG_BODY_LENGTH),
    }


def response_history(desk: Desk, name: str, *, limit: int, offset: int, include_bodies: bool) -> dict[str, Any]:
    """What `get_response_history` answers."""
    runs = desk.history.latest(name, limit, skip=offset)
    return {"runs": [_told(run, desk, include_bodies) for run in runs]}


def sibling_responses(desk: Desk, name: str, *, include_responses: bool) -> dict[str, Any]:
    """What `get_sibling_latest_responses` answers."""
    told = []
    for sibling in siblings_of(desk, name):
        runs = desk.history.latest(sibling.name, 1)
        failures = desk.stage.row(sibling.name).failure_count
        entry = {"name": as_data(sibling.name, desk.world.secrets, 100), "failures_in_a_row": failures}
        told.append(entry | (_told(runs[0], desk, include_responses) if runs else {}))
    return {"siblings": told}


def _told(run: PlayedRun, desk: Desk, with_body: bool) -> dict[str, Any]:
    told = {
        "at": run.due_at.isoformat(timespec="seconds"),
        "status": _status(run),
        "status_code": run.status_code,
        "duration_ms": round(run.duration_ms),
        "error_kind": run.error_kind,
    }
    if with_body and run.body is not None:
        told["untrusted_body"] = _told_body(run.body, desk, SHORT_BODY_LENGTH)
    return told


def _told_body(body: str, desk: Desk, limit: int) -> str:
    return body_as_data(body, desk.world.secrets, limit, withheld=desk.world.bodies_withheld)


def _status(run: PlayedRun) -> str:
    return "success" if run.ok else "failed"


def _baseline(desk: Desk, row: PlanRow) -> str:
    if row.baseline_interval_ms is not None:
        return f"baseline every {duration_words(row.baseline_interval_ms)}"
    if row.baseline_cron is not None:
        return f"baseline cron {row.baseline_cron} in {row.timezone}"
    return f"once at {instant_words(row.run_once_at, desk.now)}" if row.run_once_at else "once"


def _in_force(desk: Desk, name: str, row: PlanRow) -> list[str]:
    advised, now = desk.advised(name), desk.now
    words = []
    if advised.interval is not None and advised.interval.interval_ms is not None:
        pace, until = duration_words(advised.interval.interval_ms), instant_words(advised.interval.expires_at, now)
        words.append(f"every {pace} until {until} by {advised.interval.speaker.value}")
    if advised.oneshot is not None and row.ai_hint_next_run_at is not None:
        words.append(f"one run at {instant_words(row.ai_hint_next_run_at, now)} by {advised.oneshot.speaker.value}")
    if advised.pause is not None:
        words.append(f"paused until {instant_words(advised.pause.expires_at, now)} by {advised.pause.speaker.value}")
    return words


def _health(desk: Desk, name: str) -> list[HealthLine]:
    since = {hours: desk.now - timedelta(hours=hours) for hours in HEALTH_HOURS}
    # A run that was due within a window has ended within it.
    begin = since[max(HEALTH_HOURS)]
    runs = list(takewhile(lambda run: run.finished_at > begin, reversed(desk.history.of(name))))
    lines = []
    for hours in HEALTH_HOURS:
        within = [run for run in runs if run.due_at > since[hours]]
        durations = sorted(run.duration_ms for run in within)
        succeeded = sum(run.ok for run in within)
        lines.append(HealthLine(hours, len(within), succeeded, percentile(durations, 0.5), percentile(durations, 0.95)))
    return lines


def percentile(values: Sequence[float], share: float) -> float | None:
    """As PostgreSQL's percentile_cont over sorted values; None without any."""
    if not values:
        return None
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)


def _line(run: PlayedRun) -> RunLine:
    return RunLine(run.due_at, _status(run), run.status_code, run.duration_ms, run.error_kind, run.source)


def _entries(desk: Desk, name: str) -> list[Entry]:
    """What was asked for the endpoint, newest first."""
    return [entry for entry in reversed(desk.entries) if entry.endpoint == name]


def _action(desk: Desk, entry: Entry) -> ActionLine:
    values = {key: entry.values[key] for key in TOLD_ARGUMENTS if entry.values.get(key) is not None}
    return ActionLine(entry.at, entry.tool, values, f"{entry.speaker.value}, {desk.state(entry)}")


def _sibling(desk: Desk, member: Member) -> SiblingLine:
    runs = desk.history.latest(member.name, 1)
    return SiblingLine(
        name=member.name,
        description=member.description,
        status=_status(runs[0]) if runs else None,
        failure_count=desk.stage.row(member.name).failure_count,
        mode=member.mode,
    )
