"""The next slots of a schedule that is being typed in the form."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from jobs.admin.fields import DurationField, UtcField
from jobs.errors import Fault, InvalidInputError, Unreadable
from jobs.models import Endpoint
from jobs.selectors import schedule_slots
from jobs.slots import schedule_warnings
from jobs.validation import clean_schedule
from scheduling.cron import zones

_BASELINES: dict[str, tuple[str, forms.Field]] = {
    "interval": ("baseline_interval_ms", DurationField()),
    "cron": ("baseline_cron", forms.CharField()),
    "once": ("run_once_at", UtcField()),
}
_WINDOW: dict[str, forms.Field] = {"starts_at": UtcField(required=False), "ends_at": UtcField(required=False)}


def preview_slots(values: Mapping[str, str], now: datetime, current: Endpoint | None = None) -> dict[str, Any]:
    """The next ten slots by the clock of the zone and in UTC, with warnings; or all faults and the first field.

    `values` are the texts of the form's fields, `current` is the endpoint that is edited.
    """
    column, field = _BASELINES.get(values.get("baseline_kind", ""), _BASELINES["interval"])
    schedule: dict[str, Any] = {"timezone": values.get("timezone", "").strip() or "UTC"}
    for name, typed in {column: field, **_WINDOW}.items():
        try:
            schedule[name] = typed.clean(values.get(name, ""))
            if isinstance(typed, UtcField) and current is not None:
                stored = getattr(current, name)
                # The input shows no fractions of a second; what is not changed keeps them.
                schedule[name] = schedule[name] if typed.has_changed(stored, values.get(name, "")) else stored
        except ValidationError as error:
            schedule[name] = Unreadable(tuple(Fault(name, "invalid", message) for message in error.messages))
    try:
        cleaned = clean_schedule(schedule, now=now, current=current)
        slots = schedule_slots(cleaned, now=now, current=current)
    except InvalidInputError as error:
        return {"field": error.faults[0].field, "fault": " ".join(fault.message for fault in error.faults)}
    return {
        "zone": schedule["timezone"],
        "slots": [
            {"at": slot.at.isoformat(), "utc": f"{slot.at:%Y-%m-%d %H:%M:%S}", "local": slot.local} for slot in slots
        ],
        "warnings": [warning.text for warning in schedule_warnings(cleaned["baseline_cron"])],
    }


@cache
def zone_names() -> tuple[str, ...]:
    """The zones to choose from: those named after places, and UTC. Others that are accepted may be typed."""
    placed = (name for name in zones.zone_names() if "/" in name and not name.startswith("Etc/"))
    return ("UTC", *placed)
