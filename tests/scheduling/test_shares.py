"""Shares: what owners and hosts may have in hand, and the slots that are kept for newcomers."""

from uuid import UUID

import pytest

from scheduling.ledger.shares import Share, host_lane, newcomers_share, owner_lane, regular_share, reserve_of

OWNER = UUID(int=7)


@pytest.mark.parametrize(("slots", "reserve"), [(1, 0), (2, 1), (9, 1), (10, 1), (40, 4), (200, 20)])
def test_tenth_of_the_slots_is_kept_for_newcomers(slots: int, reserve: int) -> None:
    assert reserve_of(slots) == reserve


@pytest.mark.parametrize(
    ("slots", "alone", "share"), [(200, True, 180), (200, False, 100), (2, True, 1), (1, True, 1), (1, False, 1)]
)
def test_owner_gets_half_of_the_slots_while_another_has_work(slots: int, alone: bool, share: int) -> None:
    assert regular_share(slots, alone=alone) == share


@pytest.mark.parametrize(("in_hand", "share"), [(180, 10), (190, 5), (197, 1), (199, 1), (200, 1)])
def test_newcomer_gets_up_to_half_of_what_is_free(in_hand: int, share: int) -> None:
    assert newcomers_share(200, in_hand) == share


def test_lane_in_use_tells_what_it_may_still_give() -> None:
    share = Share(per_owner=5, per_host=2, owners={OWNER: 3}, hosts={"a.example.com": 2, "b.example.com": 3})
    assert share.left == {owner_lane(OWNER): 2, host_lane("a.example.com"): 0, host_lane("b.example.com"): 0}
    assert share.full_lanes == [host_lane("a.example.com"), host_lane("b.example.com")]
