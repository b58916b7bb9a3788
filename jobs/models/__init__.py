"""Every table that both workers touch."""

from jobs.models.endpoint import Author, BaselineKind, Endpoint, EndpointStatus, PlannerMode, WorkerLossPolicy
from jobs.models.job import Job, JobStatus
from jobs.models.run import Run, RunResponse, RunStatus
from jobs.models.worker import WorkerHeartbeat, WorkerKind
from jobs.models.zones import ZoneRules

__all__ = [
    "Author",
    "BaselineKind",
    "Endpoint",
    "EndpointStatus",
    "Job",
    "JobStatus",
    "PlannerMode",
    "Run",
    "RunResponse",
    "RunStatus",
    "WorkerHeartbeat",
    "WorkerKind",
    "WorkerLossPolicy",
    "ZoneRules",
]
