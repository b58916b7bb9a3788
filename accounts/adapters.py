"""Sign-up policy: who may create an account, by password or through a provider, and whose address counts as known.

Also where mail and sign-in lead: to SITE_URL, whatever Host a request names.
"""

import logging
from copy import copy
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.conf import settings
from django.db.models.expressions import DatabaseDefault
from django.http import HttpRequest, HttpResponse
from django.utils.http import url_has_allowed_host_and_scheme

from cronicorn.logging import Event, log_event

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """What mail calls this installation."""

    name: str
    domain: str


def this_site() -> Site:
    """The installation by its SITE_URL."""
    return Site("Cronicorn", urlsplit(settings.ENV.public_url).netloc)


def sign_up_is_open() -> bool:
    """Whether strangers may create an account."""
    return bool(settings.ENV.sign_up == "open")


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Password accounts."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Whether strangers may sign up."""
        return sign_up_is_open()

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Sends a mail that names the installation by SITE_URL."""
        super().send_mail(template_prefix, email, {**context, "current_site": this_site()})

    def is_safe_url(self, url: str | None) -> bool:
        """Whether a redirect may lead there: to a path, or to SITE_URL. Other allowed hosts are not ours to lead to."""
        site = urlsplit(settings.ENV.public_url)
        https = site.scheme == "https"
        return bool(url_has_allowed_host_and_scheme(url, allowed_hosts={site.netloc}, require_https=https))

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        # allauth counts guesses by Host, which whoever guesses chooses.
        login = str(credentials.get("email", credentials.get("username", ""))).lower()
        return f"{this_site().domain}:{login}"

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

    def list_apps(self, request: HttpRequest, provider: Any = None, client_id: Any = None) -> list[Any]:
        """The providers that are set up, of one name or all; the database cannot be asked for one with a NUL."""
        if provider is not None and "\x00" in provider:
            return []
        apps: list[Any] = super().list_apps(request, provider=provider, client_id=client_id)
        return apps

    def serialize_instance(self, instance: Any) -> dict[str, Any]:
        """The fields as JSON, for the session of a sign-up that asks for more; without what the database fills in."""
        known = copy(instance)
        for name, value in vars(instance).items():
            if isinstance(value, DatabaseDefault):
                del vars(known)[name]
        fields: dict[str, Any] = super().serialize_instance(known)
        return fields

    def on_authentication_error(self, request: HttpRequest, provider: Any, **facts: Any) -> None:
        """Logs why a sign-in through a provider failed; the page only says that it did."""
        reason = facts.get("exception") or facts.get("error")
        log_event(logger, Event.SIGN_IN_FAILED, logging.WARNING, provider=provider.id, reason=str(reason)[:500])

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        """Whether strangers may sign up."""
        return sign_up_is_open()
