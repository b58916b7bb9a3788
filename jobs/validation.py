"""What a job and an endpoint may be: every field on its own, then the fields against each other.

Reads no row and no clock: `now`, the egress policy and the endpoint as it stands are arguments. The names are those
of the models, whose constraints say the same. Faults are collected, so that a person sees all of them at once.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.errors import Fault, InvalidInputError, Unreadable
from jobs.headers import Header, parse_headers, with_content_type
from jobs.models import Endpoint, PlannerMode, WorkerLossPolicy
from jobs.models.endpoint import MAX_INTERVAL_MS, MIN_INTERVAL_MS, Method
from jobs.rules import parse_rules
from jobs.texts import check_storable, clean_name, clean_paragraph
from jobs.written import text_of, written
from scheduling.cron.cadence import CronError, check_timezone, parse_cadence
from scheduling.egress.policy import EgressPolicy
from scheduling.egress.targets import Target, TargetError, read_target
from scheduling.exchange.criteria import MAX_ASSERTIONS, CriteriaError, parse_success_criteria

MAX_BODY_BYTES = 256 * 1024
MAX_URL_LENGTH = 2048
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
PAST_TOLERANCE = timedelta(minutes=1)
BASELINES = ("baseline_interval_ms", "baseline_cron", "run_once_at")
_BASELINE_WORDS = "baselineIntervalMs, baselineCron, runOnceAt"

Values = Mapping[str, Any]
Clean = dict[str, Any]


def clean_job(values: Values, *, creating: bool) -> Clean:
    """The columns of a job from input. Raises InvalidInputError with every fault."""
    cleaners: dict[str, Callable[[str, object], object]] = {
        "name": clean_name,
        "description": lambda field, value: clean_paragraph(field, "" if value is None else value, limit=1000),
    }
    if creating:
        cleaners["is_synthetic"] = lambda field, value: _boolean(field, False if value is None else value)
    cleaned, faults, _ = _clean_fields(values, cleaners)
    if creating and "name" not in values:
        faults.append(Fault("name", "required", "A job needs a name."))
    _raise_if(faults)
    return cleaned


def clean_endpoint(
    values: Values, *, current: Endpoint | None, synthetic: bool, egress: EgressPolicy, now: datetime
) -> Clean:
    """The columns that input changes, `headers` parsed but not yet sealed, `host` added beside `url`.

    `current` None means a new endpoint. Null means the default of a column that has one. One new baseline replaces the
    old one. Raises InvalidInputError with every fault.
    """
    given = _with_defaults(values)
    cleaned, faults, failed = _clean_fields(given, _CLEANERS)
    if current is None:
        faults += [Fault(name, "required", "An endpoint needs this.") for name in ("name", "url") if name not in values]
    if "url" in cleaned:
        try:
            cleaned["host"] = _judge_url(cleaned["url"], synthetic, egress).host
        except InvalidInputError as error:
            faults += error.faults
    for name in ("rules", "success_criteria"):
        if name in cleaned:
            cleaned[f"{name}_text"] = text_of(given[name])
    if isinstance(given.get("body"), dict | list) and "body" in cleaned and "headers" not in failed:
        try:
            cleaned["headers"] = _headers_for_json(cleaned, current)
        except InvalidInputError as error:
            faults += error.faults
    faults += _unstored_secrets(cleaned.get("headers", ()), current)
    merged = _merge(cleaned, given, current)
    _raise_if(faults + _joint_faults(merged, cleaned, current is None, now, failed))
    return cleaned


def clean_schedule(values: Values, *, now: datetime, current: Endpoint | None = None) -> Clean:
    """The schedule columns alone, all of them, for a preview. Raises InvalidInputError with every fault.

    `current` is the endpoint that they are for: what it has already may lie in the past.
    """
    names = (*BASELINES, "timezone", "starts_at", "ends_at")
    given = _with_defaults({**dict.fromkeys(names), **values})
    cleaned, faults, failed = _clean_fields(given, {name: _CLEANERS[name] for name in names})
    _raise_if(faults + _joint_faults(_Merged(cleaned, before=current), cleaned, True, now, failed))
    return cleaned


class _Merged:
    """The endpoint as it would stand: changes over the current row."""

    def __init__(self, values: Clean, current: Endpoint | None = None, before: Endpoint | None = None) -> None:
        self._values, self._current = values, current
        self._before = before or current

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        return getattr(self._current, name) if self._current is not None else _DEFAULTS.get(name)

    def new_value(self, name: str) -> Any:
        """The value where the input sets one that differs from what is stored, else None."""
        value = self._values.get(name)
        return None if self._before is not None and value == getattr(self._before, name) else value


def _merge(cleaned: Clean, given: Values, current: Endpoint | None) -> _Merged:
    new = [name for name in BASELINES if given.get(name) is not None]
    if current is not None and len(new) == 1:
        cleaned.update({name: None for name in BASELINES if name not in new})
    return _Merged(cleaned, current)


def _with_defaults(values: Values) -> Clean:
    """The values, null replaced by the default where the column has one."""
    return {name: _DEFAULTS[name] if value is None and name in _DEFAULTS else value for name, value in values.items()}


def _clean_fields(
    values: Values, cleaners: Mapping[str, Callable[[str, object], object]]
) -> tuple[Clean, list[Fault], frozenset[str]]:
    """The clean values, what is wrong with the others, and the names of those others."""
    cleaned: Clean = {}
    faults: list[Fault] = []
    failed = set()
    for name, value in values.items():
        try:
            if isinstance(value, Unreadable):
                raise InvalidInputError(*value.faults)
            if name not in cleaners:
                raise InvalidInputError(Fault(name, "unknown_field", "This field is not known."))
            cleaned[name] = cleaners[name](name, value)
        except InvalidInputError as error:
            faults += error.faults
            failed.add(name)
    return cleaned, faults, frozenset(failed)


def _raise_if(faults: list[Fault]) -> None:
    if faults:
        raise InvalidInputError(*faults)


def _joint_faults(
    merged: _Merged, changed: Clean, creating: bool, now: datetime, failed: frozenset[str]
) -> list[Fault]:
    """What is wrong between fields. Where one of `failed` takes part, nothing can be said."""
    faults: list[Fault] = []
    given = [name for name in BASELINES if merged[name] is not None]
    if failed.isdisjoint(BASELINES) and len(given) != 1 and (creating or any(name in changed for name in BASELINES)):
        fields = given or BASELINES[:2]
        faults += [Fault(name, "one_baseline", f"Give exactly one of {_BASELINE_WORDS}.") for name in fields]
    faults += _bound_faults(merged, failed)
    recovery_ms, interval_ms = merged["recovery_check_ms"], merged["baseline_interval_ms"]
    recovery_known = failed.isdisjoint(("recovery_check_ms", "baseline_interval_ms"))
    if recovery_known and recovery_ms is not None and interval_ms is not None and recovery_ms < interval_ms:
        words = f"Give at least the interval, {interval_ms} ms, or null for just that; retries come sooner."
        faults.append(Fault("recovery_check_ms", "bounds", words))
    cron_changed = any(name in changed for name in ("baseline_cron", "timezone"))
    if "baseline_cron" not in failed and cron_changed and merged["baseline_cron"] is not None:
        # The expression is judged without its zone where that one is faulty.
        faults += _cadence_faults(merged["baseline_cron"], "UTC" if "timezone" in failed else merged["timezone"])
    starts_at, ends_at, once_at = merged["starts_at"], merged["ends_at"], merged["run_once_at"]
    window_known = failed.isdisjoint(("starts_at", "ends_at"))
    if window_known and starts_at is not None and ends_at is not None and starts_at >= ends_at:
        faults.append(Fault("ends_at", "window", "The schedule must end after it starts."))
    new_end = merged.new_value("ends_at") if "ends_at" not in failed else None
    if new_end is not None and new_end < now - PAST_TOLERANCE:
        remedy = "Give a later time or none; to stop the endpoint, pause or archive it."
        faults.append(Fault("ends_at", "in_the_past", f"This end has passed, so nothing would run. {remedy}"))
    if once_at is not None and "run_once_at" not in failed:
        new_once = merged.new_value("run_once_at")
        if new_once is not None and new_once < now - PAST_TOLERANCE:
            faults.append(Fault("run_once_at", "in_the_past", "Give a time in the future."))
        too_early = "starts_at" not in failed and starts_at is not None and once_at < starts_at
        if too_early or ("ends_at" not in failed and ends_at is not None and once_at >= ends_at):
            faults.append(Fault("run_once_at", "window", "The one run lies outside startsAt and endsAt."))
    return faults


def _bound_faults(merged: _Merged, failed: frozenset[str]) -> list[Fault]:
    low, high, interval = (
        None if name in failed else merged[name]
        for name in ("min_interval_ms", "max_interval_ms", "baseline_interval_ms")
    )
    if low is not None and high is not None and low > high:
        return [Fault("min_interval_ms", "bounds", "The minimum is larger than the maximum.")]
    if interval is not None and ((low is not None and interval < low) or (high is not None and interval > high)):
        return [Fault("baseline_interval_ms", "bounds", "The interval lies outside its minimum and maximum.")]
    return []


def _cadence_faults(expression: str, timezone: str) -> list[Fault]:
    try:
        parse_cadence(expression, timezone)
    except CronError as error:
        # A zone that is stored may have left the zone database since.
        field = "timezone" if error.code == "invalid_timezone" else "baseline_cron"
        place = f" (at character {error.position + 1})" if error.position is not None else ""
        return [Fault(field, error.code, f"{error}{place}")]
    return []


def _judge_url(url: str, synthetic: bool, egress: EgressPolicy) -> Target:
    try:
        target = read_target(url)
    except TargetError as error:
        raise InvalidInputError(Fault("url", "invalid_url", str(error))) from None
    verdict = egress.judge_url(url, synthetic=synthetic)
    if not verdict.allowed:
        raise InvalidInputError(Fault("url", "destination_not_allowed", verdict.reason))
    return target


def _headers_for_json(cleaned: Clean, current: Endpoint | None) -> object:
    """The headers that go with a body given as JSON: a content type is added to what was given or is stored."""
    if "headers" in cleaned:
        given: list[dict[str, object]] = [
            {"name": header.name, "value": header.value, "secret": header.secret} for header in cleaned["headers"]
        ]
    else:
        given = current.headers if current is not None else []
    return parse_headers(with_content_type(given, "application/json"))


def _unstored_secrets(headers: Sequence[Header], current: Endpoint | None) -> list[Fault]:
    """Faults of secret headers without a value where none is stored to be kept."""
    stored = current.headers if current is not None else []
    known = {str(header["name"]).lower() for header in stored if header["secret"]}
    return [
        Fault(f"headers[{number}].value", "required", "Give a value; none is stored.")
        for number, header in enumerate(headers)
        if header.secret and header.value is None and header.name.lower() not in known
    ]


def _boolean(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInputError(Fault(field, "invalid_type", "Give true or false."))
    return value


def _whole(low: int, high: int, *, nullable: bool = False) -> Callable[[str, object], int | None]:
    def clean(field: str, value: object) -> int | None:
        if value is None and nullable:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidInputError(Fault(field, "invalid_type", "Give a whole number."))
        if not low <= value <= high:
            raise InvalidInputError(Fault(field, "out_of_range", f"Give a number from {low} to {high}."))
        return value

    return clean


def _choice(*words: str) -> Callable[[str, object], str]:
    def clean(field: str, value: object) -> str:
        if not isinstance(value, str):
            raise InvalidInputError(Fault(field, "invalid_type", "Give a text."))
        if value not in words:
            raise InvalidInputError(Fault(field, "invalid_choice", f"Give one of {', '.join(words)}."))
        return value

    return clean


def _instant(field: str, value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidInputError(Fault(field, "invalid_instant", "Give a time with its zone, as 2030-01-31T09:00:00Z."))
    if not EARLIEST <= value < LATEST:
        raise InvalidInputError(Fault(field, "out_of_range", "Give a time in the years 2000 to 2199."))
    return value


def _url(field: str, value: object) -> str:
    text = clean_paragraph(field, value, limit=MAX_URL_LENGTH)
    if not text:
        raise InvalidInputError(Fault(field, "blank", "A URL is needed."))
    return text


def _cron(field: str, value: object) -> str | None:
    return None if value is None else clean_paragraph(field, value, limit=255).strip(" \t")


def _timezone(field: str, value: object) -> str:
    name = clean_paragraph(field, value, limit=255)
    try:
        check_timezone(name)
    except CronError as error:
        raise InvalidInputError(Fault(field, error.code, str(error))) from None
    return name


def _body(field: str, value: object) -> str | None:
    """A text is kept byte for byte, an object or a list as it was written; without a text it becomes compact JSON."""
    if value is None:
        return None
    check_storable(field, value)
    if isinstance(value, dict | list):
        value = written(value)
    if not isinstance(value, str):
        raise InvalidInputError(Fault(field, "invalid_type", "Give a text, an object or a list."))
    if len(value.encode()) > MAX_BODY_BYTES:
        raise InvalidInputError(Fault(field, "too_large", f"At most {MAX_BODY_BYTES} bytes."))
    return value


def _success_criteria(field: str, value: object) -> dict[str, object] | None:
    if value is None:
        return None
    check_storable(field, value)
    _check_size(field, value)
    try:
        return parse_success_criteria(value).to_json()
    except CriteriaError as error:
        raise InvalidInputError(*_criteria_faults(field, value, error)) from None


def _criteria_faults(field: str, value: object, first: CriteriaError) -> list[Fault]:
    """The fault of each assertion and of the statuses; the reader of the criteria itself stops at the first."""
    found = {first.field: first.message}
    assertions = value.get("assertions") if isinstance(value, dict) else None
    parts: list[tuple[str, object]] = []
    if isinstance(value, dict) and "status" in value:
        parts.append(("", {"status": value["status"]}))
    if isinstance(assertions, list) and len(assertions) <= MAX_ASSERTIONS:
        parts += [(f"assertions[{number}]", {"assertions": [part]}) for number, part in enumerate(assertions)]
    for path, part in parts:
        try:
            parse_success_criteria(part)
        except CriteriaError as error:
            found.setdefault(error.field.replace("assertions[0]", path, 1) if path else error.field, error.message)
    return [Fault(f"{field}.{path}" if path else field, "invalid_criteria", text) for path, text in found.items()]


def _rules(field: str, value: object) -> object:
    check_storable(field, value)
    _check_size(field, value)
    parse_rules(value)
    return value


def _check_size(field: str, value: object) -> None:
    """Raises InvalidInputError where the text to be kept is too large, as by blanks alone."""
    if len((text_of(value) or "").encode()) > MAX_BODY_BYTES:
        raise InvalidInputError(Fault(field, "too_large", f"At most {MAX_BODY_BYTES} bytes."))


_DEFAULTS: Clean = {
    name: Endpoint._meta.get_field(name).get_default()  # type: ignore[union-attr]
    for name in (
        *("description", "method", "headers", "timeout_ms", "max_response_bytes", "timezone", "jitter_ms"),
        *("retry_limit", "on_worker_loss", "planner_mode", "rules"),
    )
}
_INTERVAL = _whole(MIN_INTERVAL_MS, MAX_INTERVAL_MS, nullable=True)
_CLEANERS: dict[str, Callable[[str, object], object]] = {
    "name": clean_name,
    "description": lambda field, value: clean_paragraph(field, value, limit=2000),
    "url": _url,
    "method": _choice(*Method.values),
    "headers": lambda field, value: parse_headers(value),
    "body": _body,
    "timeout_ms": _whole(1_000, 900_000),
    "max_response_bytes": _whole(0, 1_048_576),
    "success_criteria": _success_criteria,
    "baseline_interval_ms": _INTERVAL,
    "baseline_cron": _cron,
    "run_once_at": _instant,
    "timezone": _timezone,
    "starts_at": _instant,
    "ends_at": _instant,
    "jitter_ms": _whole(0, 86_400_000),
    "min_interval_ms": _INTERVAL,
    "max_interval_ms": _INTERVAL,
    "recovery_check_ms": _INTERVAL,
    "retry_limit": _whole(0, 10),
    "misfire_grace_ms": _whole(0, MAX_INTERVAL_MS, nullable=True),
    "on_worker_loss": _choice(*WorkerLossPolicy.values),
    "planner_mode": _choice(*PlannerMode.values),
    "rules": _rules,
}
ENDPOINT_FIELDS = frozenset(_CLEANERS)
