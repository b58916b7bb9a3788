"""Takes one safeguard out of the engine at a time and sees whether the tests that guard it fail.

`python -m tests.chaos.mutants [NAME...]` works in a copy of the project and exits 1 when a mutant lives.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parents[2]
LEFT_OUT = (".git", ".venv", ".data", ".env", "staticfiles", "__pycache__", ".*_cache")


@dataclass(frozen=True)
class Mutant:
    """A change of one file: each text, which stands there once, and what takes its place; and who must notice."""

    name: str
    file: str
    changes: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


CLAIMS, SETTLEMENT = "tests/scheduling/test_claims.py", "tests/scheduling/test_settlement.py"
PROCESSES, MACHINE = "tests/scheduling/test_processes.py", "tests/scheduling/test_state_machine.py"
KEEPER, ANSWERS = "tests/scheduling/test_keeper.py", "tests/chaos/test_lost_answers.py"
FAULTS, WORKER = "tests/scheduling/test_faults.py", "tests/scheduling/test_worker.py"
GOVERNOR, FAIRNESS = "tests/scheduling/test_governor.py", "tests/scheduling/test_fairness.py"
SETTLER, LEASES = "tests/scheduling/test_settler.py", "tests/scheduling/test_leases.py"

MUTANTS = (
    Mutant(
        "settle without a look at owner and fence",
        "scheduling/ledger/settlement.py",
        (("if row.lease_owner == worker and fence == result.outcome.call.fence:", "if fence is not None:"),),
        (
            f"{SETTLEMENT}::test_settling_twice_changes_nothing",
            f"{SETTLEMENT}::test_result_under_a_lost_lease_is_kept_aside_and_changes_nothing_else",
            f"{PROCESSES}::test_stopped_worker_is_taken_over_and_its_late_result_changes_nothing",
            f"{MACHINE}::test_no_sequence_of_events_breaks_the_promise",
        ),
    ),
    Mutant(
        "settle without a look at the fence alone",
        "scheduling/ledger/settlement.py",
        (("if row.lease_owner == worker and fence == result.outcome.call.fence:", "if row.lease_owner == worker:"),),
        (f"{FAULTS}::test_result_of_an_earlier_claim_by_the_same_worker_does_not_count",),
    ),
    Mutant(
        "nobody reaps",
        "scheduling/ledger/leases.py",
        (
            (
                "    if not locked:\n        return []\n",
                "    if locked is not None:\n        return []\n",
            ),
        ),
        (
            f"{CLAIMS}::test_lost_call_is_abandoned_and_its_slot_repeated_with_the_next_attempt",
            f"{PROCESSES}::test_killed_worker_loses_no_slot",
            f"{ANSWERS}::test_nothing_is_sent_for_a_claim_whose_commit_is_unknown",
            f"{MACHINE}::test_no_sequence_of_events_breaks_the_promise",
        ),
    ),
    Mutant(
        "claim with a SELECT and an UPDATE, each for itself",
        "scheduling/ledger/claims.py",
        (
            ("    share = share or Share()\n", "    share, picked = share or Share(), _pick(horizon, limit)\n"),
            (
                '                "horizon": horizon',
                '                "picked": picked,\n                "horizon": horizon',
            ),
            (
                "due AS MATERIALIZED (\n",
                "due AS MATERIALIZED (\n    SELECT id, false AS uses_oneshot, last_started_at AS started_before,\n"
                "    last_slot_at AS slot_before, retries_used AS retries_before, NULL::text AS consumed\n"
                "    FROM job_endpoints\n"
                "    WHERE id = ANY(%(picked)s::uuid[])\n),\nunused AS (\n",
            ),
            (
                "def claim_due(\n",
                "def _pick(horizon: timedelta, limit: int) -> list[UUID]:\n"
                "    with connection.cursor() as cursor:\n"
                '        cursor.execute("SELECT id FROM job_endpoints WHERE lease_owner IS NULL AND next_run_at <="\n'
                '            " clock_timestamp() + make_interval(secs => %s) ORDER BY next_run_at LIMIT %s"\n'
                '            " FOR NO KEY UPDATE SKIP LOCKED", [horizon.total_seconds(), limit])\n'
                "        return [row[0] for row in cursor.fetchall()]\n\n\ndef claim_due(\n",
            ),
        ),
        (f"{CLAIMS}::test_many_claimers_at_once_never_share_an_endpoint",),
    ),
    Mutant(
        "rows beyond a share stay in the way of others",
        "scheduling/ledger/claims.py",
        (("FROM judged WHERE NOT (owner_free AND host_free)) over", "FROM judged WHERE false) over"),),
        (f"{FAIRNESS}::test_rows_that_wait_for_their_owner_or_host_are_not_read_again",),
    ),
    Mutant(
        "no slot is kept for newcomers",
        "scheduling/ledger/shares.py",
        (("    return max(slots // 10, 1) if slots > 1 else 0\n", "    return 0\n"),),
        (f"{PROCESSES}::test_single_endpoint_finds_a_slot_beside_three_owners_with_endless_calls",),
    ),
    Mutant(
        "giving back waits for rows",
        "scheduling/ledger/leases.py",
        (("ORDER BY e.id FOR NO KEY UPDATE OF e SKIP LOCKED", "ORDER BY e.id FOR NO KEY UPDATE OF e"),),
        (f"{KEEPER}::test_paused_claim_whose_row_somebody_keeps_locked_holds_up_neither_renewals_nor_other_pauses",),
    ),
    Mutant(
        "a batch that the database refuses is sent again whole",
        "scheduling/worker/settler.py",
        (("self._limit = max(1, len(batch) // 2)", "self._limit = len(batch)"),),
        (f"{SETTLER}::test_batch_that_is_too_much_for_the_database_is_halved_until_it_passes",),
    ),
    Mutant(
        "a loss repeats the same attempt",
        "scheduling/plan/row.py",
        (
            (
                "    row.retry_at, row.retry_slot_at, row.retry_attempt = now, slot_at, attempt + 1\n"
                "    return Consequence.REPEAT",
                "    row.retry_at, row.retry_slot_at, row.retry_attempt = now, slot_at, attempt\n"
                "    return Consequence.REPEAT",
            ),
        ),
        (
            f"{CLAIMS}::test_lost_call_is_abandoned_and_its_slot_repeated_with_the_next_attempt",
            f"{MACHINE}::test_no_sequence_of_events_breaks_the_promise",
        ),
    ),
    Mutant(
        "a retry repeats the same attempt",
        "scheduling/plan/row.py",
        (
            (
                "row.retry_slot_at, row.retry_attempt = slot_at, attempt + 1",
                "row.retry_slot_at, row.retry_attempt = slot_at, attempt",
            ),
        ),
        (f"{SETTLEMENT}::test_retry_keeps_the_slot_and_raises_the_attempt",),
    ),
    Mutant(
        "a lost slot gives way to a hint that is due",
        "scheduling/plan/governor.py",
        (
            (
                "if option.run_at < chosen.run_at or (option.run_at <= now and not slot_waits):",
                "if option.run_at < chosen.run_at:",
            ),
        ),
        (f"{GOVERNOR}::test_candidates_and_their_verdicts",),
    ),
    Mutant(
        "a claim uses up no slot",
        "scheduling/ledger/claims.py",
        (("last_slot_at = GREATEST(e.last_slot_at, e.next_slot_at),", "last_slot_at = e.last_slot_at,"),),
        (f"{WORKER}::test_one_shot_endpoint_runs_once",),
    ),
    Mutant(
        "a claim uses up no one-shot hint",
        "scheduling/ledger/claims.py",
        (
            ("THEN e.ai_hint_next_run_at END,", "THEN e.ai_hint_next_run_at ELSE e.ai_hint_next_run_at END,"),
            (
                "THEN e.ai_hint_next_run_expires_at END,",
                "THEN e.ai_hint_next_run_expires_at ELSE e.ai_hint_next_run_expires_at END,",
            ),
        ),
        (f"{WORKER}::test_oneshot_hint_is_consumed_by_its_run",),
    ),
    Mutant(
        "a claim uses up no run-now",
        "scheduling/ledger/claims.py",
        (("THEN e.manual_run_at END,", "THEN e.manual_run_at ELSE e.manual_run_at END,"),),
        (f"{WORKER}::test_run_now_runs_once_beside_the_grid",),
    ),
    Mutant(
        "no call is canceled for want of a lease",
        "scheduling/worker/keeper.py",
        (("if now - entry.secured_at > self._usable_for:", "if now < 0:"),),
        (
            f"{KEEPER}::test_lease_that_was_not_renewed_is_given_up_before_its_end",
            f"{ANSWERS}::test_worker_that_cannot_reach_the_database_cancels_its_calls_before_their_lease_ends",
        ),
    ),
    Mutant(
        "only the thread with the database cancels",
        "scheduling/worker/worker.py",
        (("            self._keeper.fence_overdue()\n", "            pass\n"),),
        (f"{ANSWERS}::test_worker_that_cannot_reach_the_database_cancels_its_calls_before_their_lease_ends",),
    ),
    Mutant(
        "a renewal waits for locked rows",
        "scheduling/ledger/leases.py",
        (("                FOR NO KEY UPDATE OF e SKIP LOCKED\n", "                FOR NO KEY UPDATE OF e\n"),),
        (f"{KEEPER}::test_row_that_somebody_keeps_locked_costs_no_other_lease",),
    ),
    Mutant(
        "settling waits for locked rows",
        "scheduling/ledger/settlement.py",
        (("FOR NO KEY UPDATE SKIP LOCKED", "FOR NO KEY UPDATE"),),
        (f"{FAULTS}::test_endpoint_that_somebody_keeps_locked_holds_up_no_other_result",),
    ),
    Mutant(
        "the start gate lets everything through",
        "scheduling/worker/keeper.py",
        (("for run_id in (*found.stopped, *found.moved):", "for run_id in found.moved:"),),
        (
            f"{PROCESSES}::test_pause_between_the_claim_and_the_slot_keeps_the_call_from_starting",
            f"{KEEPER}::test_claim_of_a_paused_endpoint_is_given_back_although_the_database_failed_meanwhile",
        ),
    ),
    Mutant(
        "the start gate does not look at the schedule",
        "scheduling/worker/keeper.py",
        (("for run_id in (*found.stopped, *found.moved):", "for run_id in found.stopped:"),),
        (f"{PROCESSES}::test_schedule_that_changes_between_the_claim_and_the_slot_is_called_at_its_new_slot_only",),
    ),
    Mutant(
        "an edit keeps the overdue slot of the old schedule",
        "scheduling/plan/edits.py",
        (
            (
                "            row.next_run_at = row.next_slot_at = row.next_source = None\n        else",
                "            pass\n        else",
            ),
        ),
        (
            "tests/scheduling/test_edits.py::"
            "test_overdue_slots_of_an_old_grid_are_dropped_and_those_of_a_window_that_stays_are_kept",
        ),
    ),
    Mutant(
        "slots that pass in a call are not counted",
        "scheduling/plan/uncalled.py",
        (
            (
                "    counts = _added(facts, lower, through, previous, spans)\n    if",
                "    counts: dict[Cause, int] = {}\n    if",
            ),
        ),
        (
            "tests/scheduling/test_uncalled.py::test_slots_inside_a_long_call",
            f"{MACHINE}::test_no_sequence_of_events_breaks_the_promise",
        ),
    ),
    Mutant(
        "a claim that is being made is taken for a forgotten one",
        "scheduling/worker/keeper.py",
        (("if self._book.claims_ended < self._suspects_from:", "if self._book.claims_ended < 0:"),),
        (f"{KEEPER}::test_claim_that_is_still_being_made_is_not_taken_for_a_forgotten_one",),
    ),
    Mutant(
        "what is given back has used its slot up",
        "scheduling/ledger/leases.py",
        (
            (
                "for endpoint_id, claim in unused.items()}, slots=True)",
                "for endpoint_id, claim in unused.items()}, slots=False)",
            ),
        ),
        (f"{LEASES}::test_slot_of_the_grid_that_was_given_back_before_its_time_still_runs",),
    ),
    Mutant(
        "what is given back is planned past its slot once that is due",
        "scheduling/ledger/leases.py",
        (("plan(row, now, unclaimed=True)", "plan(row, now, unclaimed=False)"),),
        (
            f"{LEASES}::test_due_slot_that_a_stopping_worker_gives_back_goes_to_the_next_one",
            f"{MACHINE}::test_no_sequence_of_events_breaks_the_promise",
        ),
    ),
    Mutant(
        "calls start a little early",
        "scheduling/worker/starter.py",
        (("self._clock.monotonic_at(claim.due_at)", "self._clock.monotonic_at(claim.due_at) - 30_000_000"),),
        (f"{PROCESSES}::test_calls_start_at_their_slots_and_never_before",),
    ),
)


def main() -> int:
    """Tries the mutants whose names contain one of the arguments; all without arguments."""
    wanted = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if not wanted or any(word in mutant.name for word in wanted)]
    alive = 0
    with tempfile.TemporaryDirectory(prefix="cronicorn-mutants-") as folder:
        project = Path(folder, "project")
        shutil.copytree(PROJECT_DIR, project, ignore=shutil.ignore_patterns(*LEFT_OUT))
        (project / ".venv").symlink_to(PROJECT_DIR / ".venv")
        environment = {**os.environ, "TEST_DATA_DIR": str(Path(folder, "data"))}
        try:
            for mutant in chosen:
                failed = try_out(mutant, project, environment)
                passed = [test for test in mutant.tests if test.partition("::")[2] not in failed]
                alive += bool(passed)
                print(f"{'lives' if passed else 'dies '}  {mutant.name}", flush=True)
                for test in mutant.tests:
                    print(f"         {'passed' if test in passed else 'failed'}  {test}", flush=True)
        finally:
            stop = [sys.executable, "manage.py", "embedded_postgres", "stop"]
            stopping = {**environment, "DATA_DIR": environment["TEST_DATA_DIR"], "DEBUG": "true", "DATABASE_URL": ""}
            subprocess.run(stop, cwd=project, env=stopping, stdout=subprocess.DEVNULL, check=False)
    print(f"{len(chosen) - alive} of {len(chosen)} mutants die.")
    return 1 if alive else 0


def try_out(mutant: Mutant, project: Path, environment: dict[str, str]) -> set[str]:
    """The names of the tests that fail under the mutant. Raises ValueError when a text to change is not there once."""
    file = project / mutant.file
    original = changed = file.read_text(encoding="utf-8")
    for old, new in mutant.changes:
        if changed.count(old) != 1:
            raise ValueError(f"{mutant.file} has this {changed.count(old)} times, not once: {old}")
        changed = changed.replace(old, new)
    file.write_text(changed, encoding="utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *mutant.tests]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    finally:
        file.write_text(original, encoding="utf-8")
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{mutant.name}: the tests did not run\n{done.stdout}\n{done.stderr}")
    return set(re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)", done.stdout, re.MULTILINE))


if __name__ == "__main__":
    sys.exit(main())
