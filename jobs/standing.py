"""What keeps an endpoint from running, said the same way everywhere, and the note of its plan. Pure.

A pause with an end blocks nothing: it ends by itself, and `paused_until` tells of it.
"""

from jobs.models import Endpoint, EndpointStatus, JobStatus
from scheduling.plan.decision import Verdict

_RANK = {EndpointStatus.ACTIVE: 0, EndpointStatus.PAUSED: 1, EndpointStatus.ARCHIVED: 2}


def effective_status(endpoint: Endpoint) -> EndpointStatus:
    """The stronger of the endpoint's own status and its job's: archived before paused before active."""
    return max(
        EndpointStatus(endpoint.status), EndpointStatus(JobStatus(endpoint.job.status).value), key=_RANK.__getitem__
    )


def blocked_by(endpoint: Endpoint) -> str | None:
    """What keeps the endpoint from running: `owner`, `endpoint` or `job`, the first that does, or None."""
    if not endpoint.owner_active:
        return "owner"
    status = effective_status(endpoint)
    if status == EndpointStatus.ACTIVE:
        return None
    return "endpoint" if endpoint.status == status else "job"


def blocked_words(endpoint: Endpoint) -> str:
    """The same in words, as `paused by its job`; empty where nothing blocks."""
    whose = blocked_by(endpoint)
    if whose is None:
        return ""
    if whose == "owner":
        return "stopped, its owner is deactivated"
    return f"{effective_status(endpoint).value}{' by its job' if whose == 'job' else ''}"


def next_note(endpoint: Endpoint) -> str:
    """What the plan says of the time it chose, as `backed off to every 20 min`; empty where there is nothing to say."""
    candidates = (endpoint.next_decision or {}).get("candidates") or ()
    return next((str(entry.get("note") or "") for entry in candidates if entry.get("verdict") == Verdict.CHOSEN), "")
