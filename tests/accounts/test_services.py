"""Signing keys on real rows: one, two in a rotation, sealed, and never more than some."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from standardwebhooks import Webhook

from accounts.models import SigningKey, User
from accounts.services import (
    MAX_LIVE_SIGNING_KEYS,
    ROTATION_OVERLAP,
    SigningKeyRefusedError,
    create_signing_key,
    live_signing_keys,
    rotate_signing_key,
)
from accounts.vault import SecretUnavailableError, unseal
from tests.support.factories import Cast, make_cast


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


def refusal(made: object, owner: User) -> str:
    with pytest.raises(SigningKeyRefusedError) as caught:
        made(owner=owner)  # type: ignore[operator]
    return caught.value.code


def test_a_secret_is_kept_only_sealed_for_its_row(cast: Cast) -> None:
    key, text = create_signing_key(owner=cast.alice)
    other, _ = create_signing_key(owner=cast.bob)
    Webhook(text)
    assert unseal(f"signing_keys:{key.pk}", key.sealed) == text
    assert text.removeprefix("whsec_") not in key.sealed
    with pytest.raises(SecretUnavailableError):
        unseal(f"signing_keys:{other.pk}", key.sealed)


def test_the_first_key_stays_and_a_second_is_made_only_by_rotation(cast: Cast) -> None:
    key, _ = create_signing_key(owner=cast.alice)
    assert key.retires_at is None
    assert refusal(create_signing_key, cast.alice) == "signing_key_exists"
    assert refusal(rotate_signing_key, cast.bob) == "no_signing_key"


def test_the_old_key_lives_on_for_a_day_after_a_rotation(cast: Cast) -> None:
    old, old_text = create_signing_key(owner=cast.alice)
    new, new_text = rotate_signing_key(owner=cast.alice)
    old.refresh_from_db()
    assert old_text != new_text
    assert list(live_signing_keys(cast.alice)) == [new, old]
    assert new.retires_at is None
    assert old.retires_at is not None
    assert abs(old.retires_at - new.created_at - ROTATION_OVERLAP) < timedelta(seconds=1)
    SigningKey.objects.filter(pk=old.pk).update(retires_at=Now())
    assert list(live_signing_keys(cast.alice)) == [new]


def test_a_second_rotation_takes_no_key_from_a_receiver_early(cast: Cast) -> None:
    first, _ = create_signing_key(owner=cast.alice)
    second, _ = rotate_signing_key(owner=cast.alice)
    SigningKey.objects.filter(pk=first.pk).update(retires_at=Now() + timedelta(hours=1))
    first.refresh_from_db()
    retires_at = first.retires_at
    third, _ = rotate_signing_key(owner=cast.alice)
    assert list(live_signing_keys(cast.alice)) == [third, second, first]
    first.refresh_from_db()
    assert first.retires_at == retires_at


def test_rotations_without_end_are_refused(cast: Cast) -> None:
    create_signing_key(owner=cast.alice)
    for _ in range(MAX_LIVE_SIGNING_KEYS - 1):
        rotate_signing_key(owner=cast.alice)
    assert refusal(rotate_signing_key, cast.alice) == "too_many_signing_keys"
    assert live_signing_keys(cast.alice).filter(retires_at__isnull=True).count() == 1


def test_a_rotation_leaves_the_keys_of_others_alone(cast: Cast) -> None:
    theirs, _ = create_signing_key(owner=cast.bob)
    create_signing_key(owner=cast.alice)
    rotate_signing_key(owner=cast.alice)
    assert [(key.pk, key.retires_at) for key in live_signing_keys(cast.bob)] == [(theirs.pk, None)]


@pytest.mark.django_db(transaction=True)
def test_two_who_create_at_once_make_one_key() -> None:
    owner = make_cast().alice
    start, codes = threading.Barrier(4), []

    def create() -> None:
        start.wait(10)
        try:
            create_signing_key(owner=owner)
        except SigningKeyRefusedError as error:
            codes.append(error.code)
        connection.close()

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert codes == ["signing_key_exists"] * 3
    assert live_signing_keys(owner).count() == 1
