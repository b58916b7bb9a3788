import calendar
import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduling.cron.cadence import Cadence, CronError, check_timezone, parse_cadence
from scheduling.cron.cronspec import parse_expression
from scheduling.cron.zones import _segments

MINUTE = timedelta(minutes=1)
EVER = datetime(1, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(expression: str, after: str, count: int, zone: str = "UTC") -> list[str]:
    return [f"{slot:%Y-%m-%d %H:%M}" for slot in parse_cadence(expression, zone).slots_after(at(after), count)]


# --- what an expression means ---


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * *", ["2025-01-01 00:01", "2025-01-01 00:02"]),
        ("*/20 * * * *", ["2025-01-01 00:20", "2025-01-01 00:40", "2025-01-01 01:00"]),
        ("5/15 * * * *", ["2025-01-01 00:05", "2025-01-01 00:20", "2025-01-01 00:35", "2025-01-01 00:50"]),
        ("1-30/10 0 * * *", ["2025-01-01 00:01", "2025-01-01 00:11", "2025-01-01 00:21", "2025-01-02 00:01"]),
        ("59/15 * * * *", ["2025-01-01 00:59", "2025-01-01 01:59"]),
        ("7,3,3-4 9 * * *", ["2025-01-01 09:03", "2025-01-01 09:04", "2025-01-01 09:07", "2025-01-02 09:03"]),
        ("05 09 01 02 *", ["2025-02-01 09:05", "2026-02-01 09:05"]),
        ("1-1 5-5 * * *", ["2025-01-01 05:01", "2025-01-02 05:01"]),
        ("0 0 1 JAN,jul *", ["2025-07-01 00:00", "2026-01-01 00:00"]),
        ("0 0 1 feb-APR/2 *", ["2025-02-01 00:00", "2025-04-01 00:00", "2026-02-01 00:00"]),
        ("0 0 * * 0", ["2025-01-05 00:00", "2025-01-12 00:00"]),
        ("0 0 * * 7", ["2025-01-05 00:00", "2025-01-12 00:00"]),
        ("0 0 * * Sun", ["2025-01-05 00:00", "2025-01-12 00:00"]),
        ("0 0 * * 5-7", ["2025-01-03 00:00", "2025-01-04 00:00", "2025-01-05 00:00", "2025-01-10 00:00"]),
        ("0 0 * * MON-FRI/2", ["2025-01-03 00:00", "2025-01-06 00:00", "2025-01-08 00:00"]),
        ("0 0 * * 4/2", ["2025-01-02 00:00", "2025-01-04 00:00", "2025-01-09 00:00"]),
        ("0 0 * * 7/3", ["2025-01-04 00:00", "2025-01-05 00:00", "2025-01-08 00:00"]),
        ("0 0 L * *", ["2025-01-31 00:00", "2025-02-28 00:00", "2025-03-31 00:00"]),
        ("0 0 15,l 2 *", ["2025-02-15 00:00", "2025-02-28 00:00", "2026-02-15 00:00"]),
        ("0 0 L 2 *", ["2025-02-28 00:00", "2026-02-28 00:00", "2027-02-28 00:00", "2028-02-29 00:00"]),
        ("0 0 * * MON#2", ["2025-01-13 00:00", "2025-02-10 00:00"]),
        ("0 0 * * 1#5", ["2025-03-31 00:00", "2025-06-30 00:00"]),
        ("0 0 * * 7#1,wed#1", ["2025-01-05 00:00", "2025-02-02 00:00", "2025-02-05 00:00"]),
        ("0 0 * * 5L", ["2025-01-31 00:00", "2025-02-28 00:00", "2025-03-28 00:00"]),
        ("0 0 * * fril,7L", ["2025-01-26 00:00", "2025-01-31 00:00", "2025-02-23 00:00"]),
        ("0 0 * * TUE,MON#2", ["2025-01-07 00:00", "2025-01-13 00:00", "2025-01-14 00:00"]),
        ("0 0 ? * MON", ["2025-01-06 00:00", "2025-01-13 00:00"]),
        ("0 0 15 * ?", ["2025-01-15 00:00", "2025-02-15 00:00"]),
        ("0 0 ? * ?", ["2025-01-02 00:00", "2025-01-03 00:00"]),
        ("0 0 * * FRI-MON", ["2025-01-03 00:00", "2025-01-04 00:00", "2025-01-05 00:00", "2025-01-06 00:00"]),
        ("0 0 * * sat-sun", ["2025-01-04 00:00", "2025-01-05 00:00", "2025-01-11 00:00"]),
        ("0 0 * * 5-1", ["2025-01-03 00:00", "2025-01-04 00:00", "2025-01-05 00:00", "2025-01-06 00:00"]),
        ("0 0 * * FRI-MON/2", ["2025-01-03 00:00", "2025-01-05 00:00", "2025-01-10 00:00"]),
        ("0 0 * * 7-2", ["2025-01-05 00:00", "2025-01-06 00:00", "2025-01-07 00:00", "2025-01-12 00:00"]),
        ("0 0 * * WED,SAT-SUN", ["2025-01-04 00:00", "2025-01-05 00:00", "2025-01-08 00:00"]),
        (
            "0 0 LW * *",
            ["2025-01-31 00:00", "2025-02-28 00:00", "2025-03-31 00:00", "2025-04-30 00:00", "2025-05-30 00:00"],
        ),
        ("0 0 lw 8,11 *", ["2025-08-29 00:00", "2025-11-28 00:00"]),  # the 31st is a Sunday, the 30th is one
        ("0 0 L-3 * *", ["2025-01-28 00:00", "2025-02-25 00:00", "2025-03-28 00:00", "2025-04-27 00:00"]),
        ("0 0 l-1,L 2 *", ["2025-02-27 00:00", "2025-02-28 00:00", "2026-02-27 00:00"]),
        ("0 0 L-30 * *", ["2025-03-01 00:00", "2025-05-01 00:00", "2025-07-01 00:00"]),
        ("0 0 15W * *", ["2025-01-15 00:00", "2025-02-14 00:00", "2025-03-14 00:00", "2025-04-15 00:00"]),
        ("0 0 1w * *", ["2025-02-03 00:00", "2025-03-03 00:00", "2025-04-01 00:00"]),
        ("0 0 1W 6 *", ["2025-06-02 00:00", "2026-06-01 00:00"]),  # a Sunday moves on by a day
        ("0 0 31W * *", ["2025-01-31 00:00", "2025-03-31 00:00", "2025-05-30 00:00", "2025-07-31 00:00"]),
        ("0 0 30W 11 *", ["2025-11-28 00:00", "2026-11-30 00:00"]),  # a Sunday at the end of its month moves back
        ("0 0 1W,15,LW 2 *", ["2025-02-03 00:00", "2025-02-15 00:00", "2025-02-28 00:00"]),
        ("@midnight", ["2025-01-02 00:00", "2025-01-03 00:00"]),
        ("@Annually", ["2026-01-01 00:00", "2027-01-01 00:00"]),
        ("@hourly", ["2025-01-01 01:00", "2025-01-01 02:00"]),
        ("@daily", ["2025-01-02 00:00", "2025-01-03 00:00"]),
        ("@weekly", ["2025-01-05 00:00", "2025-01-12 00:00"]),
        ("@Monthly", ["2025-02-01 00:00", "2025-03-01 00:00"]),
        (" @yearly ", ["2026-01-01 00:00", "2027-01-01 00:00"]),
        ("\t0  12 *\t* * ", ["2025-01-01 12:00", "2025-01-02 12:00"]),
    ],
)
def test_expression_means_these_slots(expression: str, expected: list[str]) -> None:
    assert slots(expression, "2025-01-01 00:00", len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # both restricted: either matches
        ("0 0 13 * FRI", ["2025-06-06 00:00", "2025-06-13 00:00", "2025-06-20 00:00"]),
        ("0 0 10 * MON#2", ["2025-06-09 00:00", "2025-06-10 00:00", "2025-07-10 00:00"]),
        ("0 0 L * 5L", ["2025-06-27 00:00", "2025-06-30 00:00", "2025-07-25 00:00"]),
        ("0 0 31 4,6 MON", ["2025-06-02 00:00", "2025-06-09 00:00"]),
        ("0 0 1-31 * 2-2", ["2025-06-02 00:00", "2025-06-03 00:00"]),
        ("0 0 1-31 2-2 *", ["2026-02-01 00:00", "2026-02-02 00:00"]),
        ("0 0 1 * 0-6", ["2025-06-02 00:00", "2025-06-03 00:00"]),
        (
            "0 0 LW * MON",
            ["2025-06-02 00:00", "2025-06-09 00:00", "2025-06-16 00:00", "2025-06-23 00:00", "2025-06-30 00:00"],
        ),
        ("0 0 L-3 * MON#1", ["2025-06-02 00:00", "2025-06-27 00:00", "2025-07-07 00:00", "2025-07-28 00:00"]),
        # one begins with a star: both must match
        ("0 0 L-3 * */7", ["2025-12-28 00:00", "2026-09-27 00:00"]),
        ("0 0 15W * */5,MON#3", ["2025-06-16 00:00", "2025-08-15 00:00", "2025-09-15 00:00"]),
        ("0 0 */2 * MON", ["2025-06-09 00:00", "2025-06-23 00:00", "2025-07-07 00:00"]),
        ("0 0 1-7 * */7", ["2025-07-06 00:00", "2025-08-03 00:00"]),
        ("0 0 */2 * MON#2", ["2025-06-09 00:00", "2025-08-11 00:00"]),
        ("0 0 *,5 * TUE", ["2025-06-03 00:00", "2025-06-10 00:00"]),
    ],
)
def test_days_of_month_and_week_combine_as_in_vixie_cron(expression: str, expected: list[str]) -> None:
    assert slots(expression, "2025-06-01 00:00", len(expected)) == expected


