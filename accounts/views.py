"""The page behind the first operator's link."""

from http import HTTPStatus
from typing import Any

from django.contrib.auth.forms import SetPasswordForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts.models import User
from accounts.setup import owner_of_link, use_link


@method_decorator([sensitive_post_parameters(), never_cache], name="dispatch")
class SetupView(View):
    """Asks for a password, sets it once, and shows the first API key. Looking at the page uses nothing up."""

    http_method_names = ("get", "head", "post", "options")

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        """The form; 410 where the link is not usable."""
        user = owner_of_link(token)
        return _ended(request) if user is None else _form(request, user, SetPasswordForm(user))

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        """Sets the password, or shows what is wrong with it."""
        user = owner_of_link(token)
        if user is None:
            return _ended(request)
        form: SetPasswordForm[User] = SetPasswordForm(user, request.POST)
        if not form.is_valid():
            return _form(request, user, form)
        key = use_link(token, form.cleaned_data["new_password1"])
        if key is None:
            return _ended(request)
        return render(request, "account/setup_done.html", {"person": user, "key": key})


def _form(request: HttpRequest, user: User, form: Any) -> HttpResponse:
    status = HTTPStatus.BAD_REQUEST if form.errors else HTTPStatus.OK
    return render(request, "account/setup.html", {"person": user, "form": form}, status=status)


def _ended(request: HttpRequest) -> HttpResponse:
    return render(request, "account/setup_ended.html", status=HTTPStatus.GONE)
