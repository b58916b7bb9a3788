"""Fixtures of the whole suite."""

from tests.support.http_target import http_target as http_target
