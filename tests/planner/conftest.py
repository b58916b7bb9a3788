"""Fixtures of the planner's tests."""

from tests.support.model_server import model_server as model_server
