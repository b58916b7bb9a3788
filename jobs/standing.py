"""Whether an endpoint may run at all: its own status and its job's, said the same way everywhere. Pure.

A pause with an end is not part of it: that one ends by itself, and `paused_until` tells of it.
"""

from jobs.models import Endpoint, EndpointStatus, JobStatus

_RANK = {EndpointStatus.ACTIVE: 0, EndpointStatus.PAUSED: 1, EndpointStatus.ARCHIVED: 2}


def effective_status(endpoint: Endpoint) -> EndpointStatus:
    """The stronger of the endpoint's own status and its job's: archived before paused before active."""
    return max(
        EndpointStatus(endpoint.status), EndpointStatus(JobStatus(endpoint.job.status).value), key=_RANK.__getitem__
    )


def blocked_by(endpoint: Endpoint) -> str | None:
    """What keeps the endpoint from running: `endpoint` or `job`, where both do the endpoint; None for neither."""
    status = effective_status(endpoint)
    if status == EndpointStatus.ACTIVE:
        return None
    return "endpoint" if endpoint.status == status else "job"


def blocked_words(endpoint: Endpoint) -> str:
    """The same in words, as `paused by its job`; empty where nothing blocks."""
    whose = blocked_by(endpoint)
    if whose is None:
        return ""
    return f"{effective_status(endpoint).value}{' by its job' if whose == 'job' else ''}"
