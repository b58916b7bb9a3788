"""Every table that both workers touch."""

from jobs.models.endpoint import BaselineKind, Endpoint, EndpointStatus, Author, PlannerMode, WorkerLossPolicy
from jobs.models.job import Job, JobStatus
from jobs.models.run import Run, RunResponse, RunStatus
from jobs.models.worker import WorkerHeartbeat, WorkerKind

__all__ = [
    "BaselineKind",
    "Endpoint",
    "EndpointStatus",
    "Job",
    "JobStatus",
    "Author",
    "PlannerMode",
    "Run",
    "RunResponse",
    "RunStatus",
    "WorkerHeartbeat",
    "WorkerKind",
    "WorkerLossPolicy",
]
