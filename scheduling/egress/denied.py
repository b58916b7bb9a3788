"""The table of addresses and ports that nobody may call unless an operator opens them.

Pure. Sources: the IANA special-purpose registries, the port list of the WHATWG Fetch standard, vendors' metadata pages.
`ipaddress.is_global` is no substitute: on Python 3.11 it accepts multicast, ::127.0.0.1, NAT64, 6to4, fec0:: and
mapped shared address space.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(word) for word in text.split())


def _ports(text: str) -> frozenset[int]:
    return frozenset(int(word) for word in text.split())


_GLOBAL_V6 = IPv6Network("2000::/3")
_DENIED = _networks(
    """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24
    203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32
    2001::/23 2001:db8::/32 2002::/16 3fff::/20 2620:4f:8000::/48
    """
)

# Credentials of instances and tasks at AWS, Google, Azure, Alibaba and Oracle. No allowance opens these.
METADATA = _networks(
    """
    169.254.169.0/24 169.254.170.0/24 168.63.129.16/32 100.100.100.200/32 192.0.0.192/32
    fd00:ec2::/32 fd20:ce::254/128
    """
)
METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "instance-data", "metadata.tencentyun.com"})
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")

# https://fetch.spec.whatwg.org/#port-blocking
_WHATWG_PORTS = _ports(
    """
    1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115 117 119 123 135
    137 139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 989 990 993 995
    1719 1720 1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080
    """
)
# SQL Server, Oracle, Docker, etcd, Firebird, MySQL, PostgreSQL, CouchDB, Redis, PgBouncer, Neo4j, Cassandra,
# Elasticsearch, kubelet, memcached, CockroachDB, Redis Sentinel, MongoDB, RethinkDB, MySQL X, Db2: in rising order.
_SERVICE_PORTS = _ports(
    """
    1433 1434 1521 2375 2376 2377 2379 2380 3050 3306 5432 5433 5984 6379 6380 6432 7687 9042 9160 9200 9300 10250
    10255 11211 26257 26379 27017 27018 27019 28015 33060 50000
    """
)
DENIED_PORTS = _WHATWG_PORTS | _SERVICE_PORTS


def plain_address(address: Address) -> Address:
    """Return the IPv4 address inside `::ffff:a.b.c.d`, which the kernel dials as IPv4; any other address as it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


@lru_cache(maxsize=4096)
def is_denied(address: Address) -> bool:
    """Whether `address` is private, local, multicast or reserved; every IPv6 address outside 2000::/3 is."""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
        return True
    return any(address in network for network in _DENIED)


@lru_cache(maxsize=4096)
def is_metadata(address: Address) -> bool:
    """Whether `address` is cloud metadata, also behind NAT64, 6to4 or an IPv4-compatible form."""
    if any(address in network for network in METADATA):
        return True
    if isinstance(address, IPv4Address):
        return False
    if address.sixtofour is not None:
        return is_metadata(address.sixtofour)
    if address in _NAT64 or address in _COMPATIBLE:
        return is_metadata(IPv4Address(int(address) & 0xFFFFFFFF))
    return False
