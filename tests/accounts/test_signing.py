"""Signatures, verified as receivers do it: by the `standardwebhooks` package."""

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from accounts.signing import make_secret, sign

BODIES = [b"", b"{}", '{"wörd": "日本語 🎉"}'.encode(), b'{"a": 1}\r\n']


def signed(secrets: list[str], body: bytes, message_id: str = "one") -> dict[str, str]:
    now = int(datetime.now(UTC).timestamp())
    signature = sign(secrets, message_id=message_id, timestamp=now, body=body)
    return {"webhook-id": message_id, "webhook-timestamp": str(now), "webhook-signature": signature}


@pytest.mark.parametrize("body", BODIES)
def test_the_secret_that_was_shown_verifies_the_bytes_that_were_sent(body: bytes) -> None:
    secret = make_secret()
    Webhook(secret).verify(body, signed([secret], body), json_parse=False)


def test_each_of_two_secrets_verifies_alone_and_in_their_order() -> None:
    new, old = make_secret(), make_secret()
    headers = signed([new, old], b"{}")
    for secret in (new, old):
        Webhook(secret).verify(b"{}", headers, json_parse=False)
    assert headers["webhook-signature"].split(" ") == [
        signed([secret], b"{}")["webhook-signature"] for secret in (new, old)
    ]


def test_signature_of_the_known_message_is_the_known_one() -> None:
    # From the specification's test suites.
    signature = sign(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1_614_265_330,
        body=b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "body", "secret"])
def test_nothing_that_is_signed_can_be_changed(name: str) -> None:
    secret, body = make_secret(), b"{}"
    headers = signed([secret], body)
    match name:
        case "webhook-id":
            headers[name] = "other"
        case "webhook-timestamp":
            headers[name] = str(int(headers[name]) - 1)
        case "body":
            body = b"{ }"
        case _:
            secret = make_secret()
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers, json_parse=False)


def test_secrets_have_256_random_bits_in_the_usual_form() -> None:
    secrets = {make_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert {len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) for secret in secrets} == {32}


@pytest.mark.parametrize(
    "secrets", [[], [""], ["whsec_"], ["whsec_***"], ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], [make_secret(), "whsec_a"]]
)
def test_what_is_no_secret_signs_nothing(secrets: list[str]) -> None:
    with pytest.raises(ValueError):
        sign(secrets, message_id="one", timestamp=1, body=b"")
