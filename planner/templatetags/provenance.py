"""Tells in templates who set a hint or a pause: the proposal behind it, in words and with its session."""

from uuid import UUID

from django import template

from planner.models import Cause, Proposal

register = template.Library()


@register.simple_tag
def advice_behind(proposal_id: UUID | None) -> Proposal | None:
    """The proposal that set what is in force; None where a person or the system did."""
    return Proposal.objects.filter(pk=proposal_id).first() if proposal_id is not None else None


@register.filter
def speaker(proposal: Proposal) -> str:
    """Who asked: `the rule "busy"`, `the model`, `a heuristic`. The key of a sibling's rule begins with its id."""
    if proposal.cause == Cause.RULE:
        sibling, _, name = (proposal.cause_key or "").partition(":")
        if name and _is_id(sibling):
            return f'the rule "{name}" of a sibling'
        return f'the rule "{proposal.cause_key}"'
    return "a heuristic" if proposal.cause == Cause.HEURISTIC else f"the {proposal.cause}"


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
