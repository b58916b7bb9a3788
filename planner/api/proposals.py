"""Routes of proposals: what the planner wanted, and a person's word on it."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from jobs.api.base import ApiView, cut, described, show
from planner import selectors
from planner.api.inputs import ProposalQuery
from planner.api.outputs import ProposalOutput, ProposalPage
from planner.proposals import verdicts


class ProposalsView(ApiView):
    """The proposals of the caller's endpoints."""

    @described("listProposals", query=ProposalQuery, gives=ProposalPage)
    def get(self, request: Request) -> Response:
        """List proposals, newest first."""
        query = self.parameters
        wanted = {"endpoint_id": query.get("endpointId"), "job_id": query.get("jobId")}
        rows, totals = cut(selectors.list_proposals(self.owner, status=query.get("status"), **wanted), query)
        return show(ProposalPage, {"proposals": rows, **totals})


class ProposalView(ApiView):
    """One proposal."""

    @described("showProposal", gives=ProposalOutput)
    def get(self, request: Request, proposal_id: UUID) -> Response:
        """Show a proposal."""
        return show(ProposalOutput, selectors.find_proposal(self.owner, proposal_id))


class ApproveProposalView(ApiView):
    """Approval."""

    @described("approveProposal", gives=ProposalOutput)
    def post(self, request: Request, proposal_id: UUID) -> Response:
        """Apply a pending proposal, bounded again by the endpoint as it is now; its time to live starts now."""
        selectors.find_proposal(self.owner, proposal_id)
        self.read_nothing()
        return show(ProposalOutput, verdicts.approve(proposal_id=proposal_id, by=self.owner.pk))


class RejectProposalView(ApiView):
    """Rejection."""

    @described("rejectProposal", gives=ProposalOutput)
    def post(self, request: Request, proposal_id: UUID) -> Response:
        """Turn a pending proposal down, and hold the planner back for a while."""
        selectors.find_proposal(self.owner, proposal_id)
        self.read_nothing()
        return show(ProposalOutput, verdicts.reject(proposal_id=proposal_id, by=self.owner.pk))


class UndoProposalView(ApiView):
    """Undoing."""

    @described("undoProposal", gives=ProposalOutput)
    def post(self, request: Request, proposal_id: UUID) -> Response:
        """Take back the hint or pause of an applied proposal, that one only, and hold the planner back for a while."""
        selectors.find_proposal(self.owner, proposal_id)
        self.read_nothing()
        return show(ProposalOutput, verdicts.undo(proposal_id=proposal_id, by=self.owner.pk))
