"""Log lines: one closed vocabulary of events, as text or as JSON."""

import json
import logging
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Event(StrEnum):
    """Every event that the project logs; `docs/operations.md` explains each."""

    WORKER_STARTED = "worker_started"
    WORKER_DRAINING = "worker_draining"
    WORKER_STOPPED = "worker_stopped"
    THREAD_CRASHED = "thread_crashed"
    EGRESS_ALLOWED = "egress_allowed"
    CLAIM_FAILED = "claim_failed"
    SLOT_COLLIDED = "slot_collided"
    RUN_REFUSED = "run_refused"
    RUN_REAPED = "run_reaped"
    LEASE_LOST = "lease_lost"
    RENEW_FAILED = "renew_failed"
    SETTLE_FAILED = "settle_failed"
    RESULT_FENCED = "result_fenced"
    ENDPOINT_PAUSED = "endpoint_paused"
    PASS_COMPLETED = "pass_completed"
    PASS_FAILED = "pass_failed"
    ANALYSIS_FAILED = "analysis_failed"
    PROPOSAL_STORED = "proposal_stored"
    BREAKER_OPENED = "breaker_opened"
    CALL_CRASHED = "call_crashed"
    CLOCK_JUMPED = "clock_jumped"
    DATABASE_AWAY = "database_away"
    SIGN_IN_FAILED = "sign_in_failed"
    DATABASE_AWAITED = "database_awaited"
    BOUNDS_MISSING = "bounds_missing"
    WAKE_UPS_OFF = "wake_ups_off"
    PULSE_UNWRITTEN = "pulse_unwritten"
    FILES_EXHAUSTED = "files_exhausted"
    ZONE_RULES_APPLIED = "zone_rules_applied"
    ZONE_RULES_FAILED = "zone_rules_failed"


def log_event(logger: logging.Logger, event: Event, level: int = logging.INFO, **facts: Any) -> None:
    """Logs one event with its facts; values are escaped, so that a line stays one line."""
    logger.log(level, event.value, extra={"facts": facts})


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "facts", {})


class TextFormatter(logging.Formatter):
    """`time level logger event key=value ...`, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        instant = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        message = record.getMessage().encode("unicode_escape").decode()
        facts = "".join(f" {key}={json.dumps(value, default=str)}" for key, value in _facts(record).items())
        line = f"{instant} {record.levelname:<7} {record.name} {message}{facts}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def logging_configuration(shape: str, level: str) -> dict[str, Any]:
    """Django's LOGGING: everything to standard error in the given shape."""
    formatter = {"text": "cronicorn.logging.TextFormatter", "json": "cronicorn.logging.JsonFormatter"}[shape]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        # Below WARNING these print request headers, secrets too.
        "loggers": {name: {"level": "WARNING"} for name in ("httpx", "httpx2", "httpcore2", "openai")},
    }
