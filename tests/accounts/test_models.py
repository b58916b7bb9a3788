"""Users, without a database."""

import pytest

from accounts.models import User


@pytest.mark.parametrize(("name", "shown"), [("Ada Lovelace", "Ada Lovelace"), ("", "ada")])
def test_a_person_has_a_name_beside_the_address(name: str, shown: str) -> None:
    assert User(email="ada@example.com", name=name).get_full_name() == shown
