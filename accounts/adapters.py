"""Sign-up policy: who may create an account, by password or through a provider, and whose address counts as known."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.conf import settings
from django.http import HttpRequest, HttpResponse


def sign_up_is_open() -> bool:
    """Whether strangers may create an account."""
    return bool(settings.ENV.sign_up == "open")


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Password accounts."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Whether strangers may sign up."""
        return sign_up_is_open()

    def pre_login(self, request: HttpRequest, user: Any, **facts: Any) -> HttpResponse | None:
        """Vouches for the address of an account that an operator made.

        Every sign-up leaves an address row to be verified; an account without one was made by an operator or a
        command, and could not sign in otherwise.
        """
        if not EmailAddress.objects.filter(user=user).exists():
            EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
        response: HttpResponse | None = super().pre_login(request, user, **facts)
        return response


class SocialAccountAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """Accounts through GitHub, Google or OpenID Connect. They are never joined to others by their e-mail address."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        """Whether strangers may sign up."""
        return sign_up_is_open()
