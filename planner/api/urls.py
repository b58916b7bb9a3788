"""Every address below /api/ that concerns the planner. No address ends with a slash."""

from django.urls import path

from planner.api import proposals, sessions

urlpatterns = [
    path("endpoints/<uuid:endpoint_id>/sessions", sessions.SessionsView.as_view()),
    path("sessions/<uuid:session_id>", sessions.SessionView.as_view()),
    path("proposals", proposals.ProposalsView.as_view()),
    path("proposals/<uuid:proposal_id>", proposals.ProposalView.as_view()),
    path("proposals/<uuid:proposal_id>/approve", proposals.ApproveProposalView.as_view()),
    path("proposals/<uuid:proposal_id>/reject", proposals.RejectProposalView.as_view()),
    path("proposals/<uuid:proposal_id>/undo", proposals.UndoProposalView.as_view()),
]
