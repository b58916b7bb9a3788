"""Reads of the planner's records for people. Each starts from the owner: what is another's does not exist here."""

from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from accounts.models import User
from jobs.models import Endpoint
from jobs.selectors import current_time
from planner.models import AnalysisSession, Proposal, ProposalStatus


def list_proposals(
    owner: User, *, status: str | None = None, endpoint_id: UUID | None = None, job_id: UUID | None = None
) -> QuerySet[Proposal]:
    """An owner's proposals, newest first; None filters nothing."""
    proposals = Proposal.objects.filter(owner=owner)
    if status is not None:
        proposals = proposals.filter(has_status(status, current_time()))
    if endpoint_id is not None:
        proposals = proposals.filter(endpoint_id=endpoint_id)
    return proposals.filter(endpoint__job_id=job_id) if job_id is not None else proposals


def has_status(status: str, now: datetime) -> Q:
    """Proposals whose `status_at(now)` it is."""
    offer_over = Q(status=ProposalStatus.PENDING, offer_expires_at__lte=now)
    hint_over = Q(status=ProposalStatus.APPLIED, ended_at__isnull=True, hint_expires_at__lte=now)
    if status == ProposalStatus.EXPIRED:
        return Q(status=status) | offer_over | hint_over
    return Q(status=status) & ~(offer_over | hint_over)


def find_proposal(owner: User, proposal_id: UUID) -> Proposal:
    """One proposal. Raises Proposal.DoesNotExist."""
    return Proposal.objects.get(owner=owner, pk=proposal_id)


def list_sessions(
    endpoint: Endpoint, *, status: str | None = None, backend: str | None = None
) -> QuerySet[AnalysisSession]:
    """The sessions of an endpoint, newest first, without their tool calls; None filters nothing."""
    sessions = AnalysisSession.objects.filter(endpoint=endpoint, owner=endpoint.owner_id).defer("tool_calls")
    sessions = sessions.filter(status=status) if status is not None else sessions
    return sessions.filter(backend=backend) if backend is not None else sessions


def find_session(owner: User, session_id: UUID) -> AnalysisSession:
    """One session with its proposals. Raises AnalysisSession.DoesNotExist."""
    return AnalysisSession.objects.prefetch_related("proposals").get(owner=owner, pk=session_id)
