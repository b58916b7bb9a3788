"""Addresses of the console's own pages."""

from django.db import models
from django.urls import reverse


def route_of(model: type[models.Model] | models.Model) -> str:
    """The begin of the names of a model's addresses in the console, as Django's admin forms them."""
    return f"{model._meta.app_label}_{model._meta.model_name}"


def page_url(obj: models.Model) -> str:
    """The address of an object's page."""
    return reverse(f"admin:{route_of(obj)}_page", args=[obj.pk])
