"""The page that asks before an action on several rows that cannot be taken back."""

from collections.abc import Sequence
from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

CONFIRMED = "confirmed"
SHOWN = 50


def is_confirmed(request: HttpRequest) -> bool:
    """Whether the person has answered the question of this action."""
    return request.POST.get(CONFIRMED) == "yes"


def confirmation(
    admin: Any, request: HttpRequest, chosen: Sequence[models.Model], *, name: str, label: str, question: str
) -> HttpResponse:
    """Names what is meant and asks; the answer posts the same action again, for the same rows."""
    context = {
        **admin.admin_site.each_context(request),
        "title": f"{label}: are you sure?",
        "opts": admin.opts,
        "chosen": chosen[:SHOWN],
        "more": max(len(chosen) - SHOWN, 0),
        "ids": [row.pk for row in chosen],
        "checkbox": ACTION_CHECKBOX_NAME,
        "confirmed": CONFIRMED,
        "action": name,
        "label": label,
        "question": question,
    }
    request.current_app = admin.admin_site.name
    return TemplateResponse(request, "admin/console/confirm.html", context)
