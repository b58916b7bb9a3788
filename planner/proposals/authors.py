"""Who speaks, in words, as sentences about a schedule name them; whether an owner's text speaks of failures. Pure."""

import re

from planner.proposals.wishes import Speaker
from scheduling.plan.facts import MODEL, PERSON

HEURISTIC = "a heuristic"
MODEL_AS_ASKED = f"{MODEL}, as the description asks"

# An owner whose description speaks of these tells the planner what to do then.
_FAILURE = re.compile(
    r"\b(?:fail\w*|error\w*|outages?|down(?:time)?|recover\w*|unhealthy|unavailable|degrad\w*|broken|incidents?|5xx|50\d)\b",
    re.IGNORECASE,
)


def author_words(speaker: Speaker, key: str | None, *, of_endpoint: str | None = None, as_asked: bool = False) -> str:
    """Who set a hint: `the rule "busy"`, `the model`, `a heuristic`, `a person`.

    `key` names the rule, `of_endpoint` the endpoint that has the rule, where it is another one. `as_asked` tells
    that the owner's text speaks of failures: the model's hint then does not give way to a failure back-off.
    """
    if speaker is Speaker.RULE:
        return f'the rule "{key}"' + (f' of endpoint "{of_endpoint}"' if of_endpoint is not None else "")
    if speaker is Speaker.MODEL:
        return MODEL_AS_ASKED if as_asked else MODEL
    return HEURISTIC if speaker is Speaker.HEURISTIC else PERSON


def speaks_of_failures(description: str) -> bool:
    """Whether an owner's text says something about failures, so that the model may call sooner than the back-off."""
    return _FAILURE.search(description) is not None


def at_endpoint(reason: str, name: str, longest: int) -> str:
    """A reason that was seen at another endpoint, with that one's name."""
    where = f' (of endpoint "{name[:100]}")'
    return reason if reason.endswith(where) else f"{reason[: longest - len(where)]}{where}"
