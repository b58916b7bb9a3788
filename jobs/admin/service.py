"""Admins that write through services: faults become errors of form fields, conflicts become messages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.db import models, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path

from accounts.addresses import page_url, route_of
from accounts.confirmation import confirmation, is_confirmed
from accounts.ownership import OwnedModelAdmin
from jobs.errors import ConflictError, Fault, InvalidInputError, Unreadable

BULK_LIMIT = 500


class ServiceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form whose `write` calls a service. It neither builds nor validates a row itself.

    `faults` are what the service said of the same input; each goes to the field that its path begins with.
    """

    faults: ClassVar[Sequence[Fault]] = ()
    request: ClassVar[HttpRequest]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        instance = kwargs.get("instance")
        if instance is not None:
            kwargs["initial"] = {**self.initial_of(instance), **(kwargs.get("initial") or {})}
        super().__init__(*args, **kwargs)

    def initial_of(self, instance: Any) -> dict[str, Any]:
        """What the fields show of a row; those named as columns by default."""
        return {name: getattr(instance, name) for name in self.base_fields if hasattr(instance, name)}

    def _post_clean(self) -> None:
        failed = {name for name in self.errors if name in self.fields}
        for fault in self.faults or (self.further_faults() if failed else ()):
            name = (fault.field or "").split(".")[0].split("[")[0]
            if name in failed:
                continue
            path = fault.field if fault.field and fault.field != name else None
            self.add_error(name if name in self.fields else None, f"{path}: {fault.message}" if path else fault.message)

    def further_faults(self) -> Sequence[Fault]:
        """What the service would say of the fields that could be read, where others could not."""
        return ()

    def read_value(self, name: str) -> Any:
        """What was typed into a field; Unreadable where that has a fault already."""
        return self.cleaned_data.get(name) if name not in self.errors else Unreadable()

    def write(self, *, change: bool) -> models.Model:
        """Calls the service and returns the row as it stands now."""
        raise NotImplementedError

    def save(self, commit: bool = True) -> Any:
        """The row as it is; `write` is what writes."""
        self.save_m2m = lambda: None  # type: ignore[method-assign]
        return self.instance


@dataclass(frozen=True, slots=True)
class Button:
    """Something to do with one object by POST. `do` takes the object and the request; `confirm` asks first.

    `confirm_many` is the question for several at once.
    """

    name: str
    label: str
    icon: str
    do: Callable[[Any, HttpRequest], object]
    done: str
    confirm: str = ""
    confirm_many: str = ""
    quiet: bool = False


class ServiceModelAdmin(OwnedModelAdmin):
    """An admin with buttons on the object's page, the same ones in bulk, and a form that writes by a service."""

    form: type[ServiceForm]
    bulk: Sequence[str] = ()

    def buttons(self) -> Mapping[str, Button]:
        """Everything that can be done with an object, by name."""
        return {}

    def buttons_for(self, obj: Any) -> list[Button]:
        """The buttons that make sense as the object stands."""
        return list(self.buttons().values())

    def get_urls(self) -> list[URLPattern]:
        """Adds the address that the buttons post to."""
        route = f"{route_of(self.model)}_do"
        return [
            path("<uuid:object_id>/do/<slug:name>/", self.admin_site.admin_view(self.do_view), name=route),
            *super().get_urls(),
        ]

    def do_view(self, request: HttpRequest, object_id: Any, name: str) -> HttpResponse:
        """Does one thing with one object and returns to its page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        obj = self.owned_object(request, object_id)
        button = self.buttons().get(name)
        if button is None:
            raise Http404
        if self._do(button, obj, request):
            self.log_change(request, obj, button.done)
            self.message_user(request, f"{obj}: {button.done}", messages.SUCCESS)
        return HttpResponseRedirect(page_url(obj))

    def _do(self, button: Button, obj: Any, request: HttpRequest) -> bool:
        """Whether it was done; where the service refuses, the person is told why."""
        try:
            button.do(obj, request)
        except (ConflictError, InvalidInputError) as error:
            self.message_user(request, f"{obj}: {error}", messages.ERROR)
            return False
        return True

    def _get_base_actions(self) -> list[tuple[Any, str, str]]:
        buttons = self.buttons()
        return [(self._bulk_action(buttons[name]), name, buttons[name].label) for name in self.bulk]

    def _bulk_action(self, button: Button) -> Callable[..., HttpResponse | None]:
        def act(
            admin: "ServiceModelAdmin", request: HttpRequest, queryset: models.QuerySet[Any]
        ) -> HttpResponse | None:
            chosen = list(queryset[: BULK_LIMIT + 1])
            if len(chosen) > BULK_LIMIT:
                admin.message_user(request, f"At most {BULK_LIMIT} at once; choose fewer.", messages.ERROR)
                return None
            if button.confirm and not is_confirmed(request):
                question = button.confirm_many or button.confirm
                return confirmation(admin, request, chosen, name=button.name, label=button.label, question=question)
            done = 0
            for obj in chosen:
                if admin._do(button, obj, request):
                    admin.log_change(request, obj, button.done)
                    done += 1
            if done:
                admin.message_user(request, f"{done} of {len(chosen)}: {button.done}", messages.SUCCESS)
            return None

        return act

    def get_form(
        self, request: HttpRequest, obj: Any | None = None, change: bool = False, **kwargs: Any
    ) -> type[ServiceForm]:
        """The form, told of the request and of what the service refused."""
        faults = getattr(request, "service_faults", ())
        return type(self.form.__name__, (self.form,), {"faults": faults, "request": request})

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """The form. What the service refuses undoes the whole write, and is shown at the fields on a second pass."""
        try:
            with transaction.atomic():
                return super().changeform_view(request, object_id, form_url, extra_context)
        except InvalidInputError as error:
            request.service_faults = error.faults  # type: ignore[attr-defined]
        except ConflictError as error:
            request.service_faults = (Fault(None, error.code, str(error)),)  # type: ignore[attr-defined]
        return super().changeform_view(request, object_id, form_url, extra_context)

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        """Writes by the form's service."""
        return form.write(change=change)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Nothing: the service has written."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing: the service has written."""

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """To the new object's page."""
        self.message_user(request, f"{obj}: created.", messages.SUCCESS)
        return HttpResponseRedirect(page_url(obj))

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """To the object's page."""
        self.message_user(request, f"{obj}: saved, and planned anew.", messages.SUCCESS)
        return HttpResponseRedirect(page_url(obj))
