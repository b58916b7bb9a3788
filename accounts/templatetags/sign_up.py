"""Tells the sign-in page whether to offer an account."""

from django import template

from accounts.adapters import sign_up_is_open

register = template.Library()
register.simple_tag(sign_up_is_open)
