"""The owner's rules on an endpoint: their grammar, and what they say of a run. Pure.

The stored form is a list of `{"name"?, "when", "until"?, "then"}`; `docs/planner.md` shows it with examples.
`parse_rules` is the only reader of that form; `verdicts` says which actions the runs of an endpoint call for, and why,
in words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.conditions import (
    AllCondition,
    AnyCondition,
    Condition,
    DurationCondition,
    ErrorRateCondition,
    FailingCondition,
    History,
    PathCondition,
    StatusCondition,
    UnchangedCondition,
    body_looked_at,
    is_number,
    path_conditions,
    runs_looked_at,
    visible,
)
from jobs.errors import Fault, InvalidInputError
from scheduling.exchange.bodies import Unparsable, safe_json
from scheduling.exchange.jsonpath import MISSING, OPERATORS, Path, parse_path

MAX_RULES = 20
MAX_CONDITIONS = 20
MAX_CONDITIONS_IN_ALL = 100
MAX_DEPTH = 3
MAX_RUNS = 50
MAX_RATE_RUNS = 200
DEFAULT_RATE_RUNS = 20
MAX_TEXT_LENGTH = 255
MAX_NUMBER = 10**15
INTERVAL_MS_RANGE = (1_000, 86_400_000)
MINUTES_RANGE = (1, 1_440)
DEFAULT_TTL_MINUTES = 60

_NUMBER_OPERATORS = tuple(operator for operator in OPERATORS if operator not in ("contains", "exists"))


@dataclass(frozen=True, slots=True)
class SetInterval:
    """Run the endpoint every `interval_ms` for `ttl_minutes`."""

    interval_ms: int
    ttl_minutes: int

    kind = "interval"


@dataclass(frozen=True, slots=True)
class Clear:
    """Drop the planner's hints: back to the baseline. It competes with `SetInterval`: the first that matches wins."""

    kind = "interval"


@dataclass(frozen=True, slots=True)
class Pause:
    """Let the endpoint rest for `minutes`."""

    minutes: int

    kind = "pause"


@dataclass(frozen=True, slots=True)
class RunSibling:
    """Run the endpoint `sibling` of the same job once when the rule begins to match; that run may wait `ttl_minutes`.

    `every_minutes` asks again and again while the rule matches; None is once.
    """

    sibling: str
    ttl_minutes: int
    every_minutes: int | None = None

    @property
    def kind(self) -> str:
        """Each sibling is a kind of its own."""
        return f"run_sibling:{self.sibling}"


Action = SetInterval | Clear | Pause | RunSibling


@dataclass(frozen=True, slots=True)
class Rule:
    """When the condition holds, the action is wanted. `position` counts from 0; `name` is None where not given.

    With `until`, once its hint is in force the rule goes on matching until that condition holds.
    """

    position: int
    name: str | None
    when: Condition
    then: Action
    until: Condition | None = None

    @property
    def key(self) -> str:
        """What names the rule in a proposal."""
        return self.name or f"rules[{self.position}]"


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """A rule that matches, and why in words that fit after "because"; None: it did, and its `until` has not come."""

    rule: Rule
    reason: str | None


def verdicts(rules: Sequence[Rule], runs: History, *, lasting: Collection[str] = ()) -> dict[str, RuleVerdict]:
    """The first matching rule of each kind of action, by kind, for the latest of `runs`; empty without runs.

    `lasting` are the keys of rules with `until` that matched before and have not ended in between.
    """
    found: dict[str, RuleVerdict] = {}
    for rule in rules if runs else ():
        if rule.then.kind in found:
            continue
        reason = rule.when.because(runs)
        lasts = rule.until is not None and rule.key in lasting and rule.until.because(runs) is None
        if reason is not None or lasts:
            found[rule.then.kind] = RuleVerdict(rule, reason)
    return found


def is_unknown(rules: Sequence[Rule], key: str | None, runs: History) -> bool:
    """Whether the latest of `runs` cannot tell if the rule of this key matches, as where the call failed."""
    return any(rule.key == key and rule.when.is_unknown(runs) for rule in rules if runs)


