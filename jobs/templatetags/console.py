"""Filters that write times, durations and statuses in templates as `jobs.admin.words` does in lists."""

import json
from datetime import datetime
from typing import Any

from django import template
from django.utils.safestring import SafeString

from accounts.addresses import page_url
from jobs.admin import words
from scheduling.plan.wording import duration_words

register = template.Library()

register.filter("ms", words.ms_words)
register.filter("badge", words.badge)
register.filter("tone", words.tone_of)
register.filter("schedule", words.schedule_words)
register.filter("page_url", page_url)


@register.filter
def moment(instant: datetime | None, now: datetime) -> SafeString:
    """The distance of an instant from now."""
    return words.moment(instant, now)


@register.filter
def standing(endpoint: Any, now: datetime) -> SafeString:
    """Whether an endpoint runs, and whose pause stops it."""
    return words.standing(endpoint, now)


@register.filter
def next_run(endpoint: Any, now: datetime) -> SafeString:
    """When an endpoint runs next, or what stops it."""
    return words.next_run_words(endpoint, now)


@register.filter
def utc(instant: Any) -> str:
    """An instant to the second; a dash for none."""
    return words.utc_words(instant) if isinstance(instant, datetime) else words.NOTHING


@register.filter
def stored_instant(text: str | None) -> datetime | None:
    """An instant of a stored decision, which keeps it as ISO text; None for none."""
    return datetime.fromisoformat(text) if text else None


@register.filter
def duration(milliseconds: int | None) -> str:
    """A whole number of milliseconds in its largest units; a dash for none."""
    return duration_words(milliseconds) if milliseconds is not None else words.NOTHING


@register.filter
def add_px(place: float, distance: float) -> float:
    """A place in a picture, moved."""
    return round(place + float(distance), 1)


@register.filter
def tenfold(percent: float) -> float:
    """A share in percent as a length in a picture that is 1000 wide."""
    return round(percent * 10, 1)


@register.filter(name="words")
def spaced(code: str | None) -> str:
    """A code such as `connect_failed` in words."""
    return (code or "").replace("_", " ")


@register.filter
def pretty(value: Any) -> str:
    """A stored JSON value, indented, as plain text."""
    return json.dumps(value, indent=2, ensure_ascii=False)


@register.filter
def thousands(number: int) -> str:
    """A count, its digits in groups."""
    return f"{number:,}"
