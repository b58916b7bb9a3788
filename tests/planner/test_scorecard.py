"""What a hint did beside its baseline: by table, and by what holds for every hint."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.proposals.wishes import PauseUntil, ProposeInterval, ProposeNextTime
from planner.scoring.scorecard import Baseline, Change, Direction, HintKind, HintLife, Met, Stretch, score
from scheduling.cron.cadence import parse_cadence
from scheduling.plan.interval import Interval

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE_MS = 60_000
FIVE_MINUTES = Baseline(interval=Interval(timedelta(minutes=5), NOON))
HOURLY = Baseline(cadence=parse_cadence("0 * * * *"))
ONCE = Baseline(run_once_at=NOON + timedelta(minutes=30))


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def interval(minutes: float, begin: float = 0, end: float = 60) -> Stretch:
    return Stretch(HintKind.INTERVAL, at(begin), at(end), int(minutes * MINUTE_MS))


def pause(begin: float = 0, end: float = 60) -> Stretch:
    return Stretch(HintKind.PAUSE, at(begin), at(end))


def oneshot(begin: float = 0, end: float = 30) -> Stretch:
    return Stretch(HintKind.ONE_SHOT, at(begin), at(end))


def life(own: Stretch, baseline: Baseline = FIVE_MINUTES, **fields: object) -> HintLife:
    return replace(HintLife(own, "expired", baseline), **fields)  # type: ignore[arg-type]


def met(least_minutes: float, most_minutes: float) -> Met:
    return Met(int(least_minutes * MINUTE_MS), int(most_minutes * MINUTE_MS))


def test_the_kinds_are_the_tools_that_set_something() -> None:
    assert set(HintKind) == {ProposeInterval.tool, ProposeNextTime.tool, PauseUntil.tool}


@pytest.mark.parametrize(
    ("case", "made", "by_baseline", "added", "saved"),
    [
        (life(interval(1), calls=60), 60, 12, 48, 0),
        (life(interval(30), calls=2), 2, 12, 0, 10),
        (life(interval(10, 0, 0), calls=0), 0, 0, 0, 0),
        (life(interval(1, 2, 12), calls=10), 10, 2, 8, 0),
        (life(pause(1, 31)), 0, 6, 0, 6),
        (life(pause(0, 180), HOURLY), 0, 3, 0, 3),
        (life(interval(1), HOURLY, calls=60), 60, 1, 59, 0),
        (life(pause(), ONCE), 0, 1, 0, 1),
        (life(pause(31, 60), ONCE), 0, 0, 0, 0),
        (life(oneshot(1), calls=1, run_at=at(2)), 1, 0, 1, 0),
        (life(oneshot(1), calls=1, run_at=at(5)), 1, 1, 0, 0),
        (life(oneshot(0)), 0, 0, 0, 0),
        (life(oneshot(0), HOURLY), 0, 0, 0, 0),
    ],
)
def test_calls_are_held_against_the_baselines_slots(
    case: HintLife, made: int, by_baseline: int, added: int, saved: int
) -> None:
    card = score(case)
    assert (card.calls_made, card.calls_baseline, card.calls_added, card.calls_saved) == (
        made,
        by_baseline,
        added,
        saved,
    )


@pytest.mark.parametrize(
    ("case", "made"),
    [
        (life(interval(1), last_start_at=at(-5)), 60),
        (life(interval(1, 2), last_start_at=at(1.5)), 58),
        (life(interval(7, 0, 30), last_start_at=at(0)), 4),
        (life(interval(10, 0, 30)), 2),
        (life(interval(40, 0, 30)), 0),
        (life(pause()), 0),
        (life(oneshot(), run_at=at(3)), 1),
        (life(oneshot()), 0),
    ],
)
def test_a_shadow_is_held_to_the_calls_that_it_would_have_made(case: HintLife, made: int) -> None:
    assert score(replace(case, shadow=True, calls=999)).calls_made == made


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        # Every minute: seen at 12:02, two of five minutes after the slot of 12:00, three before that of 12:05.
        (life(interval(1), failure=Change(at(2), at(1))), met(3, 3)),
        # A run at the very slot of the baseline sees what the baseline would have seen.
        (life(interval(1), failure=Change(at(5), at(4))), met(0, 0)),
        # Every 20 minutes: the baseline would have looked at 12:05, 12:10 and 12:15 already.
        (life(interval(20, 1), failure=Change(at(21), at(1))), met(-16, 4)),
        # Two runs of one slot: nothing lies between them.
        (life(interval(1), failure=Change(at(2), at(2))), met(3, 3)),
        # A pause is answerable for what the run at its end sees, a faster hint is not.
        (life(pause(1, 33), failure=Change(at(33), at(0))), met(-28, 2)),
        (life(interval(1, 0, 33), failure=Change(at(35), at(32))), None),
        # A run long after the end is somebody else's doing.
        (life(pause(1, 33), failure=Change(at(600), at(0))), None),
        (life(pause(1, 33), ONCE, failure=Change(at(33), at(0))), None),
        (life(pause(31, 33), ONCE, failure=Change(at(33), at(31))), None),
        (life(oneshot(1, 2), calls=1, run_at=at(2), failure=Change(at(2), at(0))), met(3, 3)),
        # Nothing of the baseline is left: it would never have seen it.
        (life(oneshot(31), ONCE, calls=1, run_at=at(40), failure=Change(at(40), at(31))), Met(None, None)),
        (life(interval(1)), None),
    ],
)
def test_a_change_is_met_sooner_or_later_than_by_the_baseline(case: HintLife, expected: Met | None) -> None:
    assert score(case).first_failure == expected
    assert score(replace(case, failure=None, recovery=case.failure)).first_recovery == expected


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        # The schedule saw it at 12:05; every minute would have seen it between 12:01 and 12:05.
        (life(interval(1), last_start_at=at(0), failure=Change(at(5), at(0))), met(0, 4)),
        # Every 20 minutes would have seen it at 12:20.
        (life(interval(20), last_start_at=at(0), failure=Change(at(5), at(0))), met(-15, -15)),
        # Every 20 minutes from before its beginning: the first call is at 12:03.
        (life(interval(20, 1), last_start_at=at(-17), failure=Change(at(5), at(0))), met(-18, 2)),
        (life(interval(20, 1), last_start_at=at(-17), failure=Change(at(5), at(-60))), met(-18, 2)),
        # Beyond the end of the hint the baseline calls again.
        (life(interval(20, 0, 22), last_start_at=at(0), failure=Change(at(21), at(20.5))), met(-4, -4)),
        # An interval goes on at the end of a pause, cron at its next slot.
        (life(pause(1, 33), failure=Change(at(5), at(0))), met(-28, -28)),
        (life(pause(1, 93), HOURLY, failure=Change(at(60), at(0))), met(-60, -60)),
        (life(pause(1, 33), failure=Change(at(35), at(33))), met(0, 0)),
        # One extra call at 12:02 between two of the schedule, and none after.
        (life(oneshot(1), run_at=at(2), failure=Change(at(5), at(0))), met(0, 3)),
        (life(oneshot(1), run_at=at(2), failure=Change(at(10), at(5))), met(0, 0)),
        (life(oneshot(1), failure=Change(at(10), at(5))), met(0, 0)),
        (life(oneshot(31), ONCE, run_at=at(40), failure=Change(at(35), at(31))), met(-5, -5)),
        (life(oneshot(31), ONCE, failure=Change(at(35), at(31))), Met(None, None)),
    ],
)
def test_a_shadow_is_held_against_what_the_schedule_saw(case: HintLife, expected: Met) -> None:
    assert score(replace(case, shadow=True)).first_failure == expected


@pytest.mark.parametrize(
    ("case", "earlier_minutes"),
    [
        (life(oneshot(), calls=1, run_at=at(2)), 3),
        (life(oneshot(), calls=1, run_at=at(5)), 0),
        (life(oneshot(), HOURLY, calls=1, run_at=at(15)), 45),
        (life(oneshot()), None),
        (life(oneshot(31), ONCE, calls=1, run_at=at(40)), None),
        (life(interval(1), calls=60), None),
    ],
)
def test_a_one_shot_comes_earlier_than_the_next_slot(case: HintLife, earlier_minutes: int | None) -> None:
    expected = None if earlier_minutes is None else earlier_minutes * MINUTE_MS
    assert score(case).earlier_ms == expected


@pytest.mark.parametrize(
    ("own", "baseline", "direction"),
    [
        (interval(1), FIVE_MINUTES, Direction.FASTER),
        (interval(5), FIVE_MINUTES, Direction.SAME),
        (interval(6), FIVE_MINUTES, Direction.SLOWER),
        (interval(59), HOURLY, Direction.FASTER),
        (interval(61), HOURLY, Direction.SLOWER),
        (interval(1), ONCE, Direction.SAME),
        (interval(1, 31), ONCE, Direction.SAME),
        (pause(), FIVE_MINUTES, Direction.PAUSE),
        (oneshot(), FIVE_MINUTES, Direction.ONCE),
    ],
)
def test_the_direction_is_that_of_the_schedule(own: Stretch, baseline: Baseline, direction: Direction) -> None:
    assert score(life(own, baseline)).direction is direction


@pytest.mark.parametrize(
    ("earlier", "own", "flaps"),
    [
        # The first onset in a calm hour is none.
        ((), interval(1), 0),
        # Renewed without a gap, whether or not the first began within the hour.
        ((interval(1, -30, 0),), interval(1), 0),
        ((interval(1, -90, 0),), interval(2), 0),
        # Ended, and begun anew.
        ((interval(1, -30, -10),), interval(1), 2),
        ((interval(1, -90, -10),), interval(1), 2),
        # Turned, with and without a gap.
        ((interval(1, -30, 0),), interval(10), 1),
        ((interval(1, -90, 0),), interval(10), 1),
        ((interval(1, -30, -10),), interval(10), 2),
        # On and off three times.
        ((interval(1, -50, -40), interval(1, -30, -20)), interval(1), 4),
        # A pause covers the interval under it.
        ((interval(1, -30, 30), pause(-20, -10)), interval(1), 2),
        ((pause(-40, -10), interval(1, -30, -20)), interval(1), 2),
        # What ended an hour ago is forgotten; a one-shot is no state.
        ((interval(1, -90, -60),), interval(1), 0),
        ((interval(1, -30, -10),), oneshot(), 1),
        ((oneshot(-30, -20),), interval(1), 0),
    ],
)
def test_flaps_are_changes_in_the_hour_before(earlier: tuple[Stretch, ...], own: Stretch, flaps: int) -> None:
    assert score(life(own, earlier=earlier)).flaps == flaps


def test_the_stored_form_is_plain() -> None:
    case = life(interval(1), calls=60, failures=3, failure=Change(at(2), at(1)))
    assert score(case).to_json() == {
        "kind": "propose_interval",
        "shadow": False,
        "direction": "faster",
        "in_force_ms": 3_600_000,
        "ended_by": "expired",
        "calls_made": 60,
        "calls_baseline": 12,
        "calls_added": 48,
        "calls_saved": 0,
        "failures": 3,
        "first_failure": {"least_ms": 180_000, "most_ms": 180_000},
        "first_recovery": None,
        "earlier_ms": None,
        "flaps": 0,
    }


def lives() -> st.SearchStrategy[HintLife]:
    seconds = st.integers(0, 86_400)
    baselines = st.one_of(
        st.builds(
            lambda anchor, ms: Baseline(Interval(timedelta(milliseconds=ms), NOON - timedelta(seconds=anchor))),
            seconds,
            st.integers(1_000, 7_200_000),
        ),
        st.sampled_from(["*/5 * * * *", "0 * * * *", "30 6 * * 1"]).map(
            lambda text: Baseline(cadence=parse_cadence(text))
        ),
        seconds.map(lambda after: Baseline(run_once_at=NOON + timedelta(seconds=after))),
    )

    def made(
        kind: HintKind,
        baseline: Baseline,
        begin: int,
        lasts: int,
        ms: int,
        run: int,
        gap: int,
        shadow: bool,
        calls: int,
    ) -> HintLife:
        began = NOON + timedelta(seconds=begin)
        ended = began + timedelta(seconds=lasts)
        seen = began + timedelta(seconds=run)
        return HintLife(
            own=Stretch(kind, began, ended, ms if kind is HintKind.INTERVAL else None),
            ended_by="expired",
            baseline=baseline,
            shadow=shadow,
            calls=calls,
            failure=Change(seen, seen - timedelta(seconds=gap)),
            run_at=min(seen, ended) if kind is HintKind.ONE_SHOT else None,
            last_start_at=began - timedelta(seconds=gap),
        )

    return st.builds(
        made,
        st.sampled_from(HintKind),
        baselines,
        seconds,
        seconds,
        st.integers(1_000, 86_400_000),
        seconds,
        st.integers(0, 7_200),
        st.booleans(),
        st.integers(0, 5_000),
    )


@given(lives())
def test_the_books_balance_and_bounds_are_in_order(case: HintLife) -> None:
    card = score(case)
    assert card.calls_added - card.calls_saved == card.calls_made - card.calls_baseline
    assert card.calls_added * card.calls_saved == 0
    assert min(card.calls_made, card.calls_baseline, card.calls_added, card.calls_saved) >= 0
    assert card.earlier_ms is None or card.earlier_ms >= 0
    if card.first_failure is not None and None not in (card.first_failure.least_ms, card.first_failure.most_ms):
        assert card.first_failure.least_ms <= card.first_failure.most_ms  # type: ignore[operator]


@given(st.integers(1_000, 3_600_000), st.integers(0, 3_600), st.integers(1, 86_400), st.integers(0, 100), st.booleans())
def test_a_hint_equal_to_the_baseline_scores_zero(ms: int, begin: int, lasts: int, which: int, shadow: bool) -> None:
    baseline = Baseline(Interval(timedelta(milliseconds=ms), NOON))
    began, step = NOON + timedelta(seconds=begin), timedelta(milliseconds=ms)
    ended = began + timedelta(seconds=lasts)
    last = NOON + (began - timedelta(microseconds=1) - NOON) // step * step
    slots = [slot for n in range(1, 90_000) if (slot := last + n * step) < ended] if ms >= 60_000 else []
    change = None
    if slots:
        seen = slots[which % len(slots)]
        change = Change(seen, seen - step)
    card = score(
        HintLife(
            Stretch(HintKind.INTERVAL, began, ended, ms),
            "expired",
            baseline,
            shadow=shadow or not slots,
            calls=len(slots),
            failure=change,
            recovery=change,
            last_start_at=last,
        )
    )
    assert (card.calls_added, card.calls_saved, card.flaps, card.direction) == (0, 0, 0, Direction.SAME)
    zero = None if change is None else Met(0, 0)
    assert (card.first_failure, card.first_recovery) == (zero, zero)
