"""What the endpoint's page shows: its state, its decision, and the picture of calls against the baseline."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.urls import reverse

from jobs.admin.pictures import (
    Mark,
    Window,
    axis_labels,
    bar_chart,
    choose_window,
    stripe,
)
from jobs.admin.reads import HINT_SOURCES, MAX_SLOTS, bands_of, baseline_slots
from jobs.admin.words import ms_words, tone_of, utc_words
from jobs.models import Endpoint, Run, RunStatus
from jobs.standing import blocked_by, blocked_words, next_note
from scheduling.plan.decision import as_of

SHOWN_RUNS = 80
LISTED_RUNS = 12
_SHAPES = {
    RunStatus.SUCCESS: "dot",
    RunStatus.FAILED: "cross",
    RunStatus.ABANDONED: "cross",
    RunStatus.RUNNING: "ring",
    RunStatus.MISSED: "gap",
    RunStatus.CANCELED: "gap",
}


def endpoint_context(endpoint: Endpoint, now: datetime) -> dict[str, Any]:
    """Everything that the page's parts need, in a fixed number of queries."""
    runs = list(Run.objects.filter(endpoint=endpoint).defer("decision", "late_result").order_by("-due_at")[:SHOWN_RUNS])
    return {
        "endpoint": endpoint,
        "now": now,
        "blocked": blocked_words(endpoint),
        "blocked_by": blocked_by(endpoint),
        "note": next_note(endpoint),
        "decision": as_of(endpoint.next_decision or {}, now, claimed=endpoint.lease_owner is not None),
        "hints": _hints(endpoint, now),
        "paused": endpoint.paused_until is not None and endpoint.paused_until > now,
        "asked_to_wait": endpoint.server_wait_until is not None and endpoint.server_wait_until > now,
        "held": endpoint.planner_hold_until is not None and endpoint.planner_hold_until > now,
        "runs": runs[:LISTED_RUNS],
        "more_runs": len(runs) > LISTED_RUNS,
        "picture": _picture(endpoint, runs, now) if runs else None,
    }


def _hints(endpoint: Endpoint, now: datetime) -> list[dict[str, Any]]:
    """The hints in force: what, until when, by whom, why, and the proposal behind it."""
    hints = []
    expires_at = endpoint.ai_hint_interval_expires_at
    if endpoint.ai_hint_interval_ms is not None and expires_at is not None and expires_at > now:
        hints.append(
            {
                "what": f"every {ms_words(endpoint.ai_hint_interval_ms)}",
                "until": expires_at,
                "by": endpoint.ai_hint_interval_set_by,
                "reason": endpoint.ai_hint_interval_reason,
                "proposal_id": endpoint.ai_hint_interval_proposal_id,
            }
        )
    expires_at = endpoint.ai_hint_next_run_expires_at
    if endpoint.ai_hint_next_run_at is not None and expires_at is not None and expires_at > now:
        hints.append(
            {
                "what": f"once at {utc_words(endpoint.ai_hint_next_run_at)}",
                "until": expires_at,
                "by": endpoint.ai_hint_next_run_set_by,
                "reason": endpoint.ai_hint_next_run_reason,
                "proposal_id": endpoint.ai_hint_next_run_proposal_id,
            }
        )
    return hints


def _picture(endpoint: Endpoint, runs: Sequence[Run], now: datetime) -> dict[str, Any]:
    """The three charts. `runs` come newest first and are not empty."""
    window = choose_window([run.due_at for run in runs], now, endpoint.next_run_at)
    runs = [run for run in runs if run.due_at >= window.since]
    slots = baseline_slots(endpoint, window.since, window.until)
    marks = [_mark(window, run) for run in reversed(runs)]
    begun = [run for run in reversed(runs) if run.started_at is not None]
    bands = bands_of(endpoint, runs, window.since, window.until)
    return {
        "since": window.since,
        "labels": axis_labels(window),
        "now_x": window.x(now),
        "next_x": _place(endpoint.next_run_at, window),
        "slots": [window.x(slot) for slot in slots],
        "slots_cut": len(slots) == MAX_SLOTS,
        "marks": marks,
        "stripes": [
            stripe(window, band.begins_at, band.ends_at, band.kind, band.label, f"{band.label}: {band.title}")
            for band in bands
        ],
        "durations": bar_chart(
            window,
            [
                (
                    run.due_at,
                    run.duration_ms,
                    tone_of(run.status),
                    f"{utc_words(run.due_at)}: {ms_words(run.duration_ms)}",
                )
                for run in begun
                if run.duration_ms is not None
            ],
        ),
        "lateness": bar_chart(
            window,
            [
                (run.due_at, late, "calm", f"{utc_words(run.due_at)}: {ms_words(late)} late")
                for run in begun
                if (late := run.lateness_ms) is not None
            ],
        ),
        "summary": _summary(runs, len(slots)),
    }


def _place(instant: datetime | None, window: Window) -> float | None:
    """The place of an instant; None where the picture does not reach it."""
    return window.x(instant) if instant is not None and window.since <= instant <= window.until else None


def _mark(window: Window, run: Run) -> Mark:
    said = f", {run.status_code}" if run.status_code else ""
    title = f"{utc_words(run.started_at or run.due_at)}: {run.status}{said}, {run.source}"
    return Mark(
        x=window.x(run.started_at or run.due_at),
        shape=_SHAPES.get(RunStatus(run.status), "dot"),
        tone=tone_of(run.status),
        hinted=run.source in HINT_SOURCES,
        title=title,
        url=reverse("admin:jobs_run_page", args=[run.pk]),
    )


def _summary(runs: Sequence[Run], slots: int) -> str:
    """The picture in a sentence, for those who do not see it."""
    failed = sum(run.status == RunStatus.FAILED for run in runs)
    hinted = sum(run.source in HINT_SOURCES for run in runs)
    return f"{len(runs)} calls, {failed} of them failed, {hinted} made by hints, against {slots} baseline slots."