def runs_needed(rules: Sequence[Rule]) -> int:
    """How many of the latest runs the rules look at, one more so that the run before can be judged too."""
    return 1 + max(map(runs_looked_at, _conditions(rules)), default=0)


def body_needed(rules: Sequence[Rule]) -> bool:
    """Whether a rule looks into the body."""
    return any(map(body_looked_at, _conditions(rules)))


def differing_verdicts(rules: Sequence[Rule], plain: str, stored: str) -> dict[str, bool]:
    """What the rules' conditions find in the body `plain`, by their keys, where they find otherwise in `stored`."""
    document = safe_json(plain)
    if isinstance(document, Unparsable):
        return {}
    known = safe_json(stored)
    parts = [part for condition in _conditions(rules) for part in path_conditions(condition)]
    verdicts = {part.key: part.holds(document) for part in parts}
    read = MISSING if isinstance(known, Unparsable) else known
    return {part.key: verdicts[part.key] for part in parts if part.holds(read) is not verdicts[part.key]}


def _conditions(rules: Sequence[Rule]) -> Iterator[Condition]:
    return (condition for rule in rules for condition in (rule.when, rule.until) if condition is not None)


def parse_rules(value: object) -> tuple[Rule, ...]:
    """Reads the stored form; None and [] mean no rules. Raises InvalidInputError that names every fault by its path."""
    if value is None:
        return ()
    reader = _Reader()
    rules = reader.rules(value)
    if reader.faults:
        raise InvalidInputError(*reader.faults)
    return rules


