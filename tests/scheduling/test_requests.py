"""Signed calls, from the claim to the receiver, who verifies them with the `standardwebhooks` package."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from standardwebhooks import Webhook, WebhookVerificationError

from accounts.models import SigningKey, User
from accounts.services import create_signing_key, rotate_signing_key
from accounts.signing import make_secret
from accounts.vault import seal
from jobs.models import Endpoint, Run, RunResponse
from scheduling.ledger.claims import Claim, claim_due
from scheduling.worker.requests import build_request
from scheduling.worker.worker import Worker
from tests.support.factories import make_job, make_user
from tests.support.http_target import HttpTarget, Received, Reply

pytestmark = pytest.mark.django_db(transaction=True)
MakeDue = Callable[..., Endpoint]
SIGNATURE_HEADERS = {"webhook-timestamp", "webhook-signature"}


@pytest.fixture
def owner() -> User:
    return make_user()


@pytest.fixture
def url(target: HttpTarget) -> str:
    return target.route("/hook", Reply(200))


def verify(secret: str, request: Received) -> None:
    Webhook(secret).verify(request.body, dict(request.headers), json_parse=False)


def refused(secret: str, request: Received) -> bool:
    try:
        verify(secret, request)
    except WebhookVerificationError:
        return True
    return False


def names(request: Received) -> set[str]:
    return {name.lower() for name, _ in request.headers}


@pytest.mark.parametrize("body", [None, "", "{}", '{"wörd": "日本語 🎉"}', "a\r\nb\x7f"])
def test_the_receiver_verifies_the_bytes_that_arrived(
    owner: User, make_due: MakeDue, worker: Worker, target: HttpTarget, url: str, body: str | None
) -> None:
    _, secret = create_signing_key(owner=owner)
    make_due(url, job=make_job(owner), method="POST", body=body)
    worker.run_once()
    (request,) = target.requests
    assert request.body == (body or "").encode()
    verify(secret, request)
    assert refused(make_secret(), request)


def test_the_receiver_of_the_manual_tells_genuine_calls_from_others(
    owner: User, make_due: MakeDue, worker: Worker, target: HttpTarget, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = create_signing_key(owner=owner)
    make_due(url, job=make_job(owner), method="POST", body="{}")
    worker.run_once()
    (request,) = target.requests
    monkeypatch.setenv("SIGNING_SECRET", secret)
    manual = (Path(settings.BASE_DIR) / "docs" / "signing.md").read_text()
    receiver: dict[str, Any] = {}
    exec(manual.split("```python\n")[1].split("```")[0], receiver)  # noqa: S102  our own manual
    headers = {name.lower(): value for name, value in request.headers}
    assert receiver["is_genuine"](request.body, headers)
    for body, changed in (
        (b"{ }", {}),
        (b"\xff", {}),
        (b"{}", {"webhook-signature": "v1"}),
        (b"{}", {"webhook-id": ""}),
    ):
        assert not receiver["is_genuine"](body, headers | changed)


def test_both_keys_of_a_rotation_verify(
    owner: User, make_due: MakeDue, worker: Worker, target: HttpTarget, url: str
) -> None:
    _, old = create_signing_key(owner=owner)
    _, new = rotate_signing_key(owner=owner)
    make_due(url, job=make_job(owner))
    worker.run_once()
    (request,) = target.requests
    verify(old, request)
    verify(new, request)


def test_a_retired_key_signs_no_more(
    owner: User, make_due: MakeDue, worker: Worker, target: HttpTarget, url: str
) -> None:
    first, old = create_signing_key(owner=owner)
    _, new = rotate_signing_key(owner=owner)
    SigningKey.objects.filter(pk=first.pk).update(retires_at=Now())
    make_due(url, job=make_job(owner))
    worker.run_once()
    (request,) = target.requests
    verify(new, request)
    assert refused(old, request)
    assert len((request.header("webhook-signature") or "").split(" ")) == 1


def test_keys_sign_for_their_owner_only(
    owner: User, make_due: MakeDue, worker: Worker, target: HttpTarget, url: str
) -> None:
    other = make_user()
    _, mine = create_signing_key(owner=owner)
    _, theirs = create_signing_key(owner=other)
    for who in (owner, other, make_user()):
        make_due(url, job=make_job(who), method="POST", body=str(who.pk))
    worker.run_once()
    by_owner = {request.body.decode(): request for request in target.requests}
    assert len(by_owner) == 3
    verify(mine, by_owner.pop(str(owner.pk)))
    request = by_owner.pop(str(other.pk))
    verify(theirs, request)
    assert refused(mine, request)
    (unsigned,) = by_owner.values()
    assert not SIGNATURE_HEADERS & names(unsigned)


@pytest.mark.parametrize("broken", ["another row", "another key", "no secret"])
def test_a_call_that_cannot_be_signed_with_every_key_is_not_sent_and_disturbs_nobody(
    owner: User, make_due: MakeDue, worker: Worker, target: HttpTarget, url: str, broken: str
) -> None:
    first, text = create_signing_key(owner=owner)
    newest, _ = rotate_signing_key(owner=owner)
    sealed = {
        "another row": newest.sealed,
        "another key": Fernet(Fernet.generate_key()).encrypt(b"{}").decode(),
        "no secret": seal(f"signing_keys:{first.pk}", text.removeprefix("whsec_")),
    }
    SigningKey.objects.filter(pk=first.pk).update(sealed=sealed[broken])
    unsendable = make_due(url, job=make_job(owner))
    other = make_due(url)
    worker.run_once()
    run = Run.objects.get(endpoint=unsendable)
    kind = "internal_error" if broken == "no secret" else "secret_unavailable"
    assert (run.status, run.error_kind) == ("failed", kind)
    assert text not in (run.error_message or "")
    assert Run.objects.get(endpoint=other).status == "success"
    (request,) = target.requests
    assert not SIGNATURE_HEADERS & names(request)


def test_a_secret_that_comes_back_is_masked(owner: User, make_due: MakeDue, worker: Worker, target: HttpTarget) -> None:
    _, secret = create_signing_key(owner=owner)
    bare = secret.removeprefix("whsec_")
    url = target.route("/leaky", Reply(200, body=f"whole {secret} and bare {bare}".encode()))
    make_due(url, job=make_job(owner))
    worker.run_once()
    assert RunResponse.objects.get().body == "whole ******** and bare ********"


def claim_one(horizon: timedelta = timedelta(0)) -> Claim:
    (claim,) = claim_due(worker="w1", limit=1, lease=timedelta(seconds=60), horizon=horizon)
    return claim


def signed_at(claim: Claim) -> datetime:
    headers = dict(build_request(claim).call.headers)
    return datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)


def test_the_signed_time_of_a_punctual_call_is_the_second_when_it_is_due(owner: User, make_due: MakeDue) -> None:
    create_signing_key(owner=owner)
    make_due(job=make_job(owner), late=timedelta(seconds=-1.5))
    claim = claim_one(horizon=timedelta(seconds=2))
    assert claim.due_at > claim.claimed_at
    assert signed_at(claim) == claim.due_at.replace(microsecond=0)


def test_the_signed_time_of_a_late_call_is_now_so_that_receivers_accept_it(owner: User, make_due: MakeDue) -> None:
    _, secret = create_signing_key(owner=owner)
    make_due(job=make_job(owner), late=timedelta(hours=3), baseline_interval_ms=86_400_000)
    claim = claim_one()
    assert claim.claimed_at - claim.due_at > timedelta(hours=2)
    assert signed_at(claim) == claim.claimed_at.replace(microsecond=0)
    Webhook(secret).verify(b"", dict(build_request(claim).call.headers), json_parse=False)


def test_keys_come_with_the_claim_newest_first_in_the_one_statement(owner: User, make_due: MakeDue) -> None:
    first, _ = create_signing_key(owner=owner)
    second, _ = rotate_signing_key(owner=owner)
    make_due(job=make_job(owner))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        claim = claim_one()
    assert claim.signing_keys == [[str(second.pk), second.sealed], [str(first.pk), first.sealed]]
    assert sum("signing_keys" in query["sql"] for query in queries) == 1
