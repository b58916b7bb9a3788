"""The one rule of the console: people see and touch what is theirs, operators everything. Every admin inherits it.

The rule is in `get_queryset`, from which Django's admin takes lists, single objects, actions and autocompletion alike;
what is not in it answers 404, the same as what does not exist.
"""

from collections.abc import Sequence
from typing import Any

from django.contrib.admin.views.main import ERROR_FLAG
from django.contrib.admin.views.main import ChangeList as DjangoChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from accounts.addresses import page_url, route_of

COUNT_CAP = 1_000


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts to `COUNT_CAP` and no further, so that a page of a huge table costs as much as one of a small table."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, at most `COUNT_CAP`."""
        rows: Any = self.object_list
        return int(rows.order_by()[:COUNT_CAP].count())


class OwnedChangeList(ChangeList):  # type: ignore[misc]
    """A list whose rows link to the object's own page, and are completed by one read for the whole page."""

    def get_results(self, request: HttpRequest) -> None:
        """Fetches the page, then lets the admin attach what its columns need."""
        super().get_results(request)
        page: list[Any] = list(self.result_list)  # type: ignore[has-type]
        # The theme's heading offers "Show all" where the two counts differ, as they do under a filter.
        self.full_result_count = None if self.query or self.has_active_filters else self.result_count
        self.result_list = self.model_admin.complete_rows(request, page)

    def url_for_result(self, result: models.Model) -> str:
        """Where the first column leads."""
        if self.model_admin.page_template is None:
            return str(super().url_for_result(result))
        return page_url(result)


class OwnedModelAdmin(ModelAdmin):  # type: ignore[misc]
    """An admin of rows with an owner: read-only unless a subclass says otherwise, and nothing is ever deleted here.

    `owner_path` is the lookup from the model to its owner. `page_template` makes the address of the object a page of
    its own, which `page_context` fills; without it the address leads to the form.
    """

    owner_path = "owner"
    page_template: str | None = None
    operators_only = False
    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 0
    list_filter_sheet = True
    list_disable_select_all = True
    sortable_by: Sequence[str] = ()
    actions: Sequence[Any] = ()

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        """The rows of the person; all rows for an operator."""
        rows: models.QuerySet[Any] = super().get_queryset(request)
        user: Any = request.user
        return rows if user.is_superuser else rows.filter(**{self.owner_path: user.pk})

    def owns(self, request: HttpRequest, obj: models.Model | None) -> bool:
        """Whether the person may see the object; of None, whether there may be such objects for them at all."""
        user: Any = request.user
        if not user.is_active or (self.operators_only and not user.is_superuser):
            return False
        if obj is None or user.is_superuser:
            return True
        return bool(getattr(obj, f"{self.owner_path}_id", None) == user.pk)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the model shows in menus."""
        return self.owns(request, None)

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Whether the object may be seen."""
        return self.owns(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Rows come from services; a subclass with a form says otherwise."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Rows are changed by services; a subclass with a form says otherwise."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Nothing is deleted in the console; jobs and endpoints are archived."""
        return False

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """The admin's own actions, without Django's deletion."""
        actions: dict[str, Any] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[DjangoChangeList]:
        """The list with pages."""
        return OwnedChangeList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list; a NUL in the query, which PostgreSQL refuses, is treated as any other wrong query."""
        if any("\0" in value for values in request.GET.lists() for value in (values[0], *values[1])):
            return HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    def complete_rows(self, request: HttpRequest, rows: list[Any]) -> list[Any]:
        """Attaches to the rows of one list page what columns need beyond the row, in a fixed number of queries."""
        return rows

    def get_urls(self) -> list[URLPattern]:
        """Adds the object's page before Django's redirect to the form."""
        if self.page_template is None:
            return list(super().get_urls())
        view = self.admin_site.admin_view(self.page_view)
        return [path("<uuid:object_id>/", view, name=f"{route_of(self.model)}_page"), *super().get_urls()]

    def page_view(self, request: HttpRequest, object_id: Any) -> HttpResponse:
        """The object's page. Raises Http404 for what is unknown or another person's."""
        obj = self.owned_object(request, object_id)
        context = {
            **self.admin_site.each_context(request),
            "title": str(obj),
            "subtitle": None,
            "opts": self.opts,
            "original": obj,
            "object": obj,
            "can_change": self.has_change_permission(request, obj),
            **self.page_context(request, obj),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, str(self.page_template), context)

    def page_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """What the page's template needs beside the object."""
        return {}

    def owned_object(self, request: HttpRequest, object_id: Any) -> Any:
        """The object if the person may see it. Raises Http404 otherwise."""
        obj = self.get_object(request, str(object_id))
        if obj is None or not self.has_view_permission(request, obj):
            raise Http404
        return obj

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row of that id among those that the person may see; None otherwise."""
        try:
            return super().get_object(request, object_id, from_field)
        except (ValidationError, ValueError):
            return None

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The form; for what cannot be changed, its page."""
        obj = self.owned_object(request, object_id)
        if self.page_template is not None and not self.has_change_permission(request, obj):
            return HttpResponseRedirect(page_url(obj))
        response: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
        return response

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """The form with one way to save, which leads to the object's page."""
        one_way = {"show_save_and_continue": False, "show_save_and_add_another": False, **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, one_way)

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        raise Http404