# --- what is refused ---


@pytest.mark.parametrize(
    ("expression", "position", "says"),
    [
        ("", None, "empty"),
        ("  \t ", None, "empty"),
        ("* * * *", 7, "only 4"),
        ("5", 1, "only 1"),
        (
            "* * * * * *",
            0,
            "first field looks like seconds, which cron expressions here do not have; use an interval of 1 s.",
        ),
        ("*/10 * * * * *", 0, "use an interval of 10 s."),
        ("0/15 * * * * ?", 0, "use an interval of 15 s."),
        ("0/15 * * * ? *", 13, "looks like a year; leave it out: 0/15 * * * ?."),
        (
            "0 0 9 * * MON-FRI",
            0,
            "looks like seconds, which cron expressions here do not have; leave it out: 0 9 * * MON-FRI.",
        ),
        ("0 0 9 ? * MON-FRI", 0, "leave it out: 0 9 ? * MON-FRI."),
        ("30 */5 * * * *", 0, "leave it out: */5 * * * *."),
        ("*/20 * 9 * * *", 0, "leave it out: * 9 * * *; for calls every 20 s use an interval of 20 s."),
        ("61 61 61 * * *", 0, "looks like seconds, which cron expressions here do not have; leave it out."),
        ("0 9 ? * MON-FRI *", 16, "looks like a year; leave it out: 0 9 ? * MON-FRI."),
        ("0 9 * * 1 2030", 10, "looks like a year"),
        ("0 9 * * 1 2030-2035", 10, "looks like a year"),
        ("0 0 0 1 1 * 2030", 0, "leave both out: 0 0 1 1 *"),
        ("0 0 0 1 1 * * *", 10, "8 were given"),
        ("0 9 * * 1-5 /usr/bin/report --all", 12, "the URL of the endpoint says what is called"),
        ("0 9 * * * root /bin/true", 10, "A command or user"),
        ("0 9 * * * curl https://example.com", 10, "A command"),
        ("TZ=Europe/Berlin 0 9 * * *", 0, "give the zone in the field timezone"),
        ("CRON_TZ=UTC 0 9 * * *", 0, "give the zone in the field timezone and leave CRON_TZ= out"),
        ("tz=UTC @daily", 0, "give the zone in the field timezone"),
        ("MAILTO=me@example.com 0 9 * * *", 0, "MAILTO= sets a variable of a crontab; leave it out"),
        ("# daily", 0, "comment"),
        ("0 9 * * * # daily", 10, "comment"),
        ("0 9 * * * Europe/Berlin", 10, "give the zone in the field timezone"),
        ("0 9 * * * UTC", 10, "give the zone in the field timezone"),
        ("'0 9 * * *'", 0, "quotation marks"),
        ("cron(0 9 * * ? *)", 0, "the form of another service"),
        ("rate(5 minutes)", 0, "use an interval"),
        ("every 5 minutes", 0, "reads like an interval"),
        ("5m", 0, "reads like an interval"),
        ("PT15M", 0, "reads like an interval"),
        ("daily", 0, "write @daily"),
        ("60 * * * *", 0, "0 to 59, not 60; the full hour is 0"),
        ("* 24 * * *", 2, "0 to 23, not 24; midnight is 0"),
        ("0 8-24 * * *", 4, "midnight is 0"),
        ("* * 0 * *", 4, "1 to 31, not 0; the first day is 1"),
        ("* * 1,32 * *", 6, "1 to 31"),
        ("* * * 13 *", 6, "1 to 12"),
        ("* * * 0 *", 6, "January is 1"),
        ("* * * * 8", 8, "0 to 7, not 8; Sunday is 0 or 7"),
        ("* * * * 8L", 8, "0 to 7"),
        ("99999999999999999999 * * * *", 0, "0 to 59"),
        ("1-0 * * * *", 0, "backwards"),
        ("* * * NOV-FEB *", 6, "backwards; write it upwards, as in NOV-DEC,JAN-FEB"),
        ("* * * DEC-JAN *", 6, "as in DEC,JAN."),
        ("* 22-6 * * *", 2, "as in 22-23,0-6."),
        ("* * 25-5 * *", 4, "as in 25-31,1-5."),
        ("0-60 * * * *", 2, "0 to 59"),
        ("*/0 * * * *", 2, "1 to 60"),
        ("*/61 * * * *", 2, "start again in each hour; use an interval of 61 min"),
        ("* */25 * * *", 4, "1 to 24"),
        ("*/ * * * *", 2, "whole number"),
        ("* * * * */", 10, "whole number"),
        ("*/5/5 * * * *", 2, "whole number"),
        ("*/-5 * * * *", 2, "whole number"),
        ("*/x * * * *", 2, "whole number"),
        (",1 * * * *", 0, "spare comma"),
        ("1,,2 * * * *", 2, "spare comma"),
        ("1, * * * *", 2, "spare comma"),
        ("-5 * * * *", 0, "missing"),
        ("5- * * * *", 2, "missing"),
        ("/5 * * * *", 0, "missing"),
        ("1-2-3 * * * *", 2, "2-3"),
        ("** * * * *", 0, "** is not a minute"),
        ("*-5 * * * *", 0, "* is not a minute"),
        ("+5 * * * *", 0, "+5"),
        ("1.5 * * * *", 0, "1.5"),
        ("JAN * * * *", 0, "JAN is not a minute; JAN is a month, which is the fourth field"),
        ("0 MON * * *", 2, "MON is not an hour; MON is a day of week, which is the fifth field"),
        ("0 0 FRI * *", 4, "which is the fifth field"),
        ("* * * MON *", 6, "MON is a day of week, which is the fifth field"),
        ("* * * * JAN", 8, "JAN is a month, which is the fourth field"),
        ("* * * * MONDAY", 8, "three letters: write MON"),
        ("* * * * thurs-fri", 8, "write THU"),
        ("* * * Sept *", 6, "write SEP"),
        ("* * * * XYZ", 8, "three letters, SUN MON"),
        ("* * * MARCH *", 6, "write MAR"),
        ("? * * * *", 0, "? is for the two day fields; write *"),
        ("0 0 1 ? *", 6, "? is for the two day fields"),
        ("* * ?/2 * *", 4, "? stands alone in its field"),
        ("* * * * 1,?", 10, "? stands alone in its field"),
        ("H * * * *", 0, "H is a hash that other services have; write a number, and spread calls with jitterMs"),
        ("h/5 * * * *", 0, "a hash"),
        ("H(0-29)/10 * * * *", 0, "a hash"),
        ("R * * * *", 0, "random times are not supported"),
        ("R(1-5) * * * *", 0, "random"),
        ("0~30 * * * *", 0, "random"),
        ("* * 1-5W * *", 4, "no range and no step"),
        ("* * 1W-5W * *", 4, "no range and no step"),
        ("* * 15W/2 * *", 4, "no range and no step"),
        ("* * L/2 * *", 4, "no range and no step"),
        ("* * L-3/2 * *", 4, "no range and no step"),
        ("* * 15,W * *", 7, "W follows a day, as in 15W"),
        ("* * WL * *", 4, "is LW"),
        ("* * 0W * *", 4, "not 0"),
        ("* * 32W * *", 4, "1 to 31, not 32"),
        ("* * L-0 * *", 4, "L-1 to L-30"),
        ("* * L-31 * *", 4, "L-1 to L-30"),
        ("* * L-3W * *", 4, "write 15W or LW"),
        ("* * LW-3 * *", 4, "write 15W or LW"),
        ("* * 5L * *", 4, "5L in the fifth field"),
        ("* * FRIL * *", 4, "FRIL in the fifth field"),
        ("* L * * *", 2, "L and W are for the two day fields"),
        ("* * * 15W *", 6, "L and W are for the two day fields"),
        ("* * * * L", 8, "L follows a weekday, as in FRIL"),
        ("* * * * L-3", 8, "the third field"),
        ("* * * * LW", 8, "W is for the day of month"),
        ("* * * * 1W", 8, "W is for the day of month"),
        ("* * * * L5", 8, "is written 5L"),
        ("* * * * MON-FRIL", 12, "L takes one weekday"),
        ("* * * * 5L/2", 8, "third field"),
        ("* * * * APRL", 8, "APR is a month"),
        ("* * * * MON#0", 12, "1 to 5"),
        ("* * * * 1#6", 10, "1 to 5"),
        ("* * * * 1#", 10, "1 to 5"),
        ("* * * * MON#2/2", 12, "1 to 5"),
        ("* * * * fri#L", 12, "the last one is FRIL"),
        ("* * * * #2", 8, "missing"),
        ("* * * * *#2", 8, "# takes one weekday"),
        ("* * * * MON-FRI#2", 8, "# takes one weekday, as in MON#2, not MON-FRI"),
        ("* * 1#2 * *", 4, "# is for the fifth field"),
        ("@reboot", 0, "start of a machine, and here is none"),
        ("@every 5m", 0, "use an interval of 5m (baselineIntervalMs 300000)"),
        ("@every 1h30m", 0, "baselineIntervalMs 5400000"),
        ("@every", 0, "give it as an interval"),
        ("@minutely", 0, "write * * * * *"),
        ("@quarterly", 0, "@hourly"),
        ("@daily /usr/bin/backup", 7, "what is called"),
        ("  @daily x", 9, "stands alone"),
        ("0 0 @daily * *", 4, "@daily is not a day of month"),
        ("٣ * * * *", 0, "plain letters"),
        ("* * * * \uff15", 8, "plain letters"),
        ("*/²  * * * *", 2, "plain letters"),
        ("* * *\n* *", 5, "plain letters"),
        ("* * * * *\n", 9, "plain letters"),
        ("* * *\u00a0* *", 5, "plain letters"),
        ("* * * * *\x00", 9, "plain letters"),
        ("\x7f * * * *", 0, "plain letters"),
        ("* * * * " + "1," * 96 + "1", None, "200 characters"),
    ],
)
def test_bad_expression_is_refused_with_its_position(expression: str, position: int | None, says: str) -> None:
    with pytest.raises(CronError) as refused:
        parse_cadence(expression)
    assert (refused.value.code, refused.value.position) == ("invalid_cron", position)
    assert says in str(refused.value)
    assert str(refused.value).isprintable()


