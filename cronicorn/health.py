"""Whether the service works: the database answers, calls are made, the model answers. No secrets."""

from typing import Any

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from cronicorn.postgres.session import Session
from cronicorn.postgres.sqlstate import drop_connection
from jobs.api.refusals import error_body, plain_response
from jobs.api.stored import JsonEncoder
from jobs.errors import Fault
from jobs.models import WorkerKind
from jobs.zonerules import rules_of_plans
from planner.analyst.state import model_state
from scheduling.cron.zones import rules_version
from synthetic.progress import service_progress


@csrf_exempt
@never_cache
def health(request: HttpRequest) -> HttpResponse:
    """200 with the state of the database, the workers and the model; 503 when the database is away.

    A worker or a model that is away is told, not an error: the web server works without them. With `?strict` it is an
    error when no calls are made: no live scheduler, none whose work goes on, or a slot overdue by more than 60 s. No
    login is needed.
    """
    if request.method not in ("GET", "HEAD"):
        response = plain_response(405, "method_not_allowed", "Only GET is allowed here.")
        response["Allow"] = "GET, HEAD"
        return response
    try:
        progress = service_progress()
        model = model_state()
        plans_by = rules_of_plans()
    except Error:
        drop_connection()
        fault = Fault(None, "database_unavailable", "The database does not answer.")
        return JsonResponse({"status": "unavailable", "database": "unavailable", **error_body(fault)}, status=503)
    limits = getattr(connection, "session", Session()).missing
    body = {
        "status": "degraded" if progress.problems else "ok",
        "problems": progress.problems,
        "database": "ok",
        "databaseLimits": "missing" if limits else "ok",
        "oldestOverdueSeconds": round(progress.oldest_overdue_s, 1),
        "workers": {kind: _worker(progress.workers.get(kind)) for kind in WorkerKind.values},
        "model": {
            "state": model.word,
            "error": model.kind,
            "failingSince": model.since,
            "lastAnswerAt": model.answered_at,
            "ownersOverBudget": model.owners_used_up,
        },
        "zoneRules": {"version": rules_version(), "plansBy": plans_by},
    }
    if progress.problems and _is_strict(request):
        faults = (Fault(None, "no_progress", problem) for problem in progress.problems)
        return JsonResponse({**body, "status": "unavailable", **error_body(*faults)}, status=503, encoder=JsonEncoder)
    return JsonResponse(body, encoder=JsonEncoder)


def _is_strict(request: HttpRequest) -> bool:
    """Whether `strict` is asked for: as a flag, or with any value but false, 0 and no."""
    return request.GET.get("strict", "false").lower() not in ("false", "0", "no")


def _worker(state: dict[str, Any] | None) -> dict[str, Any]:
    found = state or {}
    return {
        "live": found.get("live", 0),
        "lastSeenAt": found.get("last_seen_at"),
        "lastClaimAt": found.get("last_claim_at"),
        "lastSettledAt": found.get("last_settled_at"),
        "problems": found.get("problems", []),
    }
