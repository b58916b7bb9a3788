"""Reads scenarios from JSON: strictly, with every fault at once, each named by its path and with its remedy. Pure.

`docs/simulation.md` describes the format. An instant is ISO 8601 with its zone, or counted from the start ("+1h30m");
a duration is written like "30d" or "1h30m".
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from scheduling.cron.cadence import CronError, check_timezone, parse_cadence
from scheduling.simulation.scenario import (
    BASELINES,
    Change,
    ClearHints,
    Edit,
    EndpointSpec,
    Event,
    Outage,
    OutcomeModel,
    Pause,
    ResetFailures,
    Resume,
    RunNow,
    Scenario,
    SetIntervalHint,
    SetOneShotHint,
)
from scheduling.simulation.scenario_reader import (
    EARLIEST,
    LATEST,
    Reader,
    ScenarioError,
    ScenarioFault,
    load_document,
    meant,
)

VERSION = 1
MAX_ENDPOINTS = 100_000
INTERVAL_MS = (1_000, 366 * 86_400_000)
HINT_TTL_MS = (1, 86_400_000)
DAY_MS = 86_400_000
_ID_SPACE = UUID("6f1d3c52-5b0e-5d0a-9a54-0d9a4b6c7e21")
_PATTERN_ITEM = re.compile(r"(ok|fail)(?:\*(\d{1,5}))?")


def read_scenario(text: str) -> Scenario:
    """The scenario that a file describes; raises ScenarioError with every fault."""
    return parse_scenario(load_document(text))


def parse_scenario(document: object) -> Scenario:
    """The scenario that a JSON value describes; raises ScenarioError with every fault."""
    faults: list[ScenarioFault] = []
    if not isinstance(document, dict):
        raise ScenarioError(ScenarioFault("", 'A scenario is a JSON object; begin with {"version": 1, ...}.'))
    if document.get("version") != VERSION or isinstance(document.get("version"), bool):
        raise ScenarioError(ScenarioFault("version", f"Write {VERSION}, the one version that is known."))
    root = Reader(document, "", faults)
    root.ignore("version")
    start = root.instant("start") or EARLIEST
    root.start = start
    duration = root.duration("duration")
    end = LATEST if duration is None else start + duration
    endpoints = _endpoints(root, end)
    scenario = Scenario(
        name=root.text("name", default="scenario"),
        start=start,
        end=end,
        endpoints=endpoints,
        events=_events(root, {spec.name: spec for spec in endpoints}, end),
        outages=_outages(root),
        seed=root.integer("seed", 0, 2**63 - 1, default=0) or 0,
        hint_floor_ms=root.integer("hint_floor_ms", 1_000, 3_600_000, default=10_000) or 0,
    )
    root.text("description", default="")
    root.finish()
    if faults:
        raise ScenarioError(*faults)
    return scenario


def _endpoints(root: Reader, end: datetime) -> tuple[EndpointSpec, ...]:
    specs: list[EndpointSpec] = []
    names: set[str] = set()
    if root.take("endpoints", required=True) == []:
        root.fault("endpoints", "Give at least one endpoint.")
    for reader in root.objects("endpoints"):
        for spec in _endpoint_group(reader, end, MAX_ENDPOINTS - len(specs)):
            if spec.name in names:
                reader.fault("name", f"The name {spec.name} is taken; every endpoint needs a name of its own.")
            names.add(spec.name)
            specs.append(spec)
    return tuple(specs)


def _endpoint_group(reader: Reader, end: datetime, room: int) -> list[EndpointSpec]:
    """One endpoint, or `count` alike, created evenly over the time `spread`."""
    assert reader.start is not None
    name = reader.text("name", limit=255)
    count = reader.integer("count", 1, MAX_ENDPOINTS, default=1) or 1
    if count > room:
        reader.fault("count", f"A scenario has at most {MAX_ENDPOINTS} endpoints; take fewer.")
        count = 0
    created_at = reader.instant("created_at", required=False) or reader.start
    if created_at >= end:
        reader.fault("created_at", "This is after the end of the scenario; let the endpoint begin earlier.")
    spread = (reader.duration("spread") if reader.has("spread") else None) or timedelta(0)
    reader.ignore("spread")
    columns = _columns(reader)
    once_at = columns.get("run_once_at")
    if once_at is not None and once_at < created_at + spread:
        reader.fault("run_once_at", "This is before the endpoint is created; give a later time.")
    _check_one_baseline(reader, columns)
    outcome = _outcome_model(reader.object("outcome"))
    grace_ms = reader.integer("misfire_grace_ms", 0, INTERVAL_MS[1])
    endpoint_id = _id(reader, count)
    reader.finish()
    if count == 1:
        return [EndpointSpec(name, endpoint_id or _id_of(name), created_at, columns, outcome, grace_ms)]
    return [
        EndpointSpec(f"{name}-{number + 1}", _id_of(f"{name}-{number + 1}"), at, columns, outcome, grace_ms)
        for number in range(count)
        for at in (created_at + spread * number // count,)
    ]


def _id(reader: Reader, count: int) -> UUID | None:
    """The id of a real endpoint, by which its jitter is the real one too."""
    value = reader.take("id", required=False)
    if not reader.has("id"):
        return None
    try:
        if count == 1:
            return UUID(value)
        reader.fault("id", "Endpoints that share an entry cannot share an id; take `id` or `count` away.")
    except (ValueError, TypeError, AttributeError):
        reader.fault("id", "Write a UUID, or take `id` away.")
    return None


def _id_of(name: str) -> UUID:
    return uuid5(_ID_SPACE, name)


def _columns(reader: Reader) -> dict[str, Any]:
    """The columns that are given, of those that an endpoint and an edit may have."""
    values: dict[str, Any] = {
        "baseline_interval_ms": reader.integer("baseline_interval_ms", *INTERVAL_MS),
        "run_once_at": reader.instant("run_once_at", required=False),
        "starts_at": reader.instant("starts_at", required=False),
        "ends_at": reader.instant("ends_at", required=False),
        "jitter_ms": reader.integer("jitter_ms", 0, DAY_MS),
        "min_interval_ms": reader.integer("min_interval_ms", *INTERVAL_MS),
        "max_interval_ms": reader.integer("max_interval_ms", *INTERVAL_MS),
        "recovery_check_ms": reader.integer("recovery_check_ms", *INTERVAL_MS),
        "retry_limit": reader.integer("retry_limit", 0, 10),
        **_cron_columns(reader),
    }
    given = {name: value for name, value in values.items() if value is not None}
    _check_order(reader, given, "starts_at", "ends_at", strictly=True)
    _check_order(reader, given, "min_interval_ms", "max_interval_ms", strictly=False)
    _check_order(reader, given, "baseline_interval_ms", "recovery_check_ms", strictly=False)
    return given


def _cron_columns(reader: Reader) -> dict[str, Any]:
    expression = reader.text("baseline_cron", limit=255) if reader.has("baseline_cron") else None
    timezone = reader.text("timezone", limit=64) if reader.has("timezone") else None
    reader.ignore("baseline_cron")
    reader.ignore("timezone")
    try:
        if timezone is not None:
            check_timezone(timezone)
        if expression is not None:
            parse_cadence(expression, timezone or "UTC")
    except CronError as error:
        at = "" if error.position is None else f" (character {error.position + 1})"
        reader.fault("timezone" if error.code == "invalid_timezone" else "baseline_cron", f"{error}{at}")
    return {"baseline_cron": expression, "timezone": timezone}


def _check_one_baseline(reader: Reader, columns: Mapping[str, Any]) -> None:
    if sum(reader.has(name) for name in BASELINES) != 1:
        reader.fault("", f"Give exactly one of {', '.join(BASELINES)}.")
    interval_ms = columns.get("baseline_interval_ms")
    if interval_ms is not None:
        low, high = columns.get("min_interval_ms", 0), columns.get("max_interval_ms", INTERVAL_MS[1])
        if low <= high and not low <= interval_ms <= high:
            reader.fault("baseline_interval_ms", "The interval lies outside its own bounds; move one of them.")


def _check_order(reader: Reader, given: Mapping[str, Any], low: str, high: str, *, strictly: bool) -> None:
    if low in given and high in given and (given[low] > given[high] or (strictly and given[low] == given[high])):
        reader.fault(high, f"This must {'come after' if strictly else 'not be below'} {low}; move one of them.")


def _outcome_model(reader: Reader) -> OutcomeModel:
    probability = reader.take("fail_probability", required=False)
    if not reader.has("fail_probability"):
        probability = 0
    elif isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
        reader.fault("fail_probability", "Write a number from 0 to 1.")
        probability = 0
    pattern = _pattern(reader)
    if pattern and reader.has("fail_probability"):
        reader.fault("pattern", "A pattern leaves nothing to chance; take it or fail_probability away.")
    failure = reader.object("failure")
    status_code: int | None = 500
    if failure.has("status_code") and failure.take("status_code", required=False) is None:
        status_code = None
    else:
        status_code = failure.integer("status_code", 100, 599, default=500)
    retry_after = failure.text("retry_after", default="", limit=100) or None
    failure.finish()
    model = OutcomeModel(_call_duration(reader), float(probability), pattern, status_code, retry_after)
    reader.finish()
    return model


def _call_duration(reader: Reader) -> tuple[int, int]:
    value = reader.take("duration_ms", required=False)
    span = [100, 100] if not reader.has("duration_ms") else value if isinstance(value, list) else [value, value]
    whole = all(isinstance(item, int) and not isinstance(item, bool) for item in span)
    if not whole or len(span) != 2 or not 0 <= span[0] <= span[1] <= 900_000:
        reader.fault("duration_ms", "Write whole milliseconds up to 900000, or from and to in a list: [50, 400].")
        return 100, 100
    return span[0], span[1]


def _pattern(reader: Reader) -> tuple[bool, ...]:
    value = reader.take("pattern", required=False)
    if not reader.has("pattern"):
        return ()
    items = [_PATTERN_ITEM.fullmatch(word) for word in value.split()] if isinstance(value, str) else []
    calls = [match[1] == "ok" for match in items if match for _ in range(int(match[2] or 1))]
    if not calls or not all(items):
        reader.fault("pattern", 'Write what the calls do, over and again, as in "ok*20 fail*3".')
    return tuple(calls)


def _outages(root: Reader) -> tuple[Outage, ...]:
    outages = []
    for reader in root.objects("outages"):
        begin, end = reader.instant("from"), reader.instant("to")
        reader.finish()
        if begin is not None and end is not None:
            if begin >= end:
                reader.fault("to", "An outage must end after it begins; move one of them.")
            outages.append(Outage(begin, end))
    return tuple(outages)


def _events(root: Reader, endpoints: Mapping[str, EndpointSpec], end: datetime) -> tuple[Event, ...]:
    events = []
    for reader in root.objects("events"):
        at = reader.instant("at")
        name = reader.text("endpoint", limit=255)
        action = reader.choice("do", tuple(_CHANGES))
        spec = endpoints.get(name)
        if name and spec is None:
            reader.fault("endpoint", f"There is no such endpoint{meant(name, tuple(endpoints))}; name one of them.")
        if at is not None and not (max(spec.created_at, root.start or at) if spec else at) <= at < end:
            reader.fault("at", "This is before the endpoint is created or after the end; choose a time between.")
        if action is not None:
            change = _CHANGES[action](reader)
            reader.finish()
            if at is not None:
                events.append(Event(at, name, change))
    return tuple(events)


def _interval_hint(reader: Reader) -> Change:
    return SetIntervalHint(
        interval_ms=reader.integer("interval_ms", *INTERVAL_MS, required=True) or 0,
        ttl_ms=reader.integer("ttl_ms", *HINT_TTL_MS, required=True) or 0,
        reason=reader.text("reason", default=""),
        author=reader.choice("author", ("planner", "user"), default="planner") or "",
    )


def _oneshot_hint(reader: Reader) -> Change:
    change = SetOneShotHint(
        next_run_in_ms=reader.integer("next_run_in_ms", 0, DAY_MS, required=True) or 0,
        ttl_ms=reader.integer("ttl_ms", *HINT_TTL_MS, required=True) or 0,
        reason=reader.text("reason", default=""),
    )
    if 0 < change.ttl_ms <= change.next_run_in_ms:
        reader.fault("ttl_ms", "The hint would end before its run; give a longer time to live.")
    return change


def _pause(reader: Reader) -> Change:
    until = reader.instant("until")
    return Pause(until or EARLIEST, reader.text("reason", default=""))


def _edit(reader: Reader) -> Change:
    changes = reader.object("changes")
    columns = _columns(changes)
    if sum(changes.has(name) for name in BASELINES) > 1:
        changes.fault("", f"Give at most one of {', '.join(BASELINES)}.")
    changes.finish()
    if not columns:
        reader.fault("changes", "Give at least one column and its new value.")
    return Edit(columns)


_CHANGES: Mapping[str, Callable[[Reader], Change]] = {
    "set_interval_hint": _interval_hint,
    "set_oneshot_hint": _oneshot_hint,
    "clear_hints": lambda reader: ClearHints(),
    "pause": _pause,
    "resume": lambda reader: Resume(),
    "run_now": lambda reader: RunNow(),
    "reset_failures": lambda reader: ResetFailures(),
    "edit": _edit,
}
