"""Tells in templates who set a hint or a pause, and what else the planner has to say of an endpoint, in words."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django import template

from jobs.admin.words import utc_words
from jobs.models import Endpoint
from planner.models import Cause, Proposal, ProposalStatus, Tool
from planner.proposals.filing import author_of
from scheduling.plan.wording import duration_words

MOST_SHOWN = 5
# A rule that cannot do what it says is told of once an hour, for as long as it matches.
REFUSAL_SHOWN_FOR = timedelta(hours=2)

register = template.Library()


@register.simple_tag
def advice_behind(proposal_id: UUID | None) -> Proposal | None:
    """The proposal that set what is in force; None where a person or the system did."""
    return Proposal.objects.filter(pk=proposal_id).first() if proposal_id is not None else None


@register.simple_tag
def offers_on(endpoint: Endpoint, now: datetime) -> list[Proposal]:
    """What waits for a person's decision, newest first."""
    waiting = endpoint.proposals.filter(status=ProposalStatus.PENDING, offer_expires_at__gt=now)
    return list(waiting.order_by("-created_at")[:MOST_SHOWN])


@register.simple_tag
def status_at(proposal: Proposal, now: datetime) -> ProposalStatus:
    """What became of a proposal by now."""
    return proposal.status_at(now)


@register.simple_tag
def idle_rules_on(endpoint: Endpoint, now: datetime) -> list[Proposal]:
    """The latest word of each of the endpoint's rules that matched lately and named a sibling that cannot be asked."""
    refused = endpoint.proposals.filter(
        status=ProposalStatus.REFUSED,
        cause=Cause.RULE,
        created_at__gt=now - REFUSAL_SHOWN_FOR,
        arguments_asked__endpoint__isnull=False,
    )
    latest = {proposal.cause_key: proposal for proposal in refused.order_by("created_at", "id")}
    return list(latest.values())[:MOST_SHOWN]


@register.filter
def speaker(proposal: Proposal) -> str:
    """Who asked: `the rule "busy"`, `the rule "down" of endpoint "health"`, `the model`, `a heuristic`."""
    return author_of(proposal, proposal.endpoint)


@register.filter(name="advice")
def advice_words(proposal: Proposal) -> str:
    """What a proposal asks for: `every 30 s`, `pause until ...`."""
    arguments: dict[str, Any] = proposal.arguments or proposal.arguments_asked
    interval_ms = arguments.get("interval_ms")
    if proposal.tool == Tool.PROPOSE_INTERVAL and isinstance(interval_ms, int):
        return f"Every {duration_words(interval_ms)}"
    if proposal.tool == Tool.PROPOSE_NEXT_TIME:
        return f"Once at {_instant_words(arguments.get('next_run_at'))}"
    if proposal.tool == Tool.PAUSE_UNTIL:
        until = arguments.get("until")
        return f"Pause until {_instant_words(until)}" if until else "Resume"
    return "Clear hints" if proposal.tool == Tool.CLEAR_HINTS else proposal.get_tool_display()


def _instant_words(text: Any) -> str:
    """A stored instant to the second; what is not one, as it stands and cut."""
    try:
        return utc_words(datetime.fromisoformat(text).astimezone(UTC))
    except (TypeError, ValueError):
        return str(text)[:32]