class _Reader:
    """Walks the JSON form and collects faults; what it returns counts only when there are none."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._conditions = 0
        self._conditions_in_all = 0

    def fault(self, field: str, code: str, message: str) -> None:
        self.faults.append(Fault(field, code, message))

    def rules(self, value: object) -> tuple[Rule, ...]:
        if not isinstance(value, list):
            self.fault("rules", "invalid", "Give a list of rules.")
            return ()
        if len(value) > MAX_RULES:
            self.fault("rules", "too_many", f"At most {MAX_RULES} rules.")
            return ()
        found = [rule for position, item in enumerate(value) if (rule := self.rule(position, item)) is not None]
        keys: set[str] = set()
        for rule in found:
            if rule.key in keys:
                self.fault(f"rules[{rule.position}].name", "duplicate", "Another rule has this name.")
            keys.add(rule.key)
        if self._conditions_in_all > MAX_CONDITIONS_IN_ALL:
            self.fault("rules", "too_many", f"At most {MAX_CONDITIONS_IN_ALL} conditions in all rules together.")
        return tuple(found)

    def rule(self, position: int, value: object) -> Rule | None:
        field = f"rules[{position}]"
        if not isinstance(value, dict):
            self.fault(field, "invalid", "Give a rule as an object.")
            return None
        fields = value
        self.mapping(field, fields, known=("name", "when", "until", "then"), required=("when", "then"))
        name = self.text(f"{field}.name", fields["name"]) if fields.get("name") is not None else None
        self._conditions = 0
        when = self.condition(f"{field}.when", fields["when"], depth=1) if "when" in fields else None
        until = self.condition(f"{field}.until", fields["until"], depth=1) if fields.get("until") is not None else None
        then = self.action(f"{field}.then", fields["then"]) if "then" in fields else None
        if until is not None and then is not None and not isinstance(then, SetInterval):
            self.fault(f"{field}.until", "invalid", "until goes with interval_ms only.")
        return Rule(position, name, when, then, until) if when is not None and then is not None else None

    def condition(self, field: str, value: object, *, depth: int) -> Condition | None:
        kinds = ("path", "status", "duration_ms", "failing_for", "error_rate", "unchanged_runs", "all", "any")
        chosen = self.only_one(field, value, kinds, "condition")
        if chosen is None:
            return None
        kind, fields = chosen
        self._conditions += 1
        self._conditions_in_all += 1
        if self._conditions == MAX_CONDITIONS + 1:
            self.fault(field, "too_many", f"At most {MAX_CONDITIONS} conditions in a rule.")
        if kind == "path":
            return self.path_condition(field, fields)
        if self.mapping(field, fields, known=(kind,)) is None:
            return None
        inner, content = f"{field}.{kind}", fields[kind]
        if kind in ("status", "duration_ms"):
            return self.comparison(inner, content, StatusCondition if kind == "status" else DurationCondition)
        if kind == "error_rate":
            return self.error_rate(inner, content)
        if kind == "failing_for":
            runs = self.integer(inner, content, 1, MAX_RUNS)
            return FailingCondition(runs) if runs is not None else None
        if kind == "unchanged_runs":
            runs = self.integer(inner, content, 2, MAX_RUNS)
            return UnchangedCondition(runs) if runs is not None else None
        return self.group(inner, content, AllCondition if kind == "all" else AnyCondition, depth=depth)

    def group(
        self, field: str, value: object, make: type[AllCondition | AnyCondition], *, depth: int
    ) -> Condition | None:
        if not isinstance(value, list) or not value:
            self.fault(field, "invalid", "Give a list of at least one condition.")
            return None
        if depth >= MAX_DEPTH or len(value) > MAX_CONDITIONS:
            self.fault(field, "too_many", f"At most {MAX_CONDITIONS} conditions, nested {MAX_DEPTH} deep.")
            return None
        parts = [self.condition(f"{field}[{number}]", part, depth=depth + 1) for number, part in enumerate(value)]
        return make(tuple(part for part in parts if part is not None))

    def path_condition(self, field: str, value: Mapping[str, Any]) -> Condition | None:
        needed = ("path", "op") if value.get("op") == "exists" else ("path", "op", "value")
        fields = self.mapping(field, value, known=("path", "op", "value"), required=needed)
        if fields is None:
            return None
        op = self.operator(f"{field}.op", fields["op"], OPERATORS)
        steps: Path | None = None
        path = fields["path"]
        if isinstance(path, str):
            try:
                steps = parse_path(path)
            except ValueError as refusal:
                self.fault(f"{field}.path", "invalid", str(refusal))
        else:
            self.fault(f"{field}.path", "invalid", "A path is a text such as $.queue_depth.")
        expected = fields.get("value", True)
        usable = op is not None and self.operand(f"{field}.value", expected, op)
        if steps is None or op is None or not usable:
            return None
        return PathCondition(path, steps, op, expected)

    def operand(self, field: str, value: object, op: str) -> bool:
        if isinstance(value, str) and len(value) > MAX_TEXT_LENGTH:
            self.fault(field, "too_long", f"At most {MAX_TEXT_LENGTH} characters.")
        elif op == "exists" and not isinstance(value, bool):
            self.fault(field, "invalid", "Write true or false.")
        elif not isinstance(value, str | int | float | None):
            self.fault(field, "invalid", "Compare to a text, a number, true, false or null.")
        elif op in (">", ">=", "<", "<=") and (isinstance(value, bool) or not isinstance(value, str | int | float)):
            self.fault(field, "invalid", f"{op} compares numbers or texts.")
        elif is_number(value) and not -MAX_NUMBER <= value <= MAX_NUMBER:  # type: ignore[operator]
            self.fault(field, "out_of_range", f"Give a number of at most {MAX_NUMBER} in size.")
        else:
            return True
        return False

    def comparison(
        self, field: str, value: object, make: type[StatusCondition | DurationCondition]
    ) -> Condition | None:
        fields = self.mapping(field, value, known=("op", "value"), required=("op", "value"))
        if fields is None:
            return None
        op = self.operator(f"{field}.op", fields["op"], _NUMBER_OPERATORS)
        number = fields["value"]
        if not is_number(number) or not 0 <= number <= MAX_NUMBER:
            self.fault(f"{field}.value", "invalid", "Give a number that is not negative.")
            return None
        return make(op, number) if op is not None else None

    def error_rate(self, field: str, value: object) -> Condition | None:
        fields = self.mapping(field, value, known=("op", "value", "runs"), required=("op", "value"))
        if fields is None:
            return None
        op = self.operator(f"{field}.op", fields["op"], _NUMBER_OPERATORS)
        runs = self.integer(f"{field}.runs", fields.get("runs", DEFAULT_RATE_RUNS), 2, MAX_RATE_RUNS)
        part = fields["value"]
        if not is_number(part) or not 0 <= part <= 1:
            self.fault(f"{field}.value", "out_of_range", "Give a part from 0 to 1; 0.05 is 5 %.")
            return None
        return ErrorRateCondition(op, part, runs) if op is not None and runs is not None else None

    def action(self, field: str, value: object) -> Action | None:
        kinds = ("interval_ms", "run_sibling", "pause_minutes", "clear")
        chosen = self.only_one(field, value, kinds, "action")
        if chosen is None:
            return None
        kind, fields = chosen
        more = {"interval_ms": ("ttl_minutes",), "run_sibling": ("ttl_minutes", "every_minutes")}.get(kind, ())
        if self.mapping(field, fields, known=(kind, *more)) is None:
            return None
        ttl = self.integer(f"{field}.ttl_minutes", fields.get("ttl_minutes", DEFAULT_TTL_MINUTES), *MINUTES_RANGE)
        inner, content = f"{field}.{kind}", fields[kind]
        if kind == "clear":
            if content is not True:
                self.fault(inner, "invalid", "Write true.")
            return Clear()
        if kind == "run_sibling":
            sibling, every = self.text(inner, content), fields.get("every_minutes")
            if every is not None:
                every = self.integer(f"{field}.every_minutes", every, *MINUTES_RANGE)
            return RunSibling(sibling, ttl, every) if sibling is not None and ttl is not None else None
        if kind == "pause_minutes":
            minutes = self.integer(inner, content, *MINUTES_RANGE)
            return Pause(minutes) if minutes is not None else None
        interval_ms = self.integer(inner, content, *INTERVAL_MS_RANGE)
        if interval_ms is not None and ttl is not None and interval_ms >= ttl * 60_000:
            self.fault(f"{field}.ttl_minutes", "hint_ends_first", "Give a time to live longer than the interval.")
        return SetInterval(interval_ms, ttl) if interval_ms is not None and ttl is not None else None

    def only_one(self, field: str, value: object, kinds: Sequence[str], noun: str) -> tuple[str, dict[str, Any]] | None:
        if not isinstance(value, dict):
            self.fault(field, "invalid", f"Give a {noun} as an object.")
            return None
        present = [kind for kind in kinds if kind in value]
        if len(present) == 1:
            return present[0], value
        self.fault(field, "invalid", f"Give exactly one of {', '.join(kinds)}.")
        return None

    def mapping(
        self, field: str, value: object, *, known: Sequence[str], required: Sequence[str] = ()
    ) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            self.fault(field, "invalid", "Give an object.")
            return None
        before = len(self.faults)
        for key in value:
            if key not in known:
                self.fault(f"{field}.{str(key)[:60]}", "unknown_field", f"Not known here; use {', '.join(known)}.")
        for key in required:
            if key not in value:
                self.fault(f"{field}.{key}", "required", "This is missing.")
        return value if len(self.faults) == before else None

    def operator(self, field: str, value: object, operators: Sequence[str]) -> str | None:
        if isinstance(value, str) and value in operators:
            return value
        self.fault(field, "invalid", f"Give one of {' '.join(operators)}.")
        return None

    def integer(self, field: str, value: object, low: int, high: int) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.fault(field, "out_of_range", f"Give a whole number from {low} to {high}.")
        return None

    def text(self, field: str, value: object) -> str | None:
        if isinstance(value, str) and value.strip() and len(value) <= MAX_TEXT_LENGTH and value == visible(value):
            return value
        self.fault(field, "invalid", f"Give a text of 1 to {MAX_TEXT_LENGTH} visible characters.")
        return None
