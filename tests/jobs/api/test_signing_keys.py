"""Signing keys through the API."""

import json

from standardwebhooks import Webhook

from tests.support.api import Api, faults
from tests.support.factories import Cast

PATH = "/api/signing-keys"


def test_a_key_is_made_rotated_and_listed_and_its_secret_shown_once(api: Api) -> None:
    assert api.get(PATH) == {"signingKeys": []}
    first = api.post(PATH, expect=201)
    second = api.post(f"{PATH}/rotate", expect=201)
    for made in (first, second):
        assert set(made) == {"id", "createdAt", "retiresAt", "secret"}
        Webhook(made["secret"])
    listed = api.get(PATH)
    assert [(key["id"], key["retiresAt"] is None) for key in listed["signingKeys"]] == [
        (second["id"], True),
        (first["id"], False),
    ]
    text = json.dumps(listed)
    assert first["secret"] not in text
    assert second["secret"] not in text


def test_a_second_first_key_and_a_rotation_without_one_are_conflicts(api: Api) -> None:
    status, body = api.send("POST", f"{PATH}/rotate")
    assert (status, faults(body)) == (409, [("no_signing_key", None)])
    api.post(PATH, expect=201)
    status, body = api.send("POST", PATH)
    assert (status, faults(body)) == (409, [("signing_key_exists", None)])


def test_fields_are_refused(api: Api) -> None:
    for path in (PATH, f"{PATH}/rotate"):
        status, body = api.send("POST", path, {"secret": "whsec_mine"})
        assert (status, faults(body)) == (400, [("unknown_field", "secret")])


def test_keys_of_others_are_neither_shown_nor_rotated(cast: Cast, api: Api) -> None:
    api.post(PATH, expect=201)
    for stranger in (Api(cast.bob), Api(cast.operator)):
        assert stranger.get(PATH) == {"signingKeys": []}
        assert stranger.send("POST", f"{PATH}/rotate")[0] == 409
    assert [key["retiresAt"] for key in api.get(PATH)["signingKeys"]] == [None]
