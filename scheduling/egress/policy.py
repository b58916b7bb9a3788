"""Decides which destinations may be called.

Pure: resolves no name and opens no socket. `judge_address` binds, because it sees the very address that is dialled;
`judge_url` reads literals and special names when a URL is written, so that a mistake is shown at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Network, ip_address, ip_network
from typing import Self
from urllib.parse import urlsplit

from cronicorn.env import Environment
from scheduling.egress.denied import (
    DENIED_PORTS,
    METADATA,
    METADATA_NAMES,
    Network,
    is_denied,
    is_metadata,
    plain_address,
)
from scheduling.egress.targets import Target, TargetError, read_target

_LOCAL_NAMES = frozenset({"localhost", "localhost6", "ip6-localhost", "ip6-loopback"})
_LOCAL_SUFFIXES = (".localhost", ".localdomain")
_PRIVATE_SUFFIXES = (".local", ".internal", ".lan", ".intranet", ".home.arpa")
_LOOPBACK = ("127.0.0.1", "::1")
_LOOPBACK_SPELLINGS = frozenset({"localhost", *_LOOPBACK})
_SYNTHETIC_PATH = re.compile(r"/api/synthetic/[A-Za-z0-9_/-]*")

MAX_JUDGED = 4_096

_ADDRESS_REASON = "Private, local and reserved addresses are not allowed."
_PORT_REASON = "This port is not allowed."


class EgressSettingError(ValueError):
    """The egress settings are unusable. `faults` lists every fault, each one sentence."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(" ".join(self.faults))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a destination may be called. `reason` is a sentence for the owner of the URL, empty when allowed."""

    allowed: bool
    reason: str = ""


_ALLOWED = Verdict(True)


@dataclass(frozen=True, slots=True)
class Allowance:
    """A network that the operator opens; `port` None means every port that is not denied."""

    network: Network
    port: int | None

    def __str__(self) -> str:
        network = f"[{self.network.network_address}]/{self.network.prefixlen}"
        text = network if self.network.version == 6 else str(self.network)
        return text if self.port is None else f"{text}:{self.port}"


