"""What the planner's routes take."""

# ruff: noqa: N815  the names are those of the API

from rest_framework import serializers

from jobs.api.inputs import PageQuery
from planner.models import Backend, ProposalStatus, SessionStatus


class ProposalQuery(PageQuery):
    """Which proposals."""

    status = serializers.ChoiceField(choices=ProposalStatus.choices, required=False)
    endpointId = serializers.UUIDField(required=False)
    jobId = serializers.UUIDField(required=False)


class SessionQuery(PageQuery):
    """Which sessions."""

    status = serializers.ChoiceField(choices=SessionStatus.choices, required=False)
    backend = serializers.ChoiceField(choices=Backend.choices, required=False)
