"""Whether the model answers, why not and since when: read from stored sessions and heartbeats, whoever asks."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.db import connection
from django.utils.crypto import salted_hmac

from jobs.selectors import LIVE_FOR
from planner.analyst.llm import ModelAccess

# One failure is an accident, unless the service refused us.
FAILURES_THAT_TELL = 3
# An answer says nothing of now where no planner has been there to ask since.
ANSWER_TELLS_FOR = timedelta(hours=1)
_REFUSALS = frozenset({"unauthorized", "forbidden", "not_found"})
_WORDS = {
    "unauthorized": "the service refuses the key (401)",
    "forbidden": "the service refuses us (403)",
    "not_found": "the service knows neither model nor address (404)",
    "rate_limited": "the service asks for time (429)",
    "server_error": "the service answers with server errors",
    "request_refused": "the service refuses the requests",
    "connection_failed": "the connection fails",
    "timeout": "the service does not answer in time",
    "malformed_answer": "the answers cannot be read",
    "refused": "the model declines to answer",
    "no_tool_call": "the model does not use the tools",
    "bad_arguments": "the model uses the tools wrongly",
}


class ModelWord(StrEnum):
    """How the model is: `off` is not asked, `unknown` has not been asked yet or of late."""

    OFF = "off"
    UNKNOWN = "unknown"
    ANSWERING = "answering"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class ModelState:
    """The state of the model. `kind` and `since` tell of failing: the latest error, and when the first one met it.

    `answered_at` is its latest good answer, None when there was none. `waiting` says that it is not asked for now.
    `owners_used_up` counts owners whose tokens of the day were used up when a planner last looked.
    """

    word: ModelWord
    kind: str | None = None
    since: datetime | None = None
    answered_at: datetime | None = None
    waiting: bool = False
    owners_used_up: int = 0

    @property
    def why(self) -> str:
        """The latest error in words; "" when there is none."""
        return "" if self.kind is None else _WORDS.get(self.kind, f"analyses fail ({self.kind.replace('_', ' ')})")


def model_state() -> ModelState:
    """How the model is now. Failures count from the last analysis that got an answer."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH answered AS (
                SELECT analyzed_at FROM sessions
                WHERE backend = 'openai' AND (status = 'completed' OR status = 'budget_exceeded' AND prompt_tokens > 0)
                ORDER BY analyzed_at DESC LIMIT 1
            ),
            failed AS (
                SELECT error_kind, analyzed_at FROM sessions
                WHERE backend = 'openai' AND status = 'failed'
                  AND error_kind NOT IN ('interrupted', 'stopped', 'planner_fault')
                  AND analyzed_at > coalesce((SELECT analyzed_at FROM answered), '-infinity')
            ),
            planners AS (
                SELECT count(*) AS live, count(*) FILTER (WHERE facts ->> 'model' IS NOT NULL) AS asking,
                       coalesce(bool_or(facts ->> 'breaker' IS NOT NULL), false) AS waiting,
                       coalesce(max((facts ->> 'owners_used_up')::integer), 0) AS used_up
                FROM worker_heartbeats
                WHERE kind = 'planner' AND stopped_at IS NULL AND seen_at > clock_timestamp() - %s * interval '1 second'
            )
            SELECT (SELECT analyzed_at FROM answered), (SELECT count(*) FROM failed),
                   (SELECT min(analyzed_at) FROM failed),
                   (SELECT error_kind FROM failed ORDER BY analyzed_at DESC LIMIT 1), live, asking, waiting,
                   used_up, clock_timestamp()
            FROM planners
            """,
            [LIVE_FOR.total_seconds()],
        )
        answered_at, failures, since, kind, live, asking, waiting, used_up, now = cursor.fetchone()
    if live and not asking:
        return ModelState(ModelWord.OFF, answered_at=answered_at)
    if waiting or kind in _REFUSALS or failures >= FAILURES_THAT_TELL:
        return ModelState(ModelWord.FAILING, kind, since, answered_at, waiting, used_up)
    answers = answered_at is not None and (live or answered_at > now - ANSWER_TELLS_FOR)
    word = ModelWord.ANSWERING if answers else ModelWord.UNKNOWN
    return ModelState(word, answered_at=answered_at, owners_used_up=used_up)


def service_mark(access: ModelAccess) -> str:
    """A mark of service, key and model that tells nothing of them; planners with the same one meet the same limits."""
    text = "\n".join((access.base_url, access.api_key, access.model))
    return salted_hmac("planner.service", text, algorithm="sha256").hexdigest()[:16]


def word_of_others(mark: str, worker: str) -> tuple[str, float] | None:
    """What keeps another planner from asking the same service, and for how many seconds more; None when nothing does.

    Also planners that have ended count: what a service asked for holds after a restart.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT facts ->> 'breaker', (facts ->> 'breaker_seconds')::float8
                   - extract(epoch FROM clock_timestamp() - seen_at)::float8 AS seconds
            FROM worker_heartbeats
            WHERE kind = 'planner' AND worker <> %s AND facts ->> 'service' = %s AND facts ->> 'breaker' IS NOT NULL
            ORDER BY seconds DESC NULLS LAST LIMIT 1
            """,
            [worker, mark],
        )
        row: tuple[str, float | None] | None = cursor.fetchone()
    return (row[0], row[1]) if row is not None and row[1] is not None and row[1] > 0 else None
