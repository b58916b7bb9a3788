"""Holds the attempts of each slot against the promise: which repeat is owed, which is too many, which result counts.

Pure. `held` are the spans in which nothing could be expected.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from tests.chaos.facts import SLACK, Call, Change, EndpointFacts, RunFacts, Window
from tests.chaos.holdups import free_between

LOSSES_THAT_GIVE_UP = 3
FIRST_RETRY = timedelta(seconds=2)
# By how much a retry's delay is spread at most.
RETRY_SPREAD = 0.1
# What makes the repeat of a slot give way: it waits for the end of a pause, or the streak is reset.
YIELDS_TO = ("pause", "stop", "reset")


def wrong_results(endpoint: EndpointFacts, runs: Sequence[RunFacts], calls: Sequence[Call]) -> Iterable[str]:
    """Runs that ended otherwise than the target answered, repeats without a reason, slots that succeeded twice."""
    answered = {(call.slot, call.attempt): call.ok for call in calls if call.answered}
    statuses = {(run.slot, run.attempt): run.status for run in runs}
    for run in runs:
        at = f"attempt {run.attempt} of the slot {run.slot}"
        answer = answered.get((run.slot, run.attempt))
        if run.status not in ("success", "abandoned") and not (run.status == "failed" and answer is False):
            yield f"{at} is {run.status} ({run.error_kind})"
        if run.status == "success" and answer is not True:
            yield f"{at} is a success that the target never answered"
        reasons = ("abandoned", "failed") if endpoint.retry_limit else ("abandoned",)
        if run.attempt > 1 and statuses.get((run.slot, run.attempt - 1)) not in reasons:
            yield f"{at} repeats an attempt that was not lost"
        if run.claimed_at < run.planned_at:
            yield f"{at} was claimed before it was planned"
    for slot, count in Counter(run.slot for run in runs if run.status == "success").items():
        if count > 1:
            yield f"{count} results of the slot {slot} count"


def lost_attempts(
    endpoint: EndpointFacts,
    runs: Sequence[RunFacts],
    changes: Sequence[Change],
    held: Sequence[Window],
    ended_at: datetime,
) -> Iterable[str]:
    """Attempts whose worker was lost, or had to stop, and that nobody made again.

    Runs are in the order of their fences. The third loss in a row gives a slot up, a person's pause holds its repeat
    back until something else may come first, and a reset drops it. So does an edit of the schedule before the slot.
    """
    known = {(run.slot, run.attempt) for run in runs}
    losses = 0
    for number, run in enumerate(runs):
        losses = losses + 1 if run.error_kind == "worker_lost" else 0
        given_up = losses > 0 and losses % LOSSES_THAT_GIVE_UP == 0
        skipped = not endpoint.repeats
        repeated = (run.slot, run.attempt + 1) in known
        if run.status != "abandoned" or given_up or skipped or repeated:
            continue
        # A repeat outlasts manual runs; any other that comes instead has taken its place.
        following = next((later for later in runs[number + 1 :] if later.source != "manual"), None)
        next_fence = following.fence if following is not None else None
        if any(
            (change.kind in YIELDS_TO or (change.kind == "edit" and change.before < run.due_at))
            and (next_fence is None or change.fence < next_fence)
            and _may_matter(change, run)
            for change in changes
        ):
            continue
        came_next = f", but {following.slot} came" if following is not None else ""
        if free_between(run.finished_at or ended_at, ended_at, held) > SLACK:
            yield f"the slot {run.slot} was lost with {run.worker} and not repeated{came_next}"


def _may_matter(change: Change, run: RunFacts) -> bool:
    return change.fence >= run.fence or (change.until is not None and change.until > run.claimed_at)


def wrong_retries(
    endpoint: EndpointFacts, runs: Sequence[RunFacts], held: Sequence[Window], ended_at: datetime
) -> Iterable[str]:
    """Retries that the owner did not ask for, that came too soon, or that did not come before the next slot.

    Runs are in the order of their fences; nobody changes such an endpoint.
    """
    attempts: dict[datetime, list[RunFacts]] = defaultdict(list)
    for run in runs:
        attempts[run.slot].append(run)
    for slot, tries in attempts.items():
        if [run.attempt for run in tries] != list(range(1, len(tries) + 1)):
            yield f"the attempts of the slot {slot} are {[run.attempt for run in tries]}"
        if sum(run.status == "failed" for run in tries[:-1]) > endpoint.retry_limit:
            yield f"the slot {slot} was retried more than {endpoint.retry_limit} times"
    for number, run in enumerate(runs):
        failures = sum(other.status == "failed" for other in attempts[run.slot] if other.attempt <= run.attempt)
        if run.status != "failed" or failures > endpoint.retry_limit or run.finished_at is None:
            continue
        delay = FIRST_RETRY * 2 ** (failures - 1)
        later = runs[number + 1] if number + 1 < len(runs) else None
        if later is None:
            free = free_between(run.finished_at + delay * (1 + RETRY_SPREAD), ended_at, held)
            if free > SLACK:
                yield f"the failed slot {run.slot} was not retried, with {free} in which it could be"
        elif later.slot == run.slot:
            if later.due_at < run.finished_at + delay:
                yield f"the slot {run.slot} was retried {later.due_at - run.finished_at} after its failure"
        elif later.due_at > later.planned_at + delay * (1 + RETRY_SPREAD):
            yield f"the failed slot {run.slot} was not retried, although the next slot came only at {later.due_at}"
