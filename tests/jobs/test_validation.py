"""The checks themselves: which text is fit for what, how faults are told, and which slots a baseline has."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.errors import InvalidInputError
from jobs.headers import parse_headers, with_content_type
from jobs.models import Endpoint
from jobs.slots import upcoming_slots
from jobs.texts import check_storable, clean_name, clean_paragraph, unstorable_places
from jobs.validation import clean_endpoint, clean_job, clean_schedule
from scheduling.egress.policy import EgressPolicy

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {"name": "Ping", "url": "https://example.com/", "baseline_interval_ms": 60_000}


def check(values: dict[str, Any], current: Endpoint | None = None, synthetic: bool = False) -> dict[str, Any]:
    policy = EgressPolicy.from_settings("", "http://127.0.0.1:8000")
    return clean_endpoint(values, current=current, synthetic=synthetic, egress=policy, now=NOW)


def codes(caught: pytest.ExceptionInfo[InvalidInputError]) -> list[tuple[str | None, str]]:
    return [(fault.field, fault.code) for fault in caught.value.faults]


@pytest.mark.parametrize("name", ["Ping", "  Ping ", "日本語", "مرحبا", "👩‍👩‍👧", "e\u0301", "x" * 255, "100 %", "."])
def test_ordinary_names_of_all_scripts_pass(name: str) -> None:
    assert clean_name("name", name) == name.strip()


def test_paragraphs_keep_their_lines() -> None:
    assert clean_paragraph("description", " a\r\n\tb \n", limit=100) == " a\r\n\tb \n"


@pytest.mark.parametrize("value", [None, 1, b"x", ["x"]])
def test_what_is_no_text_is_no_name(value: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        clean_name("name", value)
    assert codes(caught) == [("name", "invalid_type")]


@pytest.mark.parametrize("text", ["a\x00", "\ud800", "\udfffz"])
def test_what_cannot_be_stored_is_found_wherever_it_is(text: str) -> None:
    value = {"ok": [1, None, True, {"deep": [text]}], text: "key", "fine": "x"}
    assert sorted(unstorable_places(value, "body")) == ["body", "body.ok[3].deep[0]"]
    with pytest.raises(InvalidInputError):
        check_storable("body", value)
    with pytest.raises(InvalidInputError) as caught:
        clean_name("name", text)
    assert codes(caught) == [("name", "invalid_characters")]
    check_storable("body", {"ok": ["\ue000", "\uffff", "😀"]})


def test_a_new_endpoint_keeps_only_what_was_given_and_its_host() -> None:
    cleaned = check({**GOOD, "url": "https://EXAMPLE.com:8443/x"})
    assert cleaned == {**GOOD, "url": "https://EXAMPLE.com:8443/x", "host": "example.com"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_synthetic_jobs_may_name_the_self_test_by_any_loopback_spelling(host: str) -> None:
    url = f"http://{host}:8000/api/synthetic/health"
    assert check({**GOOD, "url": url}, synthetic=True)["url"] == url
    for values, synthetic in (({"url": url}, False), ({"url": f"http://{host}:8001/api/synthetic/health"}, True)):
        with pytest.raises(InvalidInputError) as caught:
            check({**GOOD, **values}, synthetic=synthetic)
        assert codes(caught) == [("url", "destination_not_allowed")]


def test_a_faulty_field_is_not_blamed_twice() -> None:
    with pytest.raises(InvalidInputError) as caught:
        check({**GOOD, "baseline_interval_ms": 1, "min_interval_ms": 5_000})
    assert codes(caught) == [("baseline_interval_ms", "out_of_range")]


def test_two_baselines_are_both_named() -> None:
    with pytest.raises(InvalidInputError) as caught:
        check({**GOOD, "baseline_cron": "* * * * *", "run_once_at": NOW + timedelta(hours=1)})
    assert codes(caught) == [
        ("baseline_interval_ms", "one_baseline"),
        ("baseline_cron", "one_baseline"),
        ("run_once_at", "one_baseline"),
    ]


def test_a_fault_of_a_cron_expression_tells_its_place() -> None:
    with pytest.raises(InvalidInputError) as caught:
        clean_schedule({"baseline_cron": "0 9 * * 8"}, now=NOW)
    assert caught.value.faults[0].message.endswith("(at character 9)")


def test_a_new_zone_is_checked_with_the_stored_expression_and_a_lost_one_is_named() -> None:
    current = Endpoint(**{**GOOD, "baseline_interval_ms": None}, baseline_cron="0 9 * * *", timezone="Gone/Zone")
    assert check({"timezone": "Asia/Tokyo"}, current) == {"timezone": "Asia/Tokyo"}
    with pytest.raises(InvalidInputError) as caught:
        check({"baseline_cron": "0 10 * * *"}, current)
    assert codes(caught) == [("timezone", "invalid_timezone")]


@pytest.mark.parametrize("minutes", [-0.5, 0, 10])
def test_the_one_run_may_be_barely_past(minutes: float) -> None:
    at = NOW + timedelta(minutes=minutes)
    assert clean_schedule({"run_once_at": at}, now=NOW)["run_once_at"] == at


def test_a_one_run_that_is_over_does_not_bar_other_edits() -> None:
    current = Endpoint(**{**GOOD, "baseline_interval_ms": None}, run_once_at=NOW - timedelta(days=1))
    assert check({"name": "Renamed"}, current) == {"name": "Renamed"}


def test_end_that_has_passed_is_refused_with_its_remedy() -> None:
    for values in ({"baseline_interval_ms": 60_000}, {"baseline_cron": "0 9 * * *"}):
        with pytest.raises(InvalidInputError) as caught:
            clean_schedule({**values, "ends_at": NOW - timedelta(hours=1)}, now=NOW)
        assert codes(caught) == [("ends_at", "in_the_past")]
        assert "pause or archive" in caught.value.faults[0].message
    assert clean_schedule({"baseline_interval_ms": 60_000, "ends_at": NOW}, now=NOW)["ends_at"] == NOW


def test_stored_end_that_has_passed_since_bars_no_other_edit_and_no_preview() -> None:
    ended = NOW - timedelta(days=1)
    current = Endpoint(**GOOD, ends_at=ended)
    assert check({"name": "Renamed", "ends_at": ended}, current) == {"name": "Renamed", "ends_at": ended}
    assert clean_schedule({"baseline_interval_ms": 60_000, "ends_at": ended}, now=NOW, current=current)
    assert check({"ends_at": None}, current) == {"ends_at": None}
    with pytest.raises(InvalidInputError) as caught:
        check({"ends_at": NOW - timedelta(hours=1)}, current)
    assert codes(caught) == [("ends_at", "in_the_past")]


def test_one_run_that_is_over_may_be_sent_back_as_it_is() -> None:
    over = NOW - timedelta(days=1)
    current = Endpoint(**{**GOOD, "baseline_interval_ms": None}, run_once_at=over)
    assert check({"run_once_at": over}, current)["run_once_at"] == over


@pytest.mark.parametrize(
    ("window", "outside"),
    [
        ({"starts_at": NOW + timedelta(hours=2)}, True),
        ({"ends_at": NOW + timedelta(hours=1)}, True),
        ({"starts_at": NOW, "ends_at": NOW + timedelta(hours=2)}, False),
    ],
    ids=["before", "at the end", "inside"],
)
def test_the_one_run_lies_inside_the_window(window: dict[str, Any], outside: bool) -> None:
    values = {"run_once_at": NOW + timedelta(hours=1), **window}
    if not outside:
        assert clean_schedule(values, now=NOW)["starts_at"] == NOW
        return
    with pytest.raises(InvalidInputError) as caught:
        clean_schedule(values, now=NOW)
    assert codes(caught) == [("run_once_at", "window")]


def test_criteria_are_stored_in_their_plain_form() -> None:
    assert check({**GOOD, "success_criteria": None})["success_criteria"] is None
    stored = check({**GOOD, "success_criteria": {"status": ["200-299"]}})["success_criteria"]
    assert stored == {"status": ["200-299"], "assertions": []}


def test_a_job_that_is_edited_needs_no_name_but_a_new_one_does() -> None:
    assert clean_job({"description": None}, creating=False) == {"description": ""}
    with pytest.raises(InvalidInputError) as caught:
        clean_job({"is_synthetic": True}, creating=False)
    assert codes(caught) == [("is_synthetic", "unknown_field")]
    with pytest.raises(InvalidInputError) as caught:
        clean_job({}, creating=True)
    assert codes(caught) == [("name", "required")]


def test_headers_are_kept_in_order_without_outer_spaces_and_hidden_in_logs() -> None:
    headers = parse_headers([{"name": "X-A", "value": " s3cret\t"}, {"name": "X-B", "value": "", "secret": False}])
    assert [(header.name, header.value, header.secret) for header in headers] == [
        ("X-A", "s3cret", True),
        ("X-B", "", False),
    ]
    assert "s3cret" not in repr(headers)


def test_a_content_type_is_added_only_where_none_is() -> None:
    assert with_content_type([], "text/x") == [{"name": "Content-Type", "value": "text/x", "secret": False}]
    given = [{"name": "CONTENT-type", "value": "a/b"}]
    assert with_content_type(given, "text/x") == given


def slots(**values: Any) -> list[datetime]:
    defaults: dict[str, Any] = dict.fromkeys(("interval_ms", "cron", "run_once_at", "starts_at", "ends_at"))
    found = upcoming_slots(**{**defaults, "timezone": "UTC", "anchor_at": NOW, "after": NOW, "count": 3, **values})
    return [slot.at for slot in found]


MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("values", "minutes"),
    [
        ({"interval_ms": 60_000}, [1, 2, 3]),
        ({"interval_ms": 60_000, "after": NOW + 2.5 * MINUTE}, [3, 4, 5]),
        ({"interval_ms": 60_000, "after": NOW + 2 * MINUTE}, [3, 4, 5]),
        ({"interval_ms": 60_000, "after": NOW - MINUTE}, [1, 2, 3]),
        ({"interval_ms": 60_000, "starts_at": NOW + 5 * MINUTE}, [5, 6, 7]),
        ({"interval_ms": 60_000, "starts_at": NOW + 4.1 * MINUTE, "ends_at": NOW + 6 * MINUTE}, [5]),
        ({"interval_ms": 60_000, "ends_at": NOW + MINUTE}, []),
        ({"interval_ms": 300_000, "anchor_at": NOW + 2 * MINUTE, "starts_at": NOW + 2 * MINUTE}, [2, 7, 12]),
        ({"interval_ms": 300_000, "anchor_at": NOW - 63 * MINUTE, "starts_at": NOW - 63 * MINUTE}, [2, 7, 12]),
        ({"cron": "*/5 * * * *"}, [5, 10, 15]),
        ({"cron": "*/5 * * * *", "starts_at": NOW + 10 * MINUTE}, [10, 15, 20]),
        ({"run_once_at": NOW + MINUTE}, [1]),
        ({"run_once_at": NOW}, []),
        ({"run_once_at": NOW + MINUTE, "ends_at": NOW + MINUTE}, []),
    ],
    ids=[str(number) for number in range(14)],
)
def test_the_slots_of_a_baseline(values: dict[str, Any], minutes: list[int]) -> None:
    assert slots(**values) == [NOW + minute * MINUTE for minute in minutes]
