"""Shares: what owners and hosts may have in hand, and the slots that are kept for newcomers."""

from uuid import UUID

import pytest

from scheduling.ledger.shares import Share, host_lane, owner_lane, regular_share, reserve_of

OWNER, OTHER = UUID(int=7), UUID(int=8)


@pytest.mark.parametrize(("slots", "reserve"), [(1, 0), (2, 1), (9, 1), (10, 1), (40, 4), (200, 20)])
def test_tenth_of_the_slots_is_kept_for_newcomers(slots: int, reserve: int) -> None:
    assert reserve_of(slots) == reserve


@pytest.mark.parametrize(
    ("slots", "owners", "share"),
    [
        (200, {}, 180),
        (200, {OWNER: 100}, 180),
        (200, {OWNER: 100, OTHER: 1}, 100),
        (1, {OWNER: 1}, 1),
        (1, {OWNER: 1, OTHER: 1}, 1),
    ],
)
def test_owner_gets_half_of_the_slots_while_another_has_calls_in_hand(
    slots: int, owners: dict[UUID, int], share: int
) -> None:
    assert regular_share(slots, owners) == share


def test_lane_in_use_tells_what_it_may_still_give() -> None:
    share = Share(per_owner=5, per_host=2, owners={OWNER: 3}, hosts={"a.example.com": 2, "b.example.com": 3})
    assert share.left == {owner_lane(OWNER): 2, host_lane("a.example.com"): 0, host_lane("b.example.com"): 0}
    assert share.full_lanes == [host_lane("a.example.com"), host_lane("b.example.com")]
