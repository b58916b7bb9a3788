"""What servers ask for by Retry-After and rate-limit headers, as it is written in the field."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.exchange.server_wait import asked_wait
from tests.support.schedules import NOON, from_noon

Headers = list[tuple[str, str]]
UNIX_NOON = int(NOON.timestamp())


def wait(status: int | None, headers: Headers) -> float | None:
    """How many seconds a response that arrives at noon asks to wait."""
    found = asked_wait(status, headers, NOON)
    return None if found is None else (found.until - NOON).total_seconds()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 120\t", 120),
        ("0120", 120),
        ("+5", 5),
        ("60.5", 61),
        ("0.2", 1),
        ("1.", 1),
        ("60s", 60),
        ("5 m", 300),
        ("60 seconds", 60),
        ("1 Hour 30 Minutes", 5_400),
        ("PT1M30S", 90),
        ("P1DT2H", 86_400),
        ("60;comment=busy", 60),
        ("60 (busy)", 60),
        ("86400", 86_400),
        ("86401", 86_400),
        ("9999999999", 86_400),
        pytest.param("9" * 400, 86_400, id="400 digits"),
        pytest.param("9" * 10_000, 86_400, id="10,000 digits"),
        ("120, 60", 120),
        ("60,120", 120),
        ("60, nonsense", 60),
        ("-1, 60", 60),
        ("Mon, 02 Mar 2026 12:02:00 GMT", 120),
        ("Monday, 02-Mar-26 12:02:00 GMT", 120),
        ("Mon Mar  2 12:02:00 2026", 120),
        ("Mon, 02 Mar 2026 14:02:00 +0200", 120),
        ("02 Mar 2026 12:02:00 GMT", 120),
        ("2026-03-02T12:02:00Z", 120),
        ("Mon, 02 Mar 2026 12:02:00 GMT, 60", 120),
        ("60, Mon, 02 Mar 2026 12:02:00 GMT", 120),
        ("Mon, 02 Mar 2026 12:02:00 GMT, Mon, 02 Mar 2026 12:09:00 GMT", 540),
        ('"120"', 120),
        ("Wed, 04 Mar 2026 12:00:00 GMT", 86_400),
        ("Thu, 02 Mar 2028 12:00:00 GMT", 86_400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
    ],
)
def test_retry_after_is_read_as_servers_write_it(value: str, seconds: int) -> None:
    assert wait(429, [("retry-after", value)]) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            ",",
            ",,,",
            "soon",
            "-1",
            "0",
            "0.0",
            "1e3",
            "P1M",
            "pt",
            "60 parsecs",
            "5m later",
            ";60",
            "1_000",
            "NaN",
            "inf",
            "\u0661\u0662",
            "\x00",
            "12\x00",
        ),
        *("Mon, 02 Mar 2026 12:00:00 GMT", "Mon, 02 Mar 2026 11:59:59 GMT", "Sun, 06 Nov 1994 08:49:37 GMT"),
        *("Mon, 31 Feb 2026 12:00:00 GMT", "Mon, 02 Mar 2026 25:00:00 GMT", "Mon, 02 Foo 2026 12:00:00 GMT"),
        *("Mon,", "0001-01-01T00:00:00+23:59"),
    ],
    ids=ascii,
)
def test_retry_after_that_is_over_or_means_nothing_asks_for_nothing(value: str) -> None:
    assert wait(429, [("retry-after", value)]) is None


def test_of_several_lines_the_longest_wait_counts() -> None:
    assert wait(503, [("retry-after", "30"), ("retry-after", "90"), ("retry-after", "60")]) == 90


@pytest.mark.parametrize("status", [429, 503, 500, 403, 404, 408, 413, 425, 301, 302, 304, 307, 999])
def test_retry_after_counts_on_every_status_that_is_no_success(status: int) -> None:
    assert wait(status, [("retry-after", "60")]) == 60


@pytest.mark.parametrize("status", [200, 202, 204, 299, None])
def test_retry_after_on_a_success_is_no_request_to_rest(status: int | None) -> None:
    assert wait(status, [("retry-after", "60")]) is None


@pytest.mark.parametrize(
    ("date", "retry_after", "seconds"),
    [
        ("Mon, 02 Mar 2026 11:00:00 GMT", "Mon, 02 Mar 2026 11:02:00 GMT", 120),
        ("Mon, 02 Mar 2026 13:00:00 GMT", "Mon, 02 Mar 2026 13:02:00 GMT", 120),
        ("Mon, 02 Mar 2026 13:00:00 GMT", "Mon, 02 Mar 2026 12:59:00 GMT", None),
        ("Mon, 02 Mar 2026 11:00:00 GMT, Mon, 02 Mar 2026 11:00:00 GMT", "Mon, 02 Mar 2026 11:02:00 GMT", 120),
        # Not believable: the dates are compared with our own clock.
        ("Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 02 Mar 2026 12:02:00 GMT", 120),
        ("Wed, 02 Mar 2050 00:00:00 GMT", "Mon, 02 Mar 2026 12:02:00 GMT", 120),
        ("yesterday", "Mon, 02 Mar 2026 12:02:00 GMT", 120),
        ("", "Mon, 02 Mar 2026 12:02:00 GMT", 120),
    ],
)
def test_dates_are_compared_with_the_clock_of_the_server_that_wrote_them(
    date: str, retry_after: str, seconds: int | None
) -> None:
    assert wait(503, [("date", date), ("retry-after", retry_after)]) == seconds


@pytest.mark.parametrize("status", [200, 204, 403, 429, 500])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([("ratelimit-remaining", "0"), ("ratelimit-reset", "45")], 45),
        ([("ratelimit-limit", "10, 10;w=1"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "45")], 45),
        ([("ratelimit", "limit=100, remaining=0, reset=30")], 30),
        ([("ratelimit", "limit=100;remaining=0;reset=30")], 30),
        ([("ratelimit", "limit=10, remaining=5, reset=900, limit=100, remaining=0, reset=30")], 30),
        ([("ratelimit", '"default";r=0;t=30')], 30),
        ([("ratelimit", '"burst";r=0;t=5, "day";r=0;t=900, "month";r=7;t=90000')], 900),
        ([("ratelimit", '"a, b;r=1;t=5";r=0;t=30')], 30),
        ([("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "77")], 77),
        ([("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", str(UNIX_NOON + 600))], 600),
        ([("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", f"{UNIX_NOON + 600}.25")], 601),
        ([("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", str((UNIX_NOON + 600) * 1_000))], 600),
        ([("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", str((UNIX_NOON + 600) * 1_000_000_000))], 600),
        ([("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "2026-03-02T12:10:00Z")], 600),
        ([("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "Mon, 02 Mar 2026 12:10:00 GMT")], 600),
        ([("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "77")], 77),
        ([("x-ratelimit-remaining", "-3"), ("x-ratelimit-reset", "77")], 77),
        ([("x-ratelimit-remaining", "0.5"), ("x-ratelimit-reset", "77")], 77),
        ([("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "1.25")], 2),
        ([("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6m0s")], 360),
        ([("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "20ms")], 1),
        ([("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "9" * 5_000)], 86_400),
        ([("x-ratelimit-remaining", "0, 5"), ("x-ratelimit-reset", "30, 900")], 30),
        ([("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30, 900")], 900),
    ],
)
def test_a_rate_limit_with_nothing_remaining_asks_to_wait_for_its_reset(
    status: int, headers: Headers, seconds: int
) -> None:
    assert wait(status, headers) == seconds


@pytest.mark.parametrize(
    "headers",
    [
        [("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "60")],
        [("x-ratelimit-remaining", "0")],
        [("x-ratelimit-reset", "60")],
        [("x-ratelimit-remaining", "none"), ("x-ratelimit-reset", "60")],
        [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", str(UNIX_NOON - 5))],
        [
            ("x-ratelimit-remaining-requests", "9"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-requests", "9"),
        ],
        [("ratelimit", '"default";r=1;t=30')],
        [("ratelimit", '"default";q=0;w=30')],
        [("ratelimit-policy", '"default";r=0;t=30')],
        [("ratelimit", "")],
    ],
)
def test_a_rate_limit_with_something_left_or_no_reset_asks_for_nothing(headers: Headers) -> None:
    assert wait(200, headers) is None


def test_unix_times_are_compared_with_the_clock_of_the_server() -> None:
    headers = [
        ("date", "Mon, 02 Mar 2026 11:00:00 GMT"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", str(UNIX_NOON - 3_600 + 90)),
    ]
    assert wait(403, headers) == 90


def test_the_longest_of_all_headers_counts_and_is_named() -> None:
    headers = [("retry-after", "30"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "60")]
    found = asked_wait(429, headers, NOON)
    assert found is not None
    assert (found.until, found.reason) == (
        from_noon(seconds=60),
        "it answered 429 with no calls left in its rate limit",
    )
    assert asked_wait(429, headers[:1], NOON).reason == "it answered 429 with Retry-After"  # type: ignore[union-attr]


NAMES = ["retry-after", "date", "ratelimit", "ratelimit-remaining", "x-ratelimit-remaining", "x-ratelimit-reset"]
hostile = (
    st.text()
    | st.text(alphabet='0123456789.,;=" -+:rtmsGMTd')
    | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,5} [A-Z][a-z]{2} [0-9]{1,5} [0-9:]{1,9} [-+A-Z0-9]{1,6}")
)


@given(st.integers(100, 999), st.lists(st.tuples(st.sampled_from(NAMES), hostile)))
def test_no_header_breaks_the_reader_or_leaves_its_bounds(status: int, headers: Headers) -> None:
    found = asked_wait(status, headers, NOON)
    assert found is None or NOON < found.until <= NOON + timedelta(hours=24)


@pytest.mark.parametrize("part", ["1,", "Mon,", '"', " ", "1m", "r=0;", "remaining=0,", "9", "-"])
def test_ten_megabytes_of_header_are_read_as_far_as_a_few_kilobytes(part: str) -> None:
    value = part * (10_000_000 // len(part))
    names = (name for name in NAMES if name != "date")
    found = asked_wait(429, [(name, value) for name in names], NOON)
    assert found is None or found.until <= from_noon(hours=24)
