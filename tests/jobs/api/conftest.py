"""Callers of the API."""

import pytest

from tests.support.api import Api
from tests.support.factories import Cast, make_cast


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


@pytest.fixture
def api(cast: Cast) -> Api:
    """Alice, with a key that may write."""
    return Api(cast.alice)
