"""How times, durations, rates and statuses read in the console. Every number has its unit. Pure but for HTML."""

from datetime import datetime, timedelta
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobs.standing import blocked_by, blocked_words, effective_status, next_note
from scheduling.plan.interval import is_local
from scheduling.plan.wording import duration_words

NOTHING = "\u2013"

TONES = {
    "success": "good",
    "active": "good",
    "applied": "good",
    "approved": "good",
    "completed": "good",
    "auto": "good",
    "failed": "bad",
    "rejected": "bad",
    "refused": "bad",
    "abandoned": "warn",
    "missed": "warn",
    "paused": "warn",
    "pending": "warn",
    "held": "warn",
    "budget_exceeded": "warn",
    "approve": "warn",
    "clamped-min": "warn",
    "clamped-max": "warn",
    "expired": "warn",
    "retry": "warn",
    "server-asked": "warn",
    "running": "info",
    "manual": "info",
    "shadow": "info",
    "ai-interval": "hint",
    "ai-oneshot": "hint",
}


def tone_of(word: str | None) -> str:
    """The colour family of a status, source or mode; `calm` for what needs no attention."""
    return TONES.get(word or "", "calm")


def badge(word: str | None) -> SafeString:
    """A status as a coloured word; a dash for none."""
    if not word:
        return SafeString(NOTHING)
    return format_html('<span class="cc-badge cc-{}">{}</span>', tone_of(word), word.replace("_", " "))


def ms_words(value: float | None) -> str:
    """Milliseconds for people: `0.4 ms`, `52 ms`, `1.25 s`, `2 min 3 s`; a dash for None."""
    if value is None:
        return NOTHING
    if abs(value) < 10:
        return f"{value:.1f} ms"
    if abs(value) < 1_000:
        return f"{value:.0f} ms"
    if abs(value) < 60_000:
        return f"{round(value / 1_000, 2):g} s"
    return duration_words(int(value))


def rate_words(good: int, total: int) -> str:
    """A share in percent, never rounded up to 100 or down to 0; a dash where nothing was counted."""
    if not total:
        return NOTHING
    percent = 100 * good / total
    if good not in (0, total):
        percent = min(max(percent, 0.1), 99.9)
    return f"{percent:.1f} %" if percent % 1 else f"{percent:.0f} %"


def relative_words(instant: datetime, now: datetime) -> str:
    """How far away an instant is: `in 42 s`, `3 min ago`."""
    distance = instant - now
    if abs(distance) < timedelta(seconds=1):
        return "now"
    words = duration_words(timedelta(seconds=int(abs(distance).total_seconds())))
    return f"in {words}" if distance > timedelta(0) else f"{words} ago"


def utc_words(instant: datetime) -> str:
    """An instant to the second."""
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def moment(instant: datetime | None, now: datetime) -> SafeString:
    """An instant as its distance from now, which the browser keeps current; the instant itself is in its title."""
    if instant is None:
        return SafeString(NOTHING)
    return format_html(
        '<time datetime="{}" title="{}" data-moment>{}</time>',
        instant.isoformat(),
        utc_words(instant),
        relative_words(instant, now),
    )


def schedule_words(endpoint: Any) -> str:
    """The baseline in words: `every 5 min`, `cron */5 * * * * (UTC)`, `once at ...`."""
    if endpoint.baseline_interval_ms is not None:
        every = f"every {duration_words(endpoint.baseline_interval_ms)}"
        local = is_local(endpoint.baseline_interval_ms, endpoint.anchor_at, endpoint.starts_at, endpoint.timezone)
        return f"{every} ({endpoint.timezone})" if local else every
    if endpoint.baseline_cron is not None:
        return f"cron {endpoint.baseline_cron} ({endpoint.timezone})"
    return f"once at {utc_words(endpoint.run_once_at)}"


def standing(endpoint: Any, now: datetime) -> SafeString:
    """Whether an endpoint runs: the stronger status of it and its job, or a pause with an end, and whose it is."""
    if blocked_by(endpoint) == "job":
        return format_html('{} <span class="cc-dim">by its job</span>', badge(effective_status(endpoint)))
    if blocked_by(endpoint) is None and endpoint.paused_until is not None and endpoint.paused_until > now:
        return format_html('{} <span class="cc-dim">for now</span>', badge("paused"))
    return badge(endpoint.status)


def next_run_words(endpoint: Any, now: datetime) -> SafeString:
    """When a worker starts it and what the plan says of that; where it is stopped, by what."""
    if blocked_by(endpoint) is not None:
        return format_html('<span class="cc-dim">{}</span>', blocked_words(endpoint))
    note = next_note(endpoint)
    if not note:
        return moment(endpoint.next_run_at, now)
    tone = "warn" if note.startswith("backed off") else "calm"
    return format_html('{} <span class="cc-badge cc-{}">{}</span>', moment(endpoint.next_run_at, now), tone, note)
