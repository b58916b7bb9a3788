import pytest

from scheduling.cron.fields import CronError
from scheduling.cron.steps import uneven_steps


@pytest.mark.parametrize(
    ("expression", "field", "unit", "gaps"),
    [
        ("*/45 * * * *", "minute", "min", (45, 15)),
        ("*/59 * * * *", "minute", "min", (59, 1)),
        ("*/7 * * * *", "minute", "min", (7, 4)),
        ("*/40 9-17 * * MON-FRI", "minute", "min", (40, 20)),
        ("5/25 * * * *", "minute", "min", (25, 10)),
        ("0/25 * * * *", "minute", "min", (25, 10)),
        ("59/15 * * * *", "minute", "min", (60,)),
        ("0-59/7 * * * *", "minute", "min", (7, 4)),
        ("*/20,7 * * * *", "minute", "min", (7, 13, 20)),
        ("0 */7 * * *", "hour", "h", (7, 3)),
        ("0 */5 * * *", "hour", "h", (5, 4)),
        ("0 1/9 * * *", "hour", "h", (9, 6)),
        ("0 0 */2 * *", "day of month", "d", (2, 1)),
        ("0 0 */10 * *", "day of month", "d", (10, 1, 9, 8)),
        ("0 0 */31 * *", "day of month", "d", (31, 30, 29, 28)),
        ("0 0 1-31/5 * *", "day of month", "d", (5, 1, 4, 3)),
        ("0 0 1 */5 *", "month", "months", (5, 2)),
        ("0 0 * * */2", "day of week", "d", (2, 1)),
        ("0 0 * * */3", "day of week", "d", (3, 1)),
        ("0 0 * * 1-7/2", "day of week", "d", (1, 2)),
        ("0 0 * * MON-SUN/4", "day of week", "d", (4, 3)),
    ],
)
def test_step_that_does_not_divide_its_field_is_told_with_its_gaps(
    expression: str, field: str, unit: str, gaps: tuple[int, ...]
) -> None:
    (found,) = uneven_steps(expression)
    assert (found.field, found.unit, found.gaps) == (field, unit, gaps)
    assert all(str(gap) in found.text for gap in gaps)


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *",
        "*/1 * * * *",
        "*/5 * * * *",
        "*/30 */6 * * *",
        "*/60 * * * *",
        "5/15 * * * *",
        "0/20,10/20 * * * *",
        "0,45 * * * *",  # written out, so meant
        "*/45 9 * * *",  # once a day: no gap to the next hour
        "*/45 6,12,18 * * *",
        "0 */7 * * MON,THU",
        "0 0 */2 * MON",  # the Mondays with an odd date
        "0 0 1-7 * */3",
        "10-50/15 * * * *",  # a range that was meant to end
        "0 9-17/3 * * *",
        "0 0 * * MON-FRI/2",
        "0 0 1 */3 *",
        "0 0 1 FEB/4 *",
        "0 0 */2 4 *",  # 30 days
        "0 0 * * */7",
        "0 0 1 JAN,JUN *",
        "0 0 15W,L * *",
        "@hourly",
    ],
)
def test_even_steps_and_lists_that_are_written_out_are_not_warned_of(expression: str) -> None:
    assert uneven_steps(expression) == []


def test_each_field_is_warned_of_by_itself_and_the_remedy_is_told() -> None:
    minutes, hours = uneven_steps("*/45 */9,1-3 * * *")
    assert minutes.text == (
        "*/45 in the minute starts again in each hour: the gaps are 45 and 15 min. "
        "For even gaps use an interval of 45 min, or a step that divides 60."
    )
    assert "the gaps are 1, 6 and 9 h" in hours.text


def test_expression_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(CronError):
        uneven_steps("*/45 * * *")
