"""The geometry of the endpoint's pictures: instants and durations become places in an SVG. Pure.

The time line is `WIDTH` wide; the three pictures of a page share its axis, so that what happened together stands
in one column.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

WIDTH, LEFT, RIGHT = 1000, 76, 14
BAR_HEIGHT = 72
_STEPS = [
    timedelta(seconds=seconds)
    for seconds in (5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 2592000)
]
_MAX_LABELS = 8
_CALLS_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Window:
    """The stretch of time that the pictures show."""

    since: datetime
    until: datetime

    def x(self, instant: datetime) -> float:
        """The place of an instant, kept inside the picture."""
        share = (instant - self.since) / (self.until - self.since)
        return round(LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT), 1)


@dataclass(frozen=True, slots=True)
class Label:
    """A word at a place."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """One call. `shape` is `dot`, `cross`, `ring` (still running) or `gap` (never started)."""

    x: float
    shape: str
    tone: str
    hinted: bool
    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Stripe:
    """A band of time."""

    x: float
    width: float
    kind: str
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One measurement: `y` is the top of the bar, `middle` its centre line."""

    x: float
    y: float
    height: float
    tone: str
    title: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """Measurements over time with the top of their scale in milliseconds."""

    bars: tuple[Bar, ...]
    top_ms: float

    @property
    def half_ms(self) -> float:
        """The middle of the scale."""
        return self.top_ms / 2


def choose_window(due: Sequence[datetime], now: datetime, next_run_at: datetime | None) -> Window:
    """As long as 60 calls take at the pace of the latest ten, and to the next run where it is near.

    `due` are the times of the calls, newest first and not empty. At least two minutes; not before the first of them.
    """
    latest = due[:10]
    pace = (latest[0] - latest[-1]) / max(len(latest) - 1, 1)
    since = min(max(due[-1], now - _CALLS_SHOWN * pace), latest[-1], now - timedelta(minutes=2))
    span = now - since
    until = now + span * 0.06
    if next_run_at is not None and now < next_run_at <= now + span * 0.4:
        until = max(until, next_run_at + span * 0.04)
    return Window(since - span * 0.02, until)


def axis_labels(window: Window) -> list[Label]:
    """Round times of the axis, in UTC; dates where the window is longer than two days."""
    span = window.until - window.since
    step = next((step for step in _STEPS if span / step <= _MAX_LABELS), _STEPS[-1])
    shape = "%H:%M:%S" if step < timedelta(minutes=1) else "%H:%M" if span <= timedelta(days=2) else "%b %d %H:%M"
    epoch = datetime(2000, 1, 1, tzinfo=UTC)
    instant = epoch + ((window.since - epoch) // step + 1) * step
    labels: list[Label] = []
    while instant < window.until and len(labels) <= 2 * _MAX_LABELS:
        labels.append(Label(window.x(instant), instant.astimezone(UTC).strftime(shape)))
        instant += step
    return labels


def stripe(window: Window, begins_at: datetime, ends_at: datetime, kind: str, label: str, title: str) -> Stripe:
    """A band, cut to the window; its label stays away where it would not fit."""
    left, right = window.x(begins_at), window.x(ends_at)
    width = max(round(right - left, 1), 2.0)
    return Stripe(left, width, kind, label if width > 9 * len(label) else "", title)


def bar_chart(window: Window, points: Sequence[tuple[datetime, float, str, str]]) -> BarChart:
    """Bars of (instant, milliseconds, tone, title) under a round top; the smallest is still visible."""
    top_ms = _round_up(max((value for _, value, _, _ in points), default=0.0))
    bars = []
    for instant, value, tone, title in points:
        height = max(1.5, BAR_HEIGHT * max(value, 0.0) / top_ms)
        bars.append(Bar(window.x(instant), round(BAR_HEIGHT - height, 1), round(height, 1), tone, title))
    return BarChart(tuple(bars), top_ms)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50, ..."""
    top = 1.0
    while True:
        for factor in (1.0, 2.0, 5.0):
            if value <= top * factor:
                return top * factor
        top *= 10