@dataclass(frozen=True, slots=True)
class OwnHost:
    """A name or address of this installation; a leading dot stands for all names below, `port` None for every port."""

    host: str
    port: int | None

    def matches(self, host: str, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        return host == self.host.removeprefix(".") or (self.host.startswith(".") and host.endswith(self.host))


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The judge. The default instance allows public addresses on ordinary ports and nothing else.

    An allowance overrides the table of denied addresses, and the denied ports only where it names the port. Cloud
    metadata stays denied whatever is allowed.
    """

    allowances: tuple[Allowance, ...] = ()
    synthetic: Target | None = None
    own_hosts: tuple[OwnHost, ...] = ()
    # What was judged before: the same few addresses are dialled again and again.
    _judged: dict[tuple[str, int, bool], Verdict] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_settings(cls, allow: str, synthetic_base_url: str | None = None, own_hosts: Iterable[str] = ()) -> Self:
        """Build the policy; raise `EgressSettingError` with all faults.

        `own_hosts` are `name`, `.name`, `address` or either with `:port`. `*` and loopback are left out: whether
        loopback may be called is for `allow` to say.
        """
        faults: list[str] = []
        allowances: tuple[Allowance, ...] = ()
        synthetic: Target | None = None
        try:
            allowances = parse_allow(allow)
        except EgressSettingError as error:
            faults.extend(error.faults)
        if synthetic_base_url:
            try:
                synthetic = _read_base(synthetic_base_url)
            except TargetError as error:
                faults.append(f"SYNTHETIC_BASE_URL: {error}")
        own: list[OwnHost] = []
        for text in own_hosts:
            try:
                own.extend(_read_own_host(text))
            except TargetError as error:
                faults.append(f"own host {text!r}: {error}")
        if faults:
            raise EgressSettingError(faults)
        return cls(allowances, synthetic, tuple(own))

    def is_synthetic_target(self, url: str) -> bool:
        """Whether `url` is the synthetic base with a plain path below /api/synthetic/ (no dots, no escapes).

        `localhost`, `127.0.0.1` and `[::1]` are the same host here: people type either for the server at hand.
        """
        try:
            target = read_target(url)
        except TargetError:
            return False
        return self._is_synthetic(target)

    def judge_url(self, url: str, *, synthetic: bool = False) -> Verdict:
        """Judge a URL as written, without DNS. An allowed name is judged again, by address, when it is dialled.

        `synthetic` says that the call belongs to a synthetic job, the only kind that may use the synthetic base.
        """
        try:
            target = read_target(url)
        except TargetError as error:
            return Verdict(False, str(error))
        return self.judge_target(target, synthetic=synthetic)

    def judge_target(self, target: Target, *, synthetic: bool = False) -> Verdict:
        """Judge a URL that was read, as `judge_url` does."""
        if synthetic and self._is_synthetic(target):
            return _ALLOWED
        if target.address is not None:
            return self.judge_address(str(target.address), target.port)
        return self._judge_name(target.host, target.port)

    def judge_address(self, ip: str, port: int, *, synthetic_target: bool = False) -> Verdict:
        """Judge the address that is about to be connected.

        `synthetic_target` says that this very call passed as synthetic: any address that the synthetic base resolves
        to is then allowed, but for cloud metadata. Unreadable addresses are refused.
        """
        question = (ip, port, synthetic_target)
        verdict = self._judged.get(question)
        if verdict is None:
            verdict = self._judge_address(ip, port, synthetic_target)
            if len(self._judged) >= MAX_JUDGED:
                self._judged.clear()
            self._judged[question] = verdict
        return verdict

    def choose_addresses(self, addresses: Sequence[str], port: int, *, synthetic_target: bool = False) -> list[str]:
        """Return those of a name's addresses that may be dialled; none where the name is refused.

        A name that has a denied address beside a public one is refused as a whole: it is set up to reach something
        inside under the cover of something outside. Beside addresses that the operator opened, denied ones are left
        out, as with `localhost` where only one family is open.
        """
        allowed, mixed = [], False
        for ip in addresses:
            if self.judge_address(ip, port, synthetic_target=synthetic_target).allowed:
                allowed.append(ip)
            else:
                mixed = True
        if mixed and any(not is_denied(plain_address(ip_address(ip.partition("%")[0]))) for ip in allowed):
            return []
        return allowed

    def _judge_address(self, ip: str, port: int, synthetic_target: bool) -> Verdict:
        try:
            address = plain_address(ip_address(ip.partition("%")[0]))
        except ValueError:
            return Verdict(False, _ADDRESS_REASON)
        if is_metadata(address):
            return Verdict(False, _ADDRESS_REASON)
        if synthetic_target:
            return _ALLOWED
        if self._is_own(str(address), port):
            return Verdict(False, "This service does not call itself.")
        opened = [allowance.port for allowance in self.allowances if address in allowance.network]
        if port in opened:
            return _ALLOWED
        if not 1 <= port <= 65535 or port in DENIED_PORTS:
            return Verdict(False, _PORT_REASON)
        if None in opened or not is_denied(address):
            return _ALLOWED
        return Verdict(False, _ADDRESS_REASON)

    def _judge_name(self, host: str, port: int) -> Verdict:
        if self._is_own(host, port):
            return Verdict(False, "This service does not call itself.")
        if host in METADATA_NAMES:
            return Verdict(False, _ADDRESS_REASON)
        if host in _LOCAL_NAMES or host.endswith(_LOCAL_SUFFIXES):
            verdicts = [self.judge_address(ip, port) for ip in _LOOPBACK]
            return next((verdict for verdict in verdicts if verdict.allowed), verdicts[0])
        if host.endswith(_PRIVATE_SUFFIXES) and all(item.network.is_loopback for item in self.allowances):
            return Verdict(False, "Names of private networks are not allowed.")
        if port in DENIED_PORTS and all(item.port != port for item in self.allowances):
            return Verdict(False, _PORT_REASON)
        return _ALLOWED

    def _is_own(self, host: str, port: int) -> bool:
        return any(own.matches(host, port) for own in self.own_hosts)

    def _is_synthetic(self, target: Target) -> bool:
        base = self.synthetic
        return (
            base is not None
            and (target.scheme, target.port) == (base.scheme, base.port)
            and (target.host == base.host or {target.host, base.host} <= _LOOPBACK_SPELLINGS)
            and _SYNTHETIC_PATH.fullmatch(target.path) is not None
        )


@lru_cache(maxsize=4)
def installation_policy(environment: Environment) -> EgressPolicy:
    """The policy of this installation: its allowances, its self-test routes, and its own names denied.

    An allowed host with a leading dot stands for a whole domain, which has other people's servers too: left out.
    """
    names = [host for host in environment.allowed_hosts if not host.startswith(".")]
    own = (*names, urlsplit(environment.public_url).netloc)
    return EgressPolicy.from_settings(environment.egress_allow, environment.synthetic_url, own)


def parse_allow(text: str) -> tuple[Allowance, ...]:
    """Read `10.1.2.0/24:8080,127.0.0.0/8,[::1]/128`; raise `EgressSettingError` with every faulty entry.

    IPv6 stands in brackets. Networks wider than an IPv4 /8 or an IPv6 /7 are refused, and so are host bits.
    """
    faults: list[str] = []
    allowances: list[Allowance] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        try:
            allowances.append(_parse_entry(entry))
        except ValueError as error:
            faults.append(f"EGRESS_ALLOW entry {entry!r}: {error}.")
    if faults:
        raise EgressSettingError(faults)
    return tuple(allowances)


_ENTRY = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(/[0-9]{1,3})?(?::([0-9]{1,5}))?")


def _parse_entry(entry: str) -> Allowance:
    fields = _ENTRY.fullmatch(entry)
    if fields is None:
        raise ValueError("expected network[:port], such as 10.1.2.0/24:8080 or [fd00:1::]/64")
    network = ip_network(f"{fields[1] or fields[2]}{fields[3] or ''}")
    port = int(fields[4]) if fields[4] else None
    if port is not None and not 1 <= port <= 65535:
        raise ValueError("a port is between 1 and 65535")
    if network.prefixlen < (8 if network.version == 4 else 7):
        raise ValueError("the network is too wide; name the networks that are really needed")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError("write a mapped address as IPv4")
    if any(network.version == denied.version and network.subnet_of(denied) for denied in METADATA):  # type: ignore[arg-type]
        raise ValueError("cloud metadata is never allowed")
    return Allowance(network, port)


def _read_base(url: str) -> Target:
    target = read_target(url)
    if target.path not in ("", "/") or "?" in url or "#" in url:
        raise TargetError("expected scheme, host and port only, without a path.")
    return target


def _read_own_host(text: str) -> list[OwnHost]:
    dot = "." if text.startswith(".") else ""
    authority = text.removeprefix(".")
    if not authority or authority == "*":
        return []
    target = read_target(f"http://{authority}/")
    if target.host in _LOCAL_NAMES or target.host.endswith(_LOCAL_SUFFIXES):
        return []
    if target.address is not None and target.address.is_loopback:
        return []
    named_port = re.search(r":[0-9]+\Z", authority) is not None
    host = target.host if target.address is None else str(plain_address(target.address))
    return [OwnHost(dot + host, target.port if named_port else None)]