def test_expression_of_200_characters_is_accepted() -> None:
    expression = "0 0 * * " + "1," * 95 + "01"
    assert len(expression) == 200
    assert parse_cadence(expression) is parse_cadence(expression)


def refusal_of(expression: str, zone: str = "UTC") -> CronError | None:
    try:
        parse_cadence(expression, zone)
    except CronError as refused:
        return refused
    return None


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789*/-,#LlWwHR?@~=() \tMONFRIJAdaily", max_size=40) | st.text(max_size=12))
def test_any_text_is_parsed_or_refused_in_one_way(text: str) -> None:
    refusal = refusal_of(text)
    assert refusal is None or refusal.position is None or 0 <= refusal.position <= len(text)


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 30 2 *",
        "0 0 30,31 2 *",
        "0 0 31 4 *",
        "0 0 31 4,6,9,11 *",
        "0 0 */30 2 MON#5",
        "0 0 */31 2 1#2",
        "0 0 29 2 */7",  # 29 February on a Sunday: every 28 years, or 40
        "0 0 * 2 MON#5",
        "0 0 1 1 */7",  # a New Year on a Sunday can be 11 or 12 years away
    ],
)
def test_expression_that_can_stay_silent_beyond_8_years_is_refused(expression: str) -> None:
    with pytest.raises(CronError, match="every 8 years") as refused:
        parse_cadence(expression)
    assert (refused.value.code, refused.value.position) == ("never_fires", None)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("2024-02-28 23:59:59", "2024-02-29 00:00"),
        ("2024-02-29 00:00", "2028-02-29 00:00"),
        ("2096-02-29 00:00", "2104-02-29 00:00"),
        ("2096-03-01 00:00", "2104-02-29 00:00"),
        ("2196-12-31 00:00", "2204-02-29 00:00"),
    ],
)
def test_29_february_is_found_across_a_century(after: str, expected: str) -> None:
    assert slots("0 0 29 2 *", after, 1) == [expected]
    assert parse_cadence("0 0 29 2 *").latest_at_or_before(at(expected) - MINUTE, not_before=EVER) is not None


