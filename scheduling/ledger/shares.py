"""Shares: how many calls one owner and one host may have in hand, and the lanes in which what is over waits. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

# Due rows wait here, oldest first, until a claim finds that their owner or host is at its share.
OPEN_LANE = ""


@dataclass(frozen=True, slots=True)
class Share:
    """How many calls one owner and one host may have in hand, and how many each has; the default is no limit."""

    per_owner: int = 1_000_000
    per_host: int = 1_000_000
    owners: Mapping[UUID, int] = field(default_factory=dict)
    hosts: Mapping[str, int] = field(default_factory=dict)

    @property
    def left(self) -> dict[str, int]:
        """How many more calls each lane may give, by name; a lane of nobody who has calls in hand is left out."""
        owners = {owner_lane(owner): max(0, self.per_owner - count) for owner, count in self.owners.items()}
        hosts = {host_lane(host): max(0, self.per_host - count) for host, count in self.hosts.items()}
        return owners | hosts

    @property
    def full_owners(self) -> list[UUID]:
        """Owners that may get nothing for now."""
        return [owner for owner, count in self.owners.items() if count >= self.per_owner]

    @property
    def full_hosts(self) -> list[str]:
        """Hosts that may get nothing for now."""
        return [host for host, count in self.hosts.items() if count >= self.per_host]

    @property
    def full_lanes(self) -> list[str]:
        """Lanes from which nothing may be taken for now."""
        return [*map(owner_lane, self.full_owners), *map(host_lane, self.full_hosts)]


def owner_lane(owner_id: UUID) -> str:
    """Where the due rows of an owner at its share wait."""
    return f"owner:{owner_id}"


def host_lane(host: str) -> str:
    """Where the due rows of a host at its share wait."""
    return f"host:{host}"


def reserve_of(slots: int) -> int:
    """How many of a worker's slots are kept for owners who have little in hand: a tenth, at least one of several."""
    return max(slots // 10, 1) if slots > 1 else 0


def regular_share(slots: int, *, alone: bool) -> int:
    """How many calls one owner may have in hand: half of the slots, or all but the reserve if nobody else has work."""
    return max(1, slots - reserve_of(slots) if alone else slots // 2)


def newcomers_share(slots: int, in_hand: int) -> int:
    """How many calls an owner may have in hand after it was given one from the reserve: half of what was free."""
    return max(1, (slots - in_hand) // 2)
