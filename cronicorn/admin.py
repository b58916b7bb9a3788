"""The console: Django's admin at `/`, for every active person, with the dashboard as its first page."""

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

from allauth.account.decorators import secure_admin_login
from csp.decorators import csp_update
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.dataclasses import SearchResult
from unfold.sites import UnfoldAdminSite

from accounts.admin import ApiKeyAdmin, UserAdmin
from accounts.models import ApiKey, User
from cronicorn.dashboard import Scope, dashboard_context
from jobs.admin.endpoint import EndpointAdmin
from jobs.admin.job import JobAdmin
from jobs.admin.run import RunAdmin
from jobs.models import Endpoint, Job, JobStatus, Run
from jobs.selectors import current_time
from jobs.standing import blocked_words
from planner.admin import AnalysisSessionAdmin, ProposalAdmin
from planner.models import AnalysisSession, Proposal

LIVE_SECTIONS = ("notices", "tiles", "charts", "attention", "activity", "workers")
_FOUND = 10


class ConsoleSite(UnfoldAdminSite):  # type: ignore[misc]
    """The one site. `is_staff` is not asked; what a person sees is for `accounts.ownership` to say."""

    enable_nav_sidebar = True

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether the person may enter: everybody who is active."""
        return bool(request.user.is_active)

    def admin_view(self, view: Callable[..., HttpResponse], cacheable: bool = False) -> Callable[..., HttpResponse]:
        """Adds what the theme's Alpine.js needs to the policy of these pages: it compiles expressions of attributes."""
        relaxed = csp_update({"script-src": ["'unsafe-eval'"]})
        wrapped: Any = relaxed(super().admin_view(view, cacheable))
        return cast(Callable[..., HttpResponse], wrapped)

    def get_urls(self) -> list[URLPattern]:
        """Adds the dashboard's live parts."""
        return [path("dashboard/live/", self.admin_view(self.live_view), name="dashboard_live"), *super().get_urls()]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The dashboard."""
        context = {
            **self.each_context(request),
            "title": "Dashboard",
            **self._dashboard(request),
            **(extra_context or {}),
        }
        request.current_app = self.name
        return TemplateResponse(request, "admin/dashboard/page.html", context)

    def live_view(self, request: HttpRequest) -> JsonResponse:
        """The dashboard's parts as they look now."""
        context = self._dashboard(request)
        return JsonResponse(
            {name: render_to_string(f"admin/dashboard/{name}.html", context, request) for name in LIVE_SECTIONS}
        )

    def _dashboard(self, request: HttpRequest) -> dict[str, Any]:
        user: Any = request.user
        return dashboard_context(user, current_time(), _job_of(request, user))

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Jobs and endpoints by name, for the search box of the sidebar."""
        term = request.GET.get("s", "").strip().replace("\0", "")[:100]
        if not term:
            return HttpResponse()
        user: Any = request.user
        results = []
        for model, word, icon in ((Job, "job", "folder"), (Endpoint, "endpoint", "schedule")):
            found = Scope.of(user).owned(model._default_manager.filter(name__icontains=term)).exclude(status="archived")
            found = found.select_related("job") if model is Endpoint else found
            results += [
                SearchResult(
                    title=row.name,
                    description=", ".join(filter(None, (word, _standing(row)))),
                    link=reverse(f"admin:jobs_{word}_page", args=[row.pk]),
                    icon=icon,
                )
                for row in found.order_by("-pk")[:_FOUND]
            ]
        return TemplateResponse(request, "admin/search_results.html", {"results": results})

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """To the account's own form, which limits the rate of guesses."""
        return HttpResponseRedirect(reverse("account_change_password"))


def _job_of(request: HttpRequest, user: User) -> UUID | None:
    """The job that the dashboard is narrowed to; None for anything that is not one of the person's."""
    try:
        job_id = UUID(request.GET.get("job", ""))
    except ValueError:
        return None
    return job_id if Scope.of(user).owned(Job.objects.filter(pk=job_id)).exists() else None


def _standing(row: Job | Endpoint) -> str:
    """What stops a job or an endpoint, in words; empty where nothing does."""
    if isinstance(row, Endpoint):
        return blocked_words(row)
    return "" if row.status == JobStatus.ACTIVE else str(row.status)


def is_operator(request: HttpRequest) -> bool:
    """Whether operator's pages show in the menu."""
    user: Any = request.user
    return bool(user.is_superuser)


site = ConsoleSite(name="admin")
site.login = secure_admin_login(site.login)
site.register(Job, JobAdmin)
site.register(Endpoint, EndpointAdmin)
site.register(Run, RunAdmin)
site.register(AnalysisSession, AnalysisSessionAdmin)
site.register(Proposal, ProposalAdmin)
site.register(ApiKey, ApiKeyAdmin)
site.register(User, UserAdmin)