def test_31st_or_a_weekday_of_april_fires_by_its_weekday() -> None:
    assert slots("0 0 31 4 MON", "2025-01-01 00:00", 2) == ["2025-04-07 00:00", "2025-04-14 00:00"]


# --- zones ---


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "UTC ",
        "Factory",
        "localtime",
        "posixrules",
        "posix/Europe/Berlin",
        "right/UTC",
        "europe/berlin",
        "EUROPE/BERLIN",
        "utc",
        "../../etc/passwd",
        "/usr/share/zoneinfo/UTC",
        "Europe/../UTC",
        "Europe/Berlin\x00",
        "\x00",
        "Europe",
        "Europe/",
        "Mars/Olympus",
        "+02:00",
        "UTC+2",
        "zone.tab",
        "A" * 100_000,
        "Europe/B\u0435rlin",
    ],
)
def test_name_that_is_no_zone_is_refused(name: str) -> None:
    for attempt in (lambda: check_timezone(name), lambda: parse_cadence("@daily", name)):
        with pytest.raises(CronError) as refused:
            attempt()
        assert (refused.value.code, refused.value.position) == ("invalid_timezone", None)
        assert len(str(refused.value)) < 400
        assert str(refused.value).isprintable()


def test_wrong_case_gets_the_right_name_as_remedy() -> None:
    with pytest.raises(CronError, match="did you mean America/New_York"):
        check_timezone("america/new_york")


def test_every_other_zone_of_the_database_is_accepted() -> None:
    names = {name for name in available_timezones() if not name.startswith(("posix/", "right/"))}
    for name in names - {"Factory", "localtime", "posixrules"}:
        assert check_timezone(name).key == name


# --- changes of the clock: expected instants are UTC ---


