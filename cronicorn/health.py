"""Whether the service works: the database answers, workers give signs of life, the model answers. No secrets."""

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from jobs.api.refusals import error_body, plain_response
from jobs.api.stored import JsonEncoder
from jobs.errors import Fault
from jobs.models import WorkerKind
from jobs.selectors import worker_states
from planner.analyst.state import model_state


@csrf_exempt
@never_cache
def health(request: HttpRequest) -> HttpResponse:
    """200 with the state of the database, the workers and the model; 503 when the database is away.

    A worker or a model that is away is told, not an error: the web server works without them. No login is needed.
    """
    if request.method not in ("GET", "HEAD"):
        response = plain_response(405, "method_not_allowed", "Only GET is allowed here.")
        response["Allow"] = "GET, HEAD"
        return response
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        states = worker_states()
        model = model_state()
    except Error:
        fault = Fault(None, "database_unavailable", "The database does not answer.")
        return JsonResponse({"status": "unavailable", "database": "unavailable", **error_body(fault)}, status=503)
    workers = {
        kind: {
            "live": states[kind]["live"] if kind in states else 0,
            "lastSeenAt": states[kind]["last_seen_at"] if kind in states else None,
        }
        for kind in WorkerKind.values
    }
    told = {
        "state": model.word,
        "error": model.kind,
        "failingSince": model.since,
        "lastAnswerAt": model.answered_at,
        "ownersOverBudget": model.owners_used_up,
    }
    return JsonResponse({"status": "ok", "database": "ok", "workers": workers, "model": told}, encoder=JsonEncoder)
