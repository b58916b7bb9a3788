"""The grammar of the owner's rules, and what they say of runs."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.conditions import Observation, PathCondition
from jobs.errors import Fault, InvalidInputError
from jobs.rules import (
    Clear,
    Pause,
    RunSibling,
    SetInterval,
    differing_verdicts,
    is_unknown,
    parse_rules,
    runs_needed,
    verdicts,
)
from scheduling.exchange.jsonpath import MISSING

THEN = {"interval_ms": 30_000}
FAILED_NEVER = "0 of the last 3 calls failed (0 %), below 2 %"
QUEUE = {"path": "$.queue_depth", "op": ">", "value": 100}


def rule(when: Any, then: Any = None, **more: Any) -> dict[str, Any]:
    return {"when": when, "then": THEN if then is None else then, **more}


def seen(document: Any = MISSING, *, failed: bool = False, **fields: Any) -> Observation:
    return Observation(failed=failed, document=document, **fields)


def test_a_hundred_conditions_are_enough_for_the_rules_of_an_endpoint() -> None:
    assert len(parse_rules([rule({"any": [QUEUE] * 19})] * 5)) == 5


def test_of_a_long_text_only_the_beginning_is_cleaned_for_the_reason() -> None:
    long = seen({"text": "a\u200b" * 500_000})
    begun = time.process_time()
    for _ in range(200):
        assert reason({"path": "$.text", "op": "!=", "value": "b"}, long) == f'text is "{"a" * 60}...", not "b"'
    assert time.process_time() - begun < 5


def reason(when: dict[str, Any], *runs: Observation) -> str | None:
    found = verdicts(parse_rules([rule(when)]), runs).get("interval")
    return found.reason if found else None


@pytest.mark.parametrize(
    ("when", "runs", "words"),
    [
        (QUEUE, [seen({"queue_depth": 412})], "queue_depth is 412, above 100"),
        (QUEUE, [seen({"queue_depth": 100})], None),
        (QUEUE, [seen({"queue_depth": "412"})], None),
        (QUEUE, [seen({})], None),
        (QUEUE, [seen()], None),
        ({**QUEUE, "op": ">="}, [seen({"queue_depth": 100})], "queue_depth is 100, at least 100"),
        ({**QUEUE, "op": "<"}, [seen({"queue_depth": 3.5})], "queue_depth is 3.5, below 100"),
        ({**QUEUE, "op": "<="}, [seen({"queue_depth": 3})], "queue_depth is 3, at most 100"),
        ({"path": "$.state", "op": "==", "value": "down"}, [seen({"state": "down"})], 'state is "down"'),
        ({"path": "$.ok", "op": "!=", "value": True}, [seen({"ok": False})], "ok is false, not true"),
        ({"path": "$.ok", "op": "!=", "value": True}, [seen({"ok": None})], "ok is null, not true"),
        ({"path": "$.ok", "op": "!=", "value": True}, [seen({"ok": {}})], "ok is an object, not true"),
        ({"path": "$.ok", "op": "!=", "value": True}, [seen({"ok": []})], "ok is a list, not true"),
        ({"path": "$.tags[0]", "op": "==", "value": "a"}, [seen({"tags": ["a"]})], 'tags[0] is "a"'),
        ({"path": "$.tags", "op": "contains", "value": "a"}, [seen({"tags": ["a"]})], 'tags contains "a"'),
        ({"path": "$.error", "op": "exists"}, [seen({"error": None})], "error is there"),
        ({"path": "$.error", "op": "exists", "value": False}, [seen({})], "error is missing"),
        ({"path": "$", "op": "==", "value": 7}, [seen(7)], "the body is 7"),
        ({"status": {"op": ">=", "value": 500}}, [seen(status_code=503)], "the status is 503, at least 500"),
        ({"status": {"op": ">=", "value": 500}}, [seen(status_code=200)], None),
        ({"status": {"op": "!=", "value": 200}}, [seen()], None),
        ({"duration_ms": {"op": ">", "value": 900}}, [seen(duration_ms=1200.4)], "the call took 1200 ms, above 900"),
        ({"duration_ms": {"op": ">", "value": 900}}, [seen()], None),
        ({"failing_for": 1}, [seen(failed=True)], "the last call failed"),
        ({"failing_for": 2}, [seen(failed=True), seen(failed=True), seen()], "the last 2 calls failed"),
        ({"failing_for": 2}, [seen(failed=True), seen(), seen(failed=True)], None),
        ({"failing_for": 2}, [seen(failed=True)], None),
        (
            {"error_rate": {"op": ">=", "value": 0.05}},
            [seen(failed=number in (3, 7, 8, 15)) for number in range(20)],
            "4 of the last 20 calls failed (20 %), at least 5 %",
        ),
        ({"error_rate": {"op": ">=", "value": 0.05}}, [seen(failed=number < 3) for number in range(20)], None),
        ({"error_rate": {"op": ">", "value": 0.05}}, [seen(failed=number == 7) for number in range(30)], None),
        ({"error_rate": {"op": ">=", "value": 0.05}}, [seen(failed=True) for _ in range(19)], None),
        ({"error_rate": {"op": "<", "value": 0.02, "runs": 3}}, [seen(), seen(), seen()], FAILED_NEVER),
        (
            {"error_rate": {"op": "==", "value": 1, "runs": 2}},
            [seen(failed=True)] * 2,
            "2 of the last 2 calls failed (100 %)",
        ),
        ({"unchanged_runs": 2}, [seen(digest="a"), seen(digest="a")], "the response was the same for 2 runs"),
        ({"unchanged_runs": 2}, [seen(digest="a"), seen(digest="b")], None),
        ({"unchanged_runs": 2}, [seen(), seen()], None),
        ({"unchanged_runs": 2}, [seen(digest="a")], None),
        (
            {"all": [QUEUE, {"status": {"op": "==", "value": 200}}]},
            [seen({"queue_depth": 412}, status_code=200)],
            "queue_depth is 412, above 100 and the status is 200",
        ),
        ({"all": [QUEUE, {"failing_for": 1}]}, [seen({"queue_depth": 412})], None),
        ({"any": [QUEUE, {"failing_for": 1}]}, [seen(failed=True)], "the last call failed"),
        ({"any": [QUEUE, {"failing_for": 1}]}, [seen()], None),
    ],
)
def test_a_condition_holds_and_says_why(when: Any, runs: list[Observation], words: str | None) -> None:
    assert reason(when, *runs) == words


def test_words_from_a_body_are_short_and_hide_nothing() -> None:
    hostile = "x\u202e\u200b\U000e0041\n" + "y" * 500
    words = reason({"path": "$.a", "op": "!=", "value": ""}, seen({"a": hostile}))
    assert words == 'a is "x' + "y" * 59 + '...", not ""'


@pytest.mark.parametrize(
    ("then", "action"),
    [
        ({"interval_ms": 30_000}, SetInterval(30_000, 60)),
        ({"interval_ms": 30_000, "ttl_minutes": 5}, SetInterval(30_000, 5)),
        ({"run_sibling": "recover"}, RunSibling("recover", 60)),
        ({"pause_minutes": 10}, Pause(10)),
        ({"clear": True}, Clear()),
    ],
)
def test_each_action_is_read(then: Any, action: Any) -> None:
    assert parse_rules([rule(QUEUE, then)])[0].then == action


@pytest.mark.parametrize(
    ("rules", "field", "code"),
    [
        ("x", "rules", "invalid"),
        ({}, "rules", "invalid"),
        ([rule(QUEUE)] * 21, "rules", "too_many"),
        ([rule({"any": [QUEUE] * 19})] * 5 + [rule(QUEUE)], "rules", "too_many"),
        ([1], "rules[0]", "invalid"),
        ([{"when": QUEUE}], "rules[0].then", "required"),
        ([rule(QUEUE), {"then": THEN}], "rules[1].when", "required"),
        ([rule(QUEUE, extra=1)], "rules[0].extra", "unknown_field"),
        ([rule(QUEUE, name="")], "rules[0].name", "invalid"),
        ([rule(QUEUE, name=7)], "rules[0].name", "invalid"),
        ([rule(QUEUE, name="a\u200b")], "rules[0].name", "invalid"),
        ([rule([])], "rules[0].when", "invalid"),
        ([rule({})], "rules[0].when", "invalid"),
        ([rule({**QUEUE, "failing_for": 1})], "rules[0].when", "invalid"),
        ([rule({**QUEUE, "op": "=~"})], "rules[0].when.op", "invalid"),
        ([rule({**QUEUE, "op": []})], "rules[0].when.op", "invalid"),
        ([rule({**QUEUE, "value": [1]})], "rules[0].when.value", "invalid"),
        ([rule({**QUEUE, "value": True})], "rules[0].when.value", "invalid"),
        ([rule({**QUEUE, "value": None})], "rules[0].when.value", "invalid"),
        ([rule({**QUEUE, "value": 10**30})], "rules[0].when.value", "out_of_range"),
        ([rule({**QUEUE, "value": "x" * 256})], "rules[0].when.value", "too_long"),
        ([rule({**QUEUE, "op": "exists", "value": 1})], "rules[0].when.value", "invalid"),
        ([rule({**QUEUE, "path": "queue_depth"})], "rules[0].when.path", "invalid"),
        ([rule({**QUEUE, "path": 7})], "rules[0].when.path", "invalid"),
        ([rule({**QUEUE, "more": 7})], "rules[0].when.more", "unknown_field"),
        ([rule({"path": "$.a", "op": ">"})], "rules[0].when.value", "required"),
        ([rule({"status": 500})], "rules[0].when.status", "invalid"),
        ([rule({"status": {"op": "contains", "value": 5}})], "rules[0].when.status.op", "invalid"),
        ([rule({"status": {"op": ">", "value": "5"}})], "rules[0].when.status.value", "invalid"),
        ([rule({"duration_ms": {"op": ">", "value": -1}})], "rules[0].when.duration_ms.value", "invalid"),
        ([rule({"status": {"op": ">", "value": 5}, "x": 1})], "rules[0].when.x", "unknown_field"),
        ([rule({"failing_for": 0})], "rules[0].when.failing_for", "out_of_range"),
        ([rule({"failing_for": True})], "rules[0].when.failing_for", "out_of_range"),
        ([rule({"unchanged_runs": 1})], "rules[0].when.unchanged_runs", "out_of_range"),
        ([rule({"all": []})], "rules[0].when.all", "invalid"),
        ([rule({"any": [{"all": [{"any": [QUEUE]}]}]})], "rules[0].when.any[0].all[0].any", "too_many"),
        ([rule({"all": [QUEUE, {"failing_for": 99}]})], "rules[0].when.all[1].failing_for", "out_of_range"),
        ([rule({"all": [{"any": [QUEUE] * 11}] * 2})], "rules[0].when.all[1].any[6]", "too_many"),
        ([rule({"error_rate": 0.05})], "rules[0].when.error_rate", "invalid"),
        ([rule({"error_rate": {"value": 0.05}})], "rules[0].when.error_rate.op", "required"),
        ([rule({"error_rate": {"op": "contains", "value": 0.05}})], "rules[0].when.error_rate.op", "invalid"),
        ([rule({"error_rate": {"op": ">=", "value": 5}})], "rules[0].when.error_rate.value", "out_of_range"),
        ([rule({"error_rate": {"op": ">=", "value": "5%"}})], "rules[0].when.error_rate.value", "out_of_range"),
        ([rule({"error_rate": {"op": ">", "value": 0, "runs": 1}})], "rules[0].when.error_rate.runs", "out_of_range"),
        ([rule(QUEUE, until={"failing_for": 0})], "rules[0].until.failing_for", "out_of_range"),
        ([rule(QUEUE, until={})], "rules[0].until", "invalid"),
        ([rule(QUEUE, {"clear": True}, until=QUEUE)], "rules[0].until", "invalid"),
        ([rule(QUEUE, name="a"), rule(QUEUE, name="b"), rule(QUEUE, name="a")], "rules[2].name", "duplicate"),
        ([rule(QUEUE, 7)], "rules[0].then", "invalid"),
        ([rule(QUEUE, {"ttl_minutes": 5})], "rules[0].then", "invalid"),
        ([rule(QUEUE, {"interval_ms": 30_000, "clear": True})], "rules[0].then", "invalid"),
        ([rule(QUEUE, {"interval_ms": 999})], "rules[0].then.interval_ms", "out_of_range"),
        ([rule(QUEUE, {"interval_ms": 1e9})], "rules[0].then.interval_ms", "out_of_range"),
        ([rule(QUEUE, {"interval_ms": 30_000, "ttl_minutes": 0})], "rules[0].then.ttl_minutes", "out_of_range"),
        ([rule(QUEUE, {"interval_ms": 30_000, "every_minutes": 5})], "rules[0].then.every_minutes", "unknown_field"),
        ([rule(QUEUE, {"pause_minutes": 5, "every_minutes": 5})], "rules[0].then.every_minutes", "unknown_field"),
        ([rule(QUEUE, {"run_sibling": "a", "every_minutes": 0})], "rules[0].then.every_minutes", "out_of_range"),
        ([rule(QUEUE, {"run_sibling": "a", "every_minutes": 1_441})], "rules[0].then.every_minutes", "out_of_range"),
        ([rule(QUEUE, {"run_sibling": "a", "every_minutes": "5"})], "rules[0].then.every_minutes", "out_of_range"),
        ([rule(QUEUE, {"interval_ms": 300_000, "ttl_minutes": 5})], "rules[0].then.ttl_minutes", "hint_ends_first"),
        ([rule(QUEUE, {"interval_ms": 3_600_000})], "rules[0].then.ttl_minutes", "hint_ends_first"),
        ([rule(QUEUE, {"pause_minutes": 2000})], "rules[0].then.pause_minutes", "out_of_range"),
        ([rule(QUEUE, {"pause_minutes": 5, "ttl_minutes": 5})], "rules[0].then.ttl_minutes", "unknown_field"),
        ([rule(QUEUE, {"run_sibling": ""})], "rules[0].then.run_sibling", "invalid"),
        ([rule(QUEUE, {"clear": False})], "rules[0].then.clear", "invalid"),
    ],
)
def test_a_fault_is_named_by_its_path(rules: Any, field: str, code: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_rules(rules)
    assert (field, code) in [(fault.field, fault.code) for fault in refused.value.faults]


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_rules(
            [
                rule({**QUEUE, "op": "?", "value": []}, {"interval_ms": 0}, extra=1),
                {"when": {"failing_for": 0}},
                rule({"error_rate": {"op": "?", "value": 2, "runs": 1}}),
            ]
        )
    assert [fault.field for fault in refused.value.faults] == [
        "rules[0].extra",
        "rules[0].when.op",
        "rules[0].then.interval_ms",
        "rules[1].then",
        "rules[1].when.failing_for",
        "rules[2].when.error_rate.op",
        "rules[2].when.error_rate.runs",
        "rules[2].when.error_rate.value",
    ]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["when", "then", "path", "op", "value", "all", "any", "status", "interval_ms", "clear"]
                ),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused_and_never_breaks(value: Any) -> None:
    faults: tuple[Fault, ...] = ()
    try:
        verdicts(parse_rules([value]), [seen({"a": 1})])
    except InvalidInputError as refused:
        faults = refused.faults
    assert all((fault.field or "").startswith("rules[0]") for fault in faults)


def test_no_rules_are_no_rules() -> None:
    assert parse_rules(None) == parse_rules([]) == ()


def test_the_first_matching_rule_of_each_kind_wins() -> None:
    always = {"path": "$", "op": "exists"}
    rules = parse_rules(
        [
            rule({"failing_for": 1}, {"interval_ms": 10_000}),
            rule(always, {"clear": True}, name="calm"),
            rule(always, {"interval_ms": 20_000}),
            rule(always, {"pause_minutes": 5}),
            rule(always, {"run_sibling": "a"}),
            rule(always, {"run_sibling": "b"}),
            rule(always, {"run_sibling": "a", "ttl_minutes": 1}),
        ]
    )
    found = verdicts(rules, [seen({})])
    assert {kind: verdict.rule.key for kind, verdict in found.items()} == {
        "interval": "calm",
        "pause": "rules[3]",
        "run_sibling:a": "rules[4]",
        "run_sibling:b": "rules[5]",
    }


RATE = {"error_rate": {"op": ">=", "value": 0.5, "runs": 2}}
CALM = {"error_rate": {"op": "==", "value": 0, "runs": 3}}


@pytest.mark.parametrize(
    ("failed", "in_force", "matches"),
    [
        ([True, True, False], None, True),
        ([True, False, False], None, False),
        ([False, False, True], None, False),
        ([False, False, True], "bad", True),
        ([False, False, True], "other", False),
        ([False, False, False], "bad", False),
        ([False, False], "bad", True),
    ],
)
def test_a_rule_with_until_matches_until_then_once_its_hint_is_in_force(
    failed: list[bool], in_force: str | None, matches: bool
) -> None:
    rules = parse_rules([rule(RATE, name="bad", until=CALM)])
    found = verdicts(rules, [seen(failed=bad) for bad in failed], lasting=[in_force] if in_force else [])
    assert ("interval" in found) is matches


def test_the_history_of_until_counts_too() -> None:
    assert runs_needed(parse_rules([rule(RATE, until=CALM)])) == 4


def test_nothing_is_said_without_runs() -> None:
    assert verdicts(parse_rules([rule({"path": "$", "op": "exists", "value": False})]), []) == {}


def test_the_history_that_rules_need_is_known() -> None:
    assert runs_needed(()) == 1
    assert runs_needed(parse_rules([rule(QUEUE)])) == 2
    assert runs_needed(parse_rules([rule({"all": [QUEUE, {"any": [{"unchanged_runs": 9}]}]})])) == 10


@pytest.mark.parametrize(
    ("runs", "holds"),
    [
        ([("a", 200), ("a", 200), ("a", 200)], True),
        ([("-", 304), ("-", 304), ("a", 200)], True),
        ([("a", 200), ("-", 304), ("a", 200)], True),
        ([("-", 304), ("-", 304), ("-", 304)], True),
        ([("a", 200), ("-", 304), ("b", 200)], False),
        ([("a", 200), (None, None), ("a", 200)], False),
    ],
)
def test_an_answer_of_304_counts_as_the_same_body(runs: list[tuple[str | None, int | None]], holds: bool) -> None:
    (rule,) = parse_rules([{"when": {"unchanged_runs": 3}, "then": {"interval_ms": 60_000, "ttl_minutes": 30}}])
    history = [Observation(failed=False, digest=digest, status_code=status) for digest, status in runs]
    assert (rule.when.because(history) is not None) is holds


def test_what_was_found_before_masking_outranks_the_stored_body() -> None:
    (rule,) = parse_rules([{"when": {"path": "$.a", "op": "==", "value": "x1"}, "then": {"clear": True}}])
    condition = rule.when
    assert isinstance(condition, PathCondition)
    stored = {"a": "********"}
    assert condition.because([Observation(failed=False, document=stored)]) is None
    told = Observation(failed=False, document=stored, verdicts={condition.key: True})
    assert condition.because([told]) == 'a is "********"'


@pytest.mark.parametrize(
    ("plain", "stored", "differing"),
    [
        ('{"a": "x1", "n": 1}', '{"a": "********", "n": 1}', {"a"}),
        ('{"a": "x2", "n": 1}', '{"a": "********", "n": 1}', set()),
        ('{"a": "x1", "n": 5}', "no JSON", {"a", "n"}),
        ("no JSON", "no JSON", set()),
    ],
)
def test_only_answers_that_masking_changes_are_kept(plain: str, stored: str, differing: set[str]) -> None:
    rules = parse_rules(
        [
            {
                "when": {
                    "all": [
                        {"path": "$.a", "op": "==", "value": "x1"},
                        {"any": [{"path": "$.n", "op": ">", "value": 3}, {"failing_for": 2}]},
                    ]
                },
                "then": {"clear": True},
            }
        ]
    )
    found = differing_verdicts(rules, plain, stored)
    assert {key.split('"')[1].removeprefix("$.") for key in found} == differing
    assert all(found.values())


FAILED = seen(failed=True, status_code=503)
CUT_OFF = seen(failed=True)
GOOD, OTHER = seen({"queue_depth": 7}, digest="a"), seen({"queue_depth": 7}, digest="b")
FAULTY = {"status": {"op": ">=", "value": 500}}


@pytest.mark.parametrize(
    ("when", "runs", "truth"),
    [
        (QUEUE, [FAILED], None),
        (QUEUE, [seen({"error": "away"}, failed=True)], None),
        (QUEUE, [seen({"queue_depth": 412}, failed=True)], True),
        (QUEUE, [seen({"queue_depth": 7}, failed=True)], False),
        (QUEUE, [seen({})], False),
        (QUEUE, [seen()], False),
        (QUEUE, [seen(status_code=304)], None),
        ({**QUEUE, "op": "<"}, [FAILED], None),
        ({"path": "$.queue_depth", "op": "exists", "value": False}, [FAILED], None),
        ({"path": "$.queue_depth", "op": "exists", "value": False}, [seen({})], True),
        ({"path": "$.queue_depth", "op": "exists"}, [FAILED], None),
        (FAULTY, [FAILED], True),
        (FAULTY, [seen(failed=True, status_code=404)], False),
        (FAULTY, [CUT_OFF], None),
        ({"duration_ms": {"op": ">", "value": 9}}, [seen(failed=True, duration_ms=10.0)], True),
        ({"duration_ms": {"op": ">", "value": 9}}, [seen(failed=True, duration_ms=8.0)], False),
        ({"failing_for": 2}, [FAILED, FAILED], True),
        ({"failing_for": 2}, [FAILED, GOOD], False),
        ({"error_rate": {"op": ">=", "value": 0.5, "runs": 2}}, [FAILED, FAILED], True),
        ({"error_rate": {"op": ">=", "value": 0.5, "runs": 2}}, [FAILED, GOOD], False),
        ({"unchanged_runs": 2}, [GOOD, GOOD], True),
        ({"unchanged_runs": 2}, [FAILED, GOOD], None),
        ({"unchanged_runs": 3}, [FAILED, GOOD, GOOD], None),
        ({"unchanged_runs": 3}, [GOOD, FAILED, OTHER], False),
        ({"unchanged_runs": 2}, [FAILED, FAILED], None),
        ({"unchanged_runs": 3}, [FAILED, GOOD], False),
        ({"all": [QUEUE, FAULTY]}, [FAILED], None),
        ({"all": [QUEUE, {"failing_for": 2}]}, [FAILED, GOOD], False),
        ({"all": [{"failing_for": 1}, FAULTY]}, [FAILED], True),
        ({"any": [QUEUE, FAULTY]}, [FAILED], True),
        ({"any": [QUEUE, {"failing_for": 2}]}, [FAILED, GOOD], None),
        ({"any": [{"failing_for": 2}, FAULTY]}, [seen(failed=True, status_code=404), GOOD], False),
        ({"all": [{"any": [QUEUE, FAULTY]}, {"any": [QUEUE, {"failing_for": 9}]}]}, [FAILED], None),
    ],
)
def test_a_condition_holds_does_not_hold_or_is_unknown(
    when: dict[str, Any], runs: list[Observation], truth: bool | None
) -> None:
    rules = parse_rules([rule(when, name="r")])
    assert (reason(when, *runs) is not None) is (truth is True)
    assert is_unknown(rules, "r", runs) is (truth is None)
    assert not is_unknown(rules, "another", runs)


@pytest.mark.parametrize(
    ("condition", "runs", "words"),
    [
        ({**QUEUE, "op": "<", "value": 50}, [seen({"queue_depth": 80})], "queue_depth is 80, waiting for below 50"),
        ({**QUEUE, "op": "<", "value": 50}, [seen({})], "queue_depth is missing, waiting for below 50"),
        ({**QUEUE, "op": "==", "value": 0}, [seen({"queue_depth": 80})], "queue_depth is 80, waiting for 0"),
        ({"path": "$.a", "op": "exists"}, [seen({})], "a is missing"),
        ({"path": "$.a", "op": "contains", "value": "b"}, [seen({})], 'a is looked at for "b"'),
        ({"status": {"op": "<", "value": 400}}, [seen(status_code=500)], "the status is 500, waiting for below 400"),
        (
            {"status": {"op": "<", "value": 400}},
            [seen(status_code=None)],
            "the status is missing, waiting for below 400",
        ),
        ({"duration_ms": {"op": "<", "value": 9}}, [seen(duration_ms=20)], "the call took 20 ms, waiting for below 9"),
        (
            {"duration_ms": {"op": "<", "value": 9}},
            [seen(duration_ms=None)],
            "the call has no duration, waiting for below 9",
        ),
        ({"failing_for": 3}, [seen(failed=True), seen()], "the last 1 calls failed, waiting for 3"),
        (
            {"unchanged_runs": 3},
            [seen(digest="a"), seen(digest="b")],
            "the response was the same for 1 runs, waiting for 3",
        ),
        (
            {"error_rate": {"op": "<", "value": 0.02, "runs": 50}},
            [seen(failed=number == 3) for number in range(50)],
            "1 of the last 50 calls failed (2 %), waiting for below 2 % over 50 runs",
        ),
        (
            {"any": [{"all": [{"failing_for": 2}]}, {**QUEUE, "op": "<", "value": 50}]},
            [seen({"queue_depth": 80})],
            "the last 0 calls failed, waiting for 2 or queue_depth is 80, waiting for below 50",
        ),
    ],
)
def test_conditions_tell_their_figures_whether_they_hold_or_not(condition: Any, runs: list[Any], words: str) -> None:
    assert parse_rules([rule(condition)])[0].when.figures(runs) == words
