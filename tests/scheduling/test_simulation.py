"""The simulation against schedules computed by hand, by arithmetic and by cronsim, never through the governor."""

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from django.core.management import CommandError, call_command
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.exchange.outcome import ErrorKind, Outcome
from scheduling.plan.backoff import stable_jitter
from scheduling.simulation.engine import SimulatedRun, Stage, simulate
from scheduling.simulation.scenario import ClearHints, Scenario, SetIntervalHint, SetOneShotHint
from scheduling.simulation.scenario_file import parse_scenario, read_scenario
from scheduling.simulation.targets import call_of, outcome_of

START = datetime(2026, 3, 1, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "bench" / "scenarios"
MINUTE_MS = 60_000
HOUR = timedelta(hours=1)


def scenario(*endpoints: dict[str, Any], duration: str = "1h", **fields: Any) -> Scenario:
    document = {"version": 1, "start": START.isoformat(), "duration": duration, "endpoints": list(endpoints), **fields}
    return parse_scenario(document)


def every(minutes: float, **fields: Any) -> dict[str, Any]:
    return {"name": "a", "baseline_interval_ms": int(minutes * MINUTE_MS), **fields}


def cron(expression: str, **fields: Any) -> dict[str, Any]:
    return {"name": "a", "baseline_cron": expression, **fields}


def event(at: str, do: str, **fields: Any) -> dict[str, Any]:
    return {"at": at, "endpoint": "a", "do": do, **fields}


def play(played: Scenario) -> list[SimulatedRun]:
    runs: list[SimulatedRun] = []
    simulate(played, runs.append)
    return runs


def starts(runs: list[SimulatedRun]) -> list[str]:
    """When runs started, after the start of the scenario, as minutes:seconds."""
    seconds = [(run.started_at - START).total_seconds() for run in runs]
    return [f"{int(second // 60)}:{second % 60:02g}" for second in seconds]


def minutes(*values: int) -> list[str]:
    return [f"{value}:00" for value in values]


BY_HAND: dict[str, tuple[Scenario, list[str]]] = {
    "an interval runs on its grid": (scenario(every(10)), minutes(10, 20, 30, 40, 50)),
    "a cron runs on its slots": (scenario(cron("*/20 * * * *")), minutes(20, 40)),
    "one shot": (scenario({"name": "a", "run_once_at": "+25m"}), minutes(25)),
    "an endpoint that is created later counts from then": (
        scenario(every(20, created_at="+5m")),
        minutes(25, 45),
    ),
    "an endpoint that is older keeps its grid": (scenario(every(20, created_at="-5m")), minutes(15, 35, 55)),
    "a window holds slots from its start to before its end": (
        scenario(every(10, starts_at="+20m", ends_at="+50m")),
        minutes(20, 30, 40),
    ),
    "the slots of an interval are counted from its start": (
        scenario(every(10, starts_at="+23m", ends_at="+50m")),
        minutes(23, 33, 43),
    ),
    "an edit of the start moves the grid": (
        scenario(every(10), events=[event("+25m", "edit", changes={"starts_at": "+27m"})]),
        minutes(10, 20, 27, 37, 47, 57),
    ),
    "a reset of failures leaves a grid that is anchored": (
        scenario(every(10, starts_at="+7m"), events=[event("+12m", "reset_failures")]),
        minutes(7, 17, 27, 37, 47, 57),
    ),
    "a call longer than the interval skips what it covers": (
        scenario(every(1, outcome={"duration_ms": 150_000}), duration="8m"),
        minutes(1, 4, 7),
    ),
    "failures leave the interval alone": (
        scenario(every(1, outcome={"pattern": "fail*5 ok*50"}), duration="8m"),
        minutes(1, 2, 3, 4, 5, 6, 7),
    ),
    "the wait doubles with the time failing up to the bound on recovery, success ends it": (
        scenario(
            every(1, recovery_check_ms=6 * MINUTE_MS, outcome={"pattern": "fail*5 ok*50"}),
            duration="23m",
        ),
        minutes(1, 2, 4, 8, 14, 20, 21, 22),
    ),
    "failures wait no longer than the maximum": (
        scenario(
            every(
                1,
                max_interval_ms=3 * MINUTE_MS,
                recovery_check_ms=60 * MINUTE_MS,
                outcome={"pattern": "fail*4 ok*50"},
            ),
            duration="13m",
        ),
        minutes(1, 2, 4, 7, 10, 11, 12),
    ),
    "the server is left alone as long as it asks, with no retries too": (
        scenario(
            every(2, outcome={"pattern": "fail ok*50", "failure": {"status_code": 429, "retry_after": "690"}}),
            duration="17m",
        ),
        ["2:00", "13:30.1", "14:00", "16:00"],
    ),
    "a cron slot that the server puts off is late and not left out": (
        scenario(
            cron(
                "*/20 * * * *", outcome={"pattern": "fail ok*9", "failure": {"status_code": 503, "retry_after": "1500"}}
            ),
        ),
        ["20:00", "45:0.1"],
    ),
    "retries wait as the server asks": (
        scenario(
            every(
                10,
                retry_limit=2,
                outcome={"pattern": "fail*2 ok*9", "duration_ms": 1_000, "failure": {"retry_after": "60"}},
            ),
            duration="25m",
        ),
        ["10:00", "11:01", "12:02", "20:00"],
    ),
    "a refusal is not retried": (
        scenario(
            every(10, retry_limit=2, outcome={"pattern": "fail ok*9", "failure": {"status_code": 404}}), duration="45m"
        ),
        minutes(10, 20, 30, 40),
    ),
    "an interval hint counts from the last start and ends": (
        scenario(
            every(60),
            duration="3h",
            events=[event("+1h5m", "set_interval_hint", interval_ms=10 * MINUTE_MS, ttl_ms=30 * MINUTE_MS)],
        ),
        minutes(60, 70, 80, 90, 120),
    ),
    "an overdue interval hint starts at once": (
        scenario(
            every(60),
            duration="2h",
            events=[event("+30m", "set_interval_hint", interval_ms=20 * MINUTE_MS, ttl_ms=25 * MINUTE_MS)],
        ),
        minutes(30, 50, 60),
    ),
    "a planner's hint keeps the floor, a person's does not": (
        scenario(
            every(1),
            duration="65s",
            events=[event("+1s", "set_interval_hint", interval_ms=5_000, ttl_ms=17_000, author="user")],
        ),
        ["0:05", "0:10", "0:15", "1:00"],
    ),
    "cleared hints give way to the grid": (
        scenario(
            every(10),
            duration="25m",
            events=[
                event("+11m", "set_interval_hint", interval_ms=2 * MINUTE_MS, ttl_ms=60 * MINUTE_MS),
                event("+15m", "clear_hints"),
            ],
        ),
        minutes(10, 12, 14, 20),
    ),
    "a one-shot hint adds a run": (
        scenario(
            every(30),
            events=[event("+35m", "set_oneshot_hint", next_run_in_ms=5 * MINUTE_MS, ttl_ms=10 * MINUTE_MS)],
        ),
        minutes(30, 40),
    ),
    "a pause holds an interval to its end, then the grid goes on": (
        scenario(every(10), events=[event("+25m", "pause", until="+47m")]),
        minutes(10, 20, 47, 50),
    ),
    "a pause holds a cron to its next slot": (
        scenario(cron("*/10 * * * *"), events=[event("+25m", "pause", until="+47m")]),
        minutes(10, 20, 50),
    ),
    "a pause at the very moment of a slot comes first": (
        scenario(every(10), events=[event("+20m", "pause", until="+25m")], duration="35m"),
        minutes(10, 25, 30),
    ),
    "a resume ends a pause": (
        scenario(every(10), events=[event("+5m", "pause", until="+1d"), event("+22m", "resume")], duration="45m"),
        minutes(30, 40),
    ),
    "run now runs inside a pause": (
        scenario(every(10), events=[event("+11m", "pause", until="+35m"), event("+12m", "run_now")]),
        minutes(10, 12, 35, 40, 50),
    ),
    "run now during a call waits for its end": (
        scenario(every(10, outcome={"duration_ms": 90_000}), events=[event("+11m", "run_now")], duration="25m"),
        ["10:00", "11:30", "20:00"],
    ),
    "a new interval starts its grid anew": (
        scenario(
            every(10),
            events=[event("+22m", "edit", changes={"baseline_interval_ms": 15 * MINUTE_MS})],
        ),
        minutes(10, 20, 37, 52),
    ),
    "an edit of the window leaves the grid alone": (
        scenario(every(10), events=[event("+22m", "edit", changes={"ends_at": "+45m"})]),
        minutes(10, 20, 30, 40),
    ),
    "a cron replaces an interval": (
        scenario(every(10), events=[event("+22m", "edit", changes={"baseline_cron": "*/25 * * * *"})]),
        minutes(10, 20, 25, 50),
    ),
    "a reset of failures starts the grid anew": (
        scenario(every(10, outcome={"pattern": "fail*2 ok*9"}), events=[event("+13m", "reset_failures")]),
        minutes(10, 23, 33, 43, 53),
    ),
    "an outage ends in one late run": (
        scenario(every(10), outages=[{"from": "+15m", "to": "+43m"}]),
        minutes(10, 43, 50),
    ),
    "an outage of slots beyond their grace ends without one": (
        scenario(every(10, misfire_grace_ms=MINUTE_MS), outages=[{"from": "+15m", "to": "+43m"}]),
        minutes(10, 50),
    ),
    "an outage begins with its first instant and ends before its last": (
        scenario(every(10), outages=[{"from": "+20m", "to": "+30m"}], duration="35m"),
        minutes(10, 30),
    ),
    "one shot of an outage runs late": (
        scenario({"name": "a", "run_once_at": "+20m"}, outages=[{"from": "+15m", "to": "+43m"}]),
        minutes(43),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_times_are_those_computed_by_hand(name: str) -> None:
    played, expected = BY_HAND[name]
    assert starts(play(played)) == expected


def test_late_run_serves_the_latest_slot_and_counts_the_others() -> None:
    played = scenario(every(10), outages=[{"from": "+15m", "to": "+43m"}])
    late = play(played)[1]
    assert (late.slot_at, late.due_at) == (START + timedelta(minutes=40), START + timedelta(minutes=20))
    report = simulate(played)
    assert (report.expected, report.runs, report.folded, report.missed) == (5, 3, 2, 0)
    assert report.lateness_max_ms == 23 * MINUTE_MS
    assert (report.endpoints[0].longest_gap_ms, report.endpoints[0].longest_gap_from) == (
        33 * MINUTE_MS,
        START + timedelta(minutes=10),
    )


def test_slots_beyond_their_grace_are_counted_as_missed() -> None:
    report = simulate(scenario(every(10, misfire_grace_ms=1_000), outages=[{"from": "+15m", "to": "+43m"}]))
    assert (report.expected, report.runs, report.folded, report.missed) == (5, 2, 0, 3)


def test_report_of_nothing_is_all_zeros() -> None:
    report = simulate(scenario(every(10), duration="5m"))
    assert (report.expected, report.runs, report.failed, report.by_source) == (0, 0, 0, {})
    assert (report.lateness_p50_ms, report.lateness_max_ms, report.longest_gap) == (0, 0, None)


def test_expected_slots_follow_an_edit() -> None:
    edits = [event("+22m", "edit", changes={"baseline_interval_ms": 15 * MINUTE_MS, "ends_at": "+50m"})]
    report = simulate(scenario(every(10), events=edits))
    assert (report.expected, report.runs) == (3, 3)


def test_jitter_delays_each_run_by_the_same_time_even_beyond_the_interval() -> None:
    played = scenario(every(1, jitter_ms=300_000), duration="20m")
    jitter = stable_jitter(played.endpoints[0].id, 300_000)
    assert jitter > timedelta(minutes=1)
    runs = play(played)
    assert [run.slot_at for run in runs] == [START + timedelta(minutes=n) for n in range(1, len(runs) + 1)]
    assert {run.started_at - run.slot_at for run in runs} == {jitter}
    assert simulate(played).expected == len(runs)


def test_clock_changes_neither_repeat_nor_lose_a_run() -> None:
    times = defaultdict(list)
    for run in play(read_scenario((SHIPPED / "dst.json").read_text())):
        times[run.endpoint].append(f"{run.started_at:%d.%m %H:%M}")
    # Berlin leaps from 02:00 to 03:00 on 29 March: the run of 02:30 comes right after the gap, at 01:00 UTC.
    assert times["berlin-skipped-hour"][:4] == ["27.03 01:30", "28.03 01:30", "29.03 01:00", "30.03 00:30"]
    assert times["berlin-quarters-at-two"][4:12] == [
        "28.03 01:00", "28.03 01:15", "28.03 01:30", "28.03 01:45",
        "30.03 00:00", "30.03 00:15", "30.03 00:30", "30.03 00:45",
    ]  # fmt: skip
    assert times["london-skipped-hour"][1:4] == ["28.03 01:15", "29.03 01:00", "30.03 00:15"]
    # Santiago shows 23:30 of 4 April twice, at 02:30 and 03:30 UTC: the first time counts.
    assert times["santiago-repeated-hour"][8:10] == ["04.04 02:30", "05.04 02:30"]
    assert times["lord-howe-half-hour"][8:10] == ["04.04 14:45", "05.04 15:15"]
    assert len(times["berlin-every-hour"]) == 10 * 24 - 1
    assert len(times["kolkata-no-change"]) == 10


def test_thousand_endpoints_over_a_month_run_as_their_schedules_ask() -> None:
    ok = {"duration_ms": [40, 2_000]}
    groups = [
        {"name": "quarter", "count": 15, "spread": "15m", "baseline_interval_ms": 900_000, "outcome": ok},
        {"name": "hour", "count": 60, "spread": "1h", "baseline_interval_ms": 3_600_000, "jitter_ms": 60_000},
        {"name": "half-day", "count": 325, "spread": "12h", "baseline_interval_ms": 43_200_000, "outcome": ok},
        {
            "name": "night",
            "count": 200,
            "baseline_cron": "30 2 * * *",
            "timezone": "Europe/Berlin",
            "jitter_ms": 90_000,
        },
        {"name": "noon", "count": 200, "baseline_cron": "5 12 * * MON-FRI", "timezone": "America/New_York"},
        {"name": "weekly", "count": 195, "baseline_cron": "0 6 * * 0", "timezone": "Asia/Tokyo", "outcome": ok},
        {"name": "hourly", "count": 5, "baseline_cron": "17 */2 * * *", "timezone": "Europe/London"},
    ]
    played = scenario(*groups, duration="30d", seed=3)
    slots: dict[str, list[datetime]] = defaultdict(list)
    report = simulate(played, lambda run: slots[run.endpoint].append(run.slot_at))
    for spec in played.endpoints:
        last = played.end - stable_jitter(spec.id, spec.columns.get("jitter_ms", 0))
        assert slots[spec.name] == schedule(spec.columns, spec.created_at, last), spec.name
    assert len(played.endpoints) == 1_000
    assert report.runs == report.expected == sum(map(len, slots.values())) > 100_000


def schedule(columns: Any, created_at: datetime, end: datetime) -> list[datetime]:
    """The slots after creation and before the end, by addition or by cronsim."""
    slots = []
    if "baseline_interval_ms" in columns:
        interval = timedelta(milliseconds=columns["baseline_interval_ms"])
        slot = created_at + interval
        while slot < end:
            slots.append(slot)
            slot += interval
        return slots
    zone = ZoneInfo(columns.get("timezone", "UTC"))
    for local in CronSim(columns["baseline_cron"], created_at.astimezone(zone)):
        slot = local.astimezone(UTC)
        if slot >= end:
            break
        slots.append(slot)
    return slots


@pytest.mark.parametrize("name", ["outage", "flapping", "dst"])
def test_shipped_scenario_keeps_every_promise(name: str) -> None:
    played = read_scenario((SHIPPED / f"{name}.json").read_text())
    check_promises(played, play(played))


def test_shipped_month_is_a_thousand_endpoints() -> None:
    played = read_scenario((SHIPPED / "steady.json").read_text())
    assert (len(played.endpoints), played.end - played.start) == (1_000, timedelta(days=30))


def test_same_seed_gives_the_same_runs_and_another_seed_others() -> None:
    document = json.loads((SHIPPED / "flapping.json").read_text())
    first = play(parse_scenario(document))
    assert first == play(parse_scenario(document))
    assert first != play(parse_scenario({**document, "seed": 1}))


def test_one_endpoint_does_not_change_the_luck_of_another() -> None:
    flaky = every(1, outcome={"fail_probability": 0.5})
    alone = play(scenario(flaky, seed=5))
    together = play(scenario({**flaky, "name": "b"}, flaky, seed=5))
    assert [run for run in together if run.endpoint == "a"] == alone


def check_promises(played: Scenario, runs: list[SimulatedRun]) -> None:
    """Never early, never twice, never overlapping, never in an outage, in the order of time."""
    assert len({(run.endpoint, run.slot_at, run.attempt) for run in runs}) == len(runs)
    assert [run.started_at for run in runs] == sorted(run.started_at for run in runs)
    busy_until: dict[str, datetime] = {}
    for run in runs:
        assert run.started_at >= run.due_at
        assert run.started_at >= run.slot_at
        assert run.attempt == 1 or run.source == "retry"
        assert not any(outage.begin <= run.started_at < outage.end for outage in played.outages)
        assert run.started_at >= busy_until.get(run.endpoint, run.started_at)
        busy_until[run.endpoint] = run.finished_at


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """A few hours of one or two endpoints that people and a planner keep changing."""
    ms = st.sampled_from([1_000, 20_000, 60_000, 90_000, 600_000, 3_600_000])
    at = st.integers(0, 7_199).map(lambda second: f"+{second}s")
    endpoints = []
    for name in ("a", "b"):
        baseline = draw(
            st.one_of(
                ms.map(lambda value: {"baseline_interval_ms": value}),
                st.sampled_from(["* * * * *", "*/7 * * * *", "30 * * * *"]).map(lambda text: {"baseline_cron": text}),
                at.map(lambda instant: {"run_once_at": instant}),
            )
        )
        outcome = {
            "fail_probability": draw(st.sampled_from([0, 0.3, 1])),
            "duration_ms": draw(st.sampled_from([0, 100, [0, 200_000]])),
            "failure": draw(st.sampled_from([{}, {"status_code": None}, {"status_code": 429, "retry_after": "30"}])),
        }
        policies = {"jitter_ms": draw(st.sampled_from([0, 300_000])), "retry_limit": draw(st.integers(0, 2))}
        grace = draw(st.sampled_from([{}, {"misfire_grace_ms": 30_000}]))
        endpoints.append({"name": name, "outcome": outcome, **baseline, **policies, **grace})
    change = st.one_of(
        st.builds(lambda i, t: {"do": "set_interval_hint", "interval_ms": i, "ttl_ms": t}, ms, ms),
        ms.map(lambda t: {"do": "set_oneshot_hint", "next_run_in_ms": t // 2, "ttl_ms": t}),
        at.map(lambda until: {"do": "pause", "until": until}),
        ms.map(lambda i: {"do": "edit", "changes": {"baseline_interval_ms": i}}),
        st.sampled_from(["clear_hints", "resume", "run_now", "reset_failures"]).map(lambda do: {"do": do}),
    )
    events = draw(st.lists(st.builds(lambda c, a, e: {**c, "at": a, "endpoint": e}, change, at, st.sampled_from("ab"))))
    begin = draw(st.integers(0, 6_000))
    outage = {"from": f"+{begin}s", "to": f"+{begin + draw(st.integers(1, 3_000))}s"}
    return scenario(*endpoints, duration="2h", events=events, outages=draw(st.sampled_from([[], [outage]])))


@given(scenarios())
@settings(max_examples=40, deadline=None)
def test_any_scenario_keeps_every_promise(played: Scenario) -> None:
    check_promises(played, play(played))


def test_command_prints_counts_and_a_time_line() -> None:
    out = StringIO()
    call_command("simulate", str(SHIPPED / "outage.json"), stdout=out)
    text = out.getvalue()
    assert "the schedules ask for 434" in text
    assert "max 1 h 35 min" in text
    assert "times real time" in text
    (line,) = [line for line in text.splitlines() if line.startswith("paused ") and "." in line]
    # Five minutes a column: a run every ten, a pause and an outage, and the run at the end of the pause.
    assert line.split()[1].startswith("..|.|.|.|.|" + "." * 25 + "p.|")


def test_command_prints_the_report_as_json() -> None:
    out = StringIO()
    call_command("simulate", str(SHIPPED / "dst.json"), "--json", stdout=out)
    report = json.loads(out.getvalue())
    assert (report["runs"], report["expected"], len(report["endpoints"])) == (334, 334, 8)


def test_command_draws_no_time_line_for_many_endpoints(tmp_path: Path) -> None:
    file, out = tmp_path / "many.json", StringIO()
    many = {"name": "a", "count": 11, "run_once_at": "+30m"}
    file.write_text(json.dumps({"version": 1, "start": "2026-03-01T00:00:00Z", "duration": "1h", "endpoints": [many]}))
    call_command("simulate", str(file), stdout=out)
    assert "runs       11 (0 failed); the schedules ask for 11" in out.getvalue()
    assert "a column" not in out.getvalue()
    assert "gap" not in out.getvalue()


def test_command_names_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("simulate", str(tmp_path / "none.json"))
    bad = tmp_path / "bad.json"
    bad.write_text('{"version": 1}')
    with pytest.raises(CommandError, match="start: This is missing"):
        call_command("simulate", str(bad))


def test_documented_example_can_be_played() -> None:
    example = (ROOT / "docs" / "simulation.md").read_text().split("```json")[1].split("```")[0]
    assert play(read_scenario(example))


class Overload:
    """Fails from the 20th minute to before the 40th."""

    def __init__(self, played: Scenario) -> None:
        self.call = call_of(played.endpoints[0])

    def answer(self, now: datetime) -> tuple[Outcome, timedelta]:
        ok = not 20 <= (now - START).total_seconds() / 60 < 40
        return outcome_of(self.call, ok=ok, status_code=200 if ok else 503, body="{}"), timedelta(seconds=1)


class LooksClosely:
    """Hints every minute after a failure, clears after a success, and looks at the row at the times it asked for."""

    def __init__(self) -> None:
        self.seen: list[tuple[datetime, int]] = []

    def begin(self, stage: Stage) -> None:
        self.stage = stage
        stage.wake(START + timedelta(minutes=21))
        stage.wake(START + timedelta(minutes=50))

    def settled(self, run: SimulatedRun, outcome: Outcome) -> None:
        assert (run.ok, self.stage.now) == (outcome.ok, run.finished_at)
        self.stage.change("a", ClearHints() if run.ok else SetIntervalHint(MINUTE_MS, 30 * MINUTE_MS))

    def woken(self) -> None:
        self.seen.append((self.stage.now, self.stage.row("a").failure_count))


def test_adviser_sees_each_result_and_changes_the_schedule_at_once() -> None:
    played = scenario(every(10))
    adviser = LooksClosely()
    runs: list[SimulatedRun] = []
    simulate(played, runs.append, targets={"a": Overload(played)}, adviser=adviser)
    # From the third failure on the planner's hint waits for the interval of the baseline.
    assert starts(runs) == minutes(10, 20, 21, 22, 32, 42, 50)
    # At the 21st minute the adviser is woken before the run starts.
    assert adviser.seen == [(START + timedelta(minutes=21), 1), (START + timedelta(minutes=50), 0)]


class ChangesDuringTheCall:
    """Changes the endpoint while its call is under way."""

    def begin(self, stage: Stage) -> None:
        self.stage = stage
        stage.wake(START + timedelta(minutes=11))

    def settled(self, run: SimulatedRun, outcome: Outcome) -> None:
        pass

    def woken(self) -> None:
        self.stage.change("a", SetOneShotHint(30_000, 20 * MINUTE_MS))
        planned = self.stage.row("a").next_run_at
        assert planned == START + timedelta(minutes=11, seconds=30)


def test_change_during_a_call_starts_nothing_before_the_call_has_ended() -> None:
    slow = every(10, retry_limit=1, outcome={"duration_ms": 3 * MINUTE_MS, "pattern": "ok fail ok*9"})
    runs: list[SimulatedRun] = []
    simulate(scenario(slow, duration="25m"), runs.append, adviser=ChangesDuringTheCall())
    assert starts(runs)[:2] == ["10:00", "13:00"]
    assert [run.attempt for run in runs] == [1, 1, 2, 1]


def test_clearing_can_leave_one_kind_of_hint_alone() -> None:
    row = scenario(every(10)).endpoints[0].new_row()
    SetIntervalHint(MINUTE_MS, MINUTE_MS).apply(row, START)
    SetOneShotHint(0, MINUTE_MS).apply(row, START)
    ClearHints(oneshot=False).apply(row, START)
    assert (row.ai_hint_interval_ms, row.ai_hint_next_run_at) == (None, START)
    ClearHints(interval=False).apply(row, START)
    assert row.ai_hint_next_run_at is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, ErrorKind.ASSERTION_FAILED), (503, ErrorKind.HTTP_ERROR), (None, ErrorKind.TIMEOUT)],
)
def test_failed_outcome_says_what_kind_of_failure_it_is(status: int | None, kind: ErrorKind) -> None:
    call = call_of(scenario(every(10)).endpoints[0])
    assert outcome_of(call, ok=False, status_code=status).error_kind is kind
    assert outcome_of(call, ok=True, status_code=200).error_kind is None