@pytest.mark.parametrize(
    ("zone", "expression", "after", "expected"),
    [
        # Berlin: 02:00 -> 03:00 on 30 March, 03:00 -> 02:00 on 26 October, both at 01:00 UTC
        ("Europe/Berlin", "30 2 * * *", "2025-03-29 12:00", ["2025-03-30 01:00", "2025-03-31 00:30"]),
        ("Europe/Berlin", "0,15,30 2 * * *", "2025-03-29 12:00", ["2025-03-30 01:00", "2025-03-31 00:00"]),
        ("Europe/Berlin", "0 2,3 * * *", "2025-03-29 12:00", ["2025-03-30 01:00", "2025-03-31 00:00"]),
        ("Europe/Berlin", "1 2,3 * * *", "2025-03-29 12:00", ["2025-03-30 01:00", "2025-03-30 01:01"]),
        ("Europe/Berlin", "0-59 2 * * *", "2025-03-29 12:00", ["2025-03-30 01:00", "2025-03-31 00:00"]),
        ("Europe/Berlin", "*/30 2 * * *", "2025-03-29 12:00", ["2025-03-31 00:00", "2025-03-31 00:30"]),
        ("Europe/Berlin", "30 * * * *", "2025-03-30 00:00", ["2025-03-30 00:30", "2025-03-30 01:30"]),
        ("Europe/Berlin", "30 2 * * *", "2025-10-25 12:00", ["2025-10-26 00:30", "2025-10-27 01:30"]),
        ("Europe/Berlin", "30 2 * * *", "2025-10-26 00:45", ["2025-10-27 01:30"]),
        ("Europe/Berlin", "30 2 * * *", "2025-10-26 01:15", ["2025-10-27 01:30"]),
        ("Europe/Berlin", "0 3 * * *", "2025-10-26 00:00", ["2025-10-26 02:00"]),
        ("Europe/Berlin", "30 * * * *", "2025-10-26 00:00", ["2025-10-26 00:30", "2025-10-26 01:30"]),
        ("Europe/Berlin", "*/30 2 * * *", "2025-10-26 00:10", ["2025-10-26 00:30", "2025-10-26 01:00"]),
        ("Europe/Berlin", "30 0-23 * * *", "2025-10-26 00:00", ["2025-10-26 00:30", "2025-10-26 02:30"]),
        # Lord Howe moves by half an hour
        ("Australia/Lord_Howe", "15 2 * * *", "2025-10-04 12:00", ["2025-10-04 15:30", "2025-10-05 15:15"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2025-04-05 12:00", ["2025-04-05 14:45", "2025-04-06 15:15"]),
        ("Australia/Lord_Howe", "45 * * * *", "2025-04-05 14:00", ["2025-04-05 14:45", "2025-04-05 15:15"]),
        # Casablanca leaves +01 for Ramadan
        ("Africa/Casablanca", "30 2 * * *", "2025-02-22 12:00", ["2025-02-23 01:30", "2025-02-24 02:30"]),
        ("Africa/Casablanca", "30 2 * * *", "2025-04-05 12:00", ["2025-04-06 02:00", "2025-04-07 01:30"]),
        # Apia had no 30 December 2011
        ("Pacific/Apia", "0 9 * * *", "2011-12-29 20:00", ["2011-12-30 10:00", "2011-12-30 19:00"]),
        ("Pacific/Apia", "0 12 30 12 *", "2011-12-01 00:00", ["2011-12-30 10:00", "2012-12-29 22:00"]),
        ("Pacific/Apia", "0 12 * * FRI", "2011-12-29 20:00", ["2011-12-30 10:00", "2012-01-05 22:00"]),
        ("Pacific/Apia", "0 * * * *", "2011-12-30 08:30", ["2011-12-30 09:00", "2011-12-30 10:00"]),
        # Sao Paulo changed at midnight
        ("America/Sao_Paulo", "0 0 * * *", "2018-11-03 12:00", ["2018-11-04 03:00", "2018-11-05 02:00"]),
        ("America/Sao_Paulo", "30 0 4 11 *", "2018-11-03 12:00", ["2018-11-04 03:00", "2019-11-04 03:30"]),
        ("America/Sao_Paulo", "30 23 * * *", "2018-02-17 12:00", ["2018-02-18 01:30", "2018-02-19 02:30"]),
        # Troll moves by two hours
        ("Antarctica/Troll", "0 1,2 * * *", "2025-03-29 12:00", ["2025-03-30 01:00", "2025-03-30 23:00"]),
        ("Antarctica/Troll", "30 1,2 * * *", "2025-10-25 12:00", ["2025-10-25 23:30", "2025-10-26 00:30"]),
        ("Antarctica/Troll", "30 1,2 * * *", "2025-10-26 00:30", ["2025-10-27 01:30"]),
        # Kathmandu is 5:45 ahead, since a leap of 15 minutes at the start of 1986
        ("Asia/Kathmandu", "0 0 * * *", "2025-06-01 00:00", ["2025-06-01 18:15", "2025-06-02 18:15"]),
        ("Asia/Kathmandu", "5 0 1 1 *", "1985-12-01 00:00", ["1985-12-31 18:30", "1986-12-31 18:20"]),
        # Dublin's summer is its standard time
        ("Europe/Dublin", "30 1 * * *", "2025-03-29 12:00", ["2025-03-30 01:00", "2025-03-31 00:30"]),
        ("Europe/Dublin", "30 1 * * *", "2025-10-25 12:00", ["2025-10-26 00:30", "2025-10-27 01:30"]),
    ],
)
def test_slots_across_a_change_of_the_clock(zone: str, expression: str, after: str, expected: list[str]) -> None:
    assert slots(expression, after, len(expected), zone) == expected


spec_of = cache(parse_expression)


@cache
def weekdays_of_month(day: date) -> list[int]:
    """The days of its month that are Monday to Friday."""
    length = calendar.monthrange(day.year, day.month)[1]
    return [number for number in range(1, length + 1) if day.replace(day=number).isoweekday() <= 5]


def nearest_weekday(day: date, number: int) -> int:
    return min(weekdays_of_month(day), key=lambda weekday: abs(weekday - number))


def day_matches(expression: str, day: date) -> bool:
    spec = spec_of(expression)
    last = calendar.monthrange(day.year, day.month)[1]
    weekday = day.isoweekday() % 7
    by_day = (
        day.day in spec.days
        or last - day.day in spec.days_before_last
        or day.day in {nearest_weekday(day, number) for number in spec.nearest_weekdays if number <= last}
        or (spec.last_weekday and day.day == max(weekdays_of_month(day)))
    )
    by_weekday = (
        weekday in spec.weekdays
        or (weekday, (day.day + 6) // 7) in spec.nth_weekdays
        or (weekday in spec.last_weekdays and day.day + 7 > last)
    )
    either = by_day and by_weekday if spec.both_days else by_day or by_weekday
    return day.month in spec.months and either


def wall_matches(expression: str, wall: datetime) -> bool:
    spec = spec_of(expression)
    return wall.minute in spec.minutes and wall.hour in spec.hours and day_matches(expression, wall.date())


def slots_minute_by_minute(expression: str, zone: str, first: datetime, until: datetime) -> list[datetime]:
    """The slots in (first, until] by looking at every minute; the three days before serve to know what is a repeat."""
    info = ZoneInfo(zone)
    fixed = spec_of(expression).fixed_time
    found = []
    moment = first - timedelta(days=3)
    latest = moment.astimezone(info).replace(tzinfo=None)
    while moment < until:
        moment += MINUTE
        wall = moment.astimezone(info).replace(tzinfo=None)
        passed = [wall]
        if fixed:
            passed = [latest + n * MINUTE for n in range(1, int((wall - latest) / MINUTE) + 1)]
            latest = max(latest, wall)
        if moment > first and any(wall_matches(expression, each) for each in passed):
            found.append(moment)
    return found


WINDOWS = [
    ("Europe/Berlin", "2025-03-29 00:07"),
    ("Europe/Berlin", "2025-10-25 00:07"),
    ("Australia/Lord_Howe", "2025-10-04 00:00"),
    ("Australia/Lord_Howe", "2025-04-05 00:00"),
    ("Pacific/Apia", "2011-12-29 12:00"),
    ("America/Sao_Paulo", "2018-11-03 12:00"),
    ("America/Sao_Paulo", "2018-02-17 00:00"),
    ("Antarctica/Troll", "2025-10-25 00:00"),
    ("Africa/Casablanca", "2025-02-22 00:00"),
    ("Asia/Manila", "2024-12-31 00:00"),
    ("Africa/Casablanca", "1985-12-31 06:00"),
    ("Africa/Niamey", "1959-12-31 00:00"),  # a skipped hour from the very start of a UTC year
    ("Pacific/Kwajalein", "1993-08-20 00:00"),
    ("America/Caracas", "2007-12-08 12:00"),
]


@pytest.mark.parametrize(("zone", "first"), WINDOWS)
@pytest.mark.parametrize(
    "expression", ["20 0-3,23 * * *", "7 2 29-31 * *", "*/20 1,2 * * *", "0 */5 * * *", "0 0 L * 1,6"]
)
def test_two_days_agree_with_a_search_minute_by_minute(zone: str, first: str, expression: str) -> None:
    start, until = at(first), at(first) + timedelta(days=2)
    expected = slots_minute_by_minute(expression, zone, start, until)
    cadence = parse_cadence(expression, zone)
    ahead = cadence.slots_after(start, len(expected) + 1)
    assert ahead[:-1] == expected
    assert ahead[-1] > until
    assert cadence.count_between(start, until) == len(expected)
    backwards, here = [], until
    while (slot := cadence.latest_at_or_before(here, not_before=start)) is not None:
        backwards.append(slot)
        here = slot - timedelta(microseconds=1)
    assert backwards[::-1] == expected


# --- the other questions ---


def test_slot_at_the_instant_itself_counts_as_at_and_not_as_after() -> None:
    cadence = parse_cadence("0 9 * * *")
    nine = at("2025-01-01 09:00")
    assert cadence.first_at_or_after(nine) == nine
    assert cadence.first_at_or_after(nine + timedelta(microseconds=1)) == nine + timedelta(days=1)
    assert cadence.next_after(nine) == nine + timedelta(days=1)
    assert cadence.next_after(nine - timedelta(microseconds=1)) == nine
    assert cadence.latest_at_or_before(nine, not_before=EVER) == nine
    assert cadence.latest_at_or_before(nine - timedelta(microseconds=1), not_before=EVER) == nine - timedelta(days=1)
    assert cadence.count_between(nine, nine) == 0
    assert cadence.count_between(nine - timedelta(microseconds=1), nine) == 1


def test_latest_slot_is_strictly_after_its_bound() -> None:
    cadence = parse_cadence("0 9 * * *", "Europe/Berlin")
    slot = at("2025-01-05 08:00")
    now = at("2025-01-05 12:00")
    assert cadence.latest_at_or_before(now, not_before=slot - MINUTE) == slot
    assert cadence.latest_at_or_before(now, not_before=slot) is None
    assert cadence.latest_at_or_before(now, not_before=now + MINUTE) is None


def test_latest_slot_is_found_years_back_but_not_before_its_bound() -> None:
    cadence = parse_cadence("0 0 29 2 *", "Europe/Berlin")
    assert cadence.latest_at_or_before(at("2028-02-01 00:00"), not_before=EVER) == at("2024-02-28 23:00")
    assert cadence.latest_at_or_before(at("2028-02-01 00:00"), not_before=at("2027-06-01 00:00")) is None


def test_count_stops_at_its_limit_and_is_zero_for_an_empty_span() -> None:
    cadence = parse_cadence("* * * * *")
    start = at("2025-01-01 00:00")
    assert cadence.count_between(start, start + timedelta(days=1)) == 1440
    assert cadence.count_between(start, start + timedelta(days=400)) == 100_000
    assert cadence.count_between(start, start + timedelta(days=400), limit=7) == 7
    assert cadence.count_between(start, start - timedelta(days=1)) == 0


def test_count_over_years_matches_the_slots_themselves() -> None:
    cadence = parse_cadence("30 2,14 * * MON-FRI", "Europe/Berlin")
    start = at("2024-12-31 10:00")
    slots_of_two_years = cadence.slots_after(start, 1200)
    assert cadence.count_between(start, slots_of_two_years[-1]) == 1200
    assert cadence.count_between(start, slots_of_two_years[-1] - MINUTE) == 1199


def test_slots_after_takes_none_for_a_count_of_zero() -> None:
    assert parse_cadence("@daily").slots_after(at("2025-01-01 00:00"), 0) == []


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Auckland"])
def test_ends_of_the_calendar_give_no_slot_instead_of_an_error(zone: str) -> None:
    leap = parse_cadence("0 0 29 2 *", zone)
    assert leap.next_after(at("9996-03-01 12:00")) is None
    assert leap.slots_after(at("9994-01-01 00:00"), 9) == [leap.next_after(at("9994-01-01 00:00"))]
    assert leap.latest_at_or_before(at("0003-05-01 00:00"), not_before=EVER) is None
    minutely = parse_cadence("* * * * *", zone)
    assert minutely.next_after(datetime.max.replace(tzinfo=ZoneInfo("America/New_York"))) is None
    assert minutely.next_after(datetime.min.replace(tzinfo=ZoneInfo("Asia/Tokyo"))) == minutely.next_after(EVER)
    assert minutely.next_after(at("9998-12-31 23:59:30")) is None
    assert minutely.next_after(at("9999-12-31 23:59:30")) is None
    assert minutely.next_after(EVER) is not None
    assert minutely.latest_at_or_before(EVER, not_before=EVER) is None
    assert minutely.latest_at_or_before(datetime.max.replace(tzinfo=UTC), not_before=EVER) is not None
    assert minutely.count_between(EVER, datetime.max.replace(tzinfo=UTC), limit=10) == 10
    yearly = parse_cadence("@yearly", zone)
    assert yearly.next_after(at("9998-12-31 23:30")) is None
    assert yearly.latest_at_or_before(at("0002-01-01 00:00"), not_before=EVER) in (None, at("0002-01-01 00:00"))


def test_instant_without_a_zone_is_a_mistake_of_the_caller() -> None:
    cadence = parse_cadence("@daily")
    naive = at("2025-01-01 00:00").replace(tzinfo=None)
    for question in (cadence.next_after, cadence.first_at_or_after, lambda now: cadence.count_between(now, now)):
        with pytest.raises(ValueError, match="aware"):
            question(naive)


def test_instant_of_any_zone_is_understood_and_the_answer_is_utc() -> None:
    berlin = datetime(2025, 6, 1, 10, 59, tzinfo=ZoneInfo("Europe/Berlin"))
    slot = parse_cadence("0 9 * * *").next_after(berlin)
    assert slot == at("2025-06-01 09:00")
    assert slot.tzinfo is UTC


def test_cadence_is_a_value() -> None:
    cadence = parse_cadence("0 9 * * *", "Europe/Berlin")
    assert cadence == Cadence("0 9 * * *", "Europe/Berlin")
    assert hash(cadence) == hash(Cadence("0 9 * * *", "Europe/Berlin"))
    assert cadence != parse_cadence("0 9 * * *")
    assert copy.deepcopy(cadence).next_after(EVER) == cadence.next_after(EVER)
    assert repr(cadence) == "Cadence(expression='0 9 * * *', timezone='Europe/Berlin')"
    with pytest.raises(CronError):
        Cadence("0 25 * * *", "UTC")


def test_threads_that_share_a_cadence_do_not_disturb_each_other() -> None:
    cadence = parse_cadence("0 0 13 * 5")
    midday = at("2025-01-01 12:00")

    def ask(century: int) -> list[tuple[date, date]]:
        starts = (midday + timedelta(days=36_525 * century + n) for n in range(700))
        return [(start.date(), cadence.next_after(start).date()) for start in starts]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = [answer for answers in pool.map(ask, range(4)) for answer in answers]
    finally:
        sys.setswitchinterval(interval)
    for start, found in together:
        days = (start + timedelta(days=n) for n in range(1, 40))
        assert found == next(day for day in days if day_matches("0 0 13 * 5", day))


# --- properties ---


def lists(item: st.SearchStrategy[str], low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    spans = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    some = st.one_of(number.map(str), spans, st.tuples(spans, st.integers(1, 5)).map(lambda p: f"{p[0]}/{p[1]}"), item)
    steps = st.integers(1, high - low + 1).map(lambda step: f"*/{step}")
    return st.one_of(st.just("*"), steps, st.lists(some, min_size=1, max_size=3).map(",".join))


EXPRESSIONS = st.tuples(
    lists(st.just("0"), 0, 59),
    lists(st.sampled_from(["1", "2", "3"]), 0, 23),
    lists(st.sampled_from(["L", "L-3", "l-28", "15W", "1w", "31W", "LW"]), 1, 31),
    st.just("*") | lists(st.sampled_from(["MAR", "OCT"]), 1, 12),
    lists(st.sampled_from(["MON#2", "7#1", "5L", "SAT", "3#5", "FRI-MON", "6-2/2"]), 0, 6) | st.just("?"),
).map(" ".join)
ZONES = st.sampled_from(sorted({zone for zone, _ in WINDOWS} | {"UTC", "Asia/Kathmandu", "Europe/Dublin", "Asia/Gaza"}))
NEAR_CHANGES = st.sampled_from([at(first) for _, first in WINDOWS])
INSTANTS = st.builds(
    lambda base, seconds: base + timedelta(seconds=seconds),
    NEAR_CHANGES | st.integers(0, 50 * 365).map(lambda days: at("1995-01-01") + timedelta(days=days)),
    st.integers(-200_000, 200_000),
)


def parsed_or_none(expression: str, zone: str) -> Cadence | None:
    refusal = refusal_of(expression, zone)
    assert refusal is None or refusal.code == "never_fires"
    return None if refusal else parse_cadence(expression, zone)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, ZONES, INSTANTS)
@example("30 2 * * *", "Europe/Berlin", at("2025-03-29 12:00"))
def test_slots_rise_match_the_wall_clock_and_answer_alike_in_every_direction(
    expression: str, zone: str, instant: datetime
) -> None:
    cadence = parsed_or_none(expression, zone)
    if cadence is None:
        return
    found = cadence.slots_after(instant, 4)
    assert len(found) == 4
    for before, slot in pairwise([instant, *found]):
        assert slot > before
        assert cadence.next_after(slot - timedelta(microseconds=1)) == slot
        assert cadence.first_at_or_after(slot) == slot
        assert cadence.next_after(before) == slot
        assert cadence.latest_at_or_before(slot, not_before=before) == slot
        assert cadence.latest_at_or_before(slot - timedelta(microseconds=1), not_before=before) in (None, before)
        wall = slot.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        moved = (slot - MINUTE).astimezone(ZoneInfo(zone)).replace(tzinfo=None) + MINUTE != wall
        assert wall_matches(expression, wall) or moved
    assert cadence.count_between(instant, found[-1]) == 4
    assert cadence.slots_after(instant, 4) == found


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, st.dates(date(1990, 1, 1), date(2110, 1, 1)))
@example("0 0 15,L * *", date(2025, 2, 20))
@example("0 0 31 * *", date(2025, 3, 1))
def test_days_agree_with_a_look_at_every_day(expression: str, start: date) -> None:
    cadence = parsed_or_none(expression, "UTC")
    if cadence is None:
        return
    midnight = datetime(start.year, start.month, start.day, tzinfo=UTC)
    ahead = next(day for n in range(3000) if day_matches(expression, day := start + timedelta(days=n)))
    behind = next(day for n in range(1, 3000) if day_matches(expression, day := start - timedelta(days=n)))
    assert cadence.first_at_or_after(midnight).date() == ahead
    assert cadence.latest_at_or_before(midnight - MINUTE, not_before=EVER).date() == behind


@pytest.mark.parametrize("day", ["*", "*/2", "*/30"])
@pytest.mark.parametrize("month", ["1", "2", "4"])
@pytest.mark.parametrize("weekday", ["*", "MON#5", "*/7"])
def test_refusal_agrees_with_the_gaps_of_400_years(day: str, month: str, weekday: str) -> None:
    expression = f"0 0 {day} {month} {weekday}"
    firing = [
        year
        for year in range(2000, 2400)
        if any(
            day_matches(expression, date(year, number, day_of_month))
            for number in spec_of(expression).months
            for day_of_month in range(1, calendar.monthrange(year, number)[1] + 1)
        )
    ]
    gaps = [later - earlier for earlier, later in pairwise([*firing, firing[0] + 400])] if firing else [400]
    assert (parsed_or_none(expression, "UTC") is None) == (max(gaps) > 8)


# --- against another implementation ---


def cronsim_slots(expression: str, zone: str, after: datetime) -> list[datetime]:
    """One year of cronsim's slots; it names an instant once for every skipped time that collapses into it."""
    found: dict[datetime, None] = {}
    for slot in CronSim(expression, after.astimezone(ZoneInfo(zone))):
        if slot.astimezone(UTC) > after + timedelta(days=365):
            break
        found[slot.astimezone(UTC)] = None
    return list(found)


def one_zone_of_each_kind(year: int) -> list[str]:
    """A zone for every different course of offsets in a year."""
    kinds = {_segments(zone, year): zone for zone in sorted(available_timezones() - {"Factory", "localtime"})}
    return sorted(kinds.values())


def test_all_zones_agree_with_cronsim_over_a_year() -> None:
    after = at("2025-01-01 00:00")
    zones = one_zone_of_each_kind(2025)
    (lord_howe,) = {"Australia/LHI", "Australia/Lord_Howe"} & set(zones)
    assert len(zones) > 50
    for zone in zones:
        for expression in ("30 0,2 * * *", "*/30 2 * MAR,APR,OCT,NOV *"):
            if expression.startswith("*") and zone == lord_howe:
                continue
            expected = cronsim_slots(expression, zone, after)
            assert parse_cadence(expression, zone).slots_after(after, len(expected)) == expected, (zone, expression)


@pytest.mark.parametrize(
    "expression",
    [
        "*/30 1,2,3 * * *",
        "15 */3 * * *",
        "0 0 13 * 5",
        "0 12 */5 * MON",
        "5 4 L * *",
        "0 6 * * 5L",
        "0 6 * JAN 1#3",
        "59/7 1-9/3 * * *",
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Antarctica/Troll", "America/Havana"])
def test_expression_agrees_with_cronsim_over_a_year(expression: str, zone: str) -> None:
    after = at("2025-01-01 00:00")
    expected = cronsim_slots(expression, zone, after)
    assert parse_cadence(expression, zone).slots_after(after, len(expected)) == expected


def test_weekday_steps_end_on_saturday_where_cronsim_adds_sunday() -> None:
    after = at("2025-01-01 00:00")
    assert [slot.isoweekday() for slot in parse_cadence("0 0 * * 1/2").slots_after(after, 3)] == [5, 1, 3]
    assert [slot.isoweekday() for slot in cronsim_slots("0 0 * * 1/2", "UTC", after)[:4]] == [5, 7, 1, 3]


def test_hour_after_a_half_hour_change_is_kept_where_cronsim_steps_over_it() -> None:
    after, slot = at("2025-04-05 14:00"), at("2025-04-05 16:45")  # 03:15 on Lord Howe, after 02:00 became 01:30
    assert parse_cadence("15 */3 * * *", "Australia/Lord_Howe").next_after(after) == slot
    assert slots_minute_by_minute("15 */3 * * *", "Australia/Lord_Howe", after, slot) == [slot]
    assert slot not in cronsim_slots("15 */3 * * *", "Australia/Lord_Howe", after)
