"""Where calls may go, as tables."""

from __future__ import annotations

import socket
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronicorn.env import read_environment
from scheduling.egress.denied import DENIED_PORTS
from scheduling.egress.policy import EgressPolicy, EgressSettingError, installation_policy, parse_allow
from scheduling.egress.targets import MAX_URL_LENGTH, TargetError, read_target

PUBLIC = EgressPolicy()
LOOPBACK = EgressPolicy.from_settings("127.0.0.0/8,[::1]/128")


def words(text: str) -> list[str]:
    return text.split()


DENIED_ADDRESSES = words("""
    0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.255 169.254.0.1
    169.254.169.254 172.16.0.0 172.31.255.255 192.0.0.1 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1
    192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1
    255.255.255.255 168.63.129.16
    :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:100.64.0.1 64:ff9b::7f00:1 64:ff9b:1::1 100::1
    fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 2001::1 2001:1ff:ffff::1 2001:db8::1 2002:7f00:1::
    3fff::1 2620:4f:8000::1 1fff::1 4000::1
""")
ALLOWED_ADDRESSES = words("""
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 172.15.255.255
    172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 168.63.129.15
    ::ffff:8.8.8.8 2000::1 2001:200::1 2001:4860:4860::8888 2003::1 2606:4700::1111 3ffe::1 2620:4f:8001::1
""")


@pytest.mark.parametrize("ip", DENIED_ADDRESSES)
def test_special_addresses_are_denied(ip: str) -> None:
    assert not PUBLIC.judge_address(ip, 443).allowed


@pytest.mark.parametrize("ip", ALLOWED_ADDRESSES)
def test_public_addresses_are_allowed(ip: str) -> None:
    assert PUBLIC.judge_address(ip, 443).allowed


@pytest.mark.parametrize("ip", ["", "localhost", "1.2.3", "1.2.3.4.5", "0x7f000001", "[::1]", "::g"])
def test_text_that_is_no_address_is_denied(ip: str) -> None:
    assert not PUBLIC.judge_address(ip, 443).allowed


@pytest.mark.parametrize("port", [80, 443, 3000, 8000, 8080, 8443, 65535])
def test_ordinary_ports_are_allowed(port: int) -> None:
    assert PUBLIC.judge_address("8.8.8.8", port).allowed
    assert PUBLIC.judge_url(f"http://example.com:{port}/").allowed


@pytest.mark.parametrize("port", [1, 22, 25, 53, 2375, 2376, 3306, 5432, 6379, 6667, 9200, 10250, 10255, 11211, 27017])
def test_ports_of_databases_and_other_protocols_are_denied(port: int) -> None:
    assert not PUBLIC.judge_address("8.8.8.8", port).allowed
    assert not PUBLIC.judge_url(f"http://example.com:{port}/").allowed
    assert not PUBLIC.judge_url(f"http://8.8.8.8:{port}/").allowed


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_port_that_does_not_exist_is_denied(port: int) -> None:
    assert not PUBLIC.judge_address("8.8.8.8", port).allowed


@pytest.mark.parametrize(
    "host",
    words("""
    127.0.0.1 127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0X7F.0.0.1 0177.0.0.1 017700000001 0 0x0 127.0.0.1.
    169.254.169.254 2852039166 0xa9fea9fe 0251.0376.0251.0376 10.1 192.168.1
    [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:a9fe:a9fe] [fe80::1] [64:ff9b::7f00:1]
    localhost LOCALHOST localhost. sub.localhost localhost.localdomain ip6-localhost
    printer.local db.internal metadata.google.internal router.lan nas.home.arpa metadata.goog instance-data
    """),
)
def test_literals_and_special_names_are_refused_when_written(host: str) -> None:
    verdict = PUBLIC.judge_url(f"http://{host}/path")
    assert not verdict.allowed
    assert verdict.reason


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com./a?b=c#d",
        "HTTPS://EXAMPLE.COM:8443/A",
        "http://8.8.8.8/",
        "http://134744072/",
        "http://[2606:4700::1111]:8080/",
        "https://münchen.example/",
        "https://xn--mnchen-3ya.example/",
        "https://my_service.example.com/",
        "https://example.com:/",
        "http://localhost.example.com/",
        "http://1.2.3.4.example.com/",
        "http://example.com/@user:pw",
    ],
)
def test_ordinary_urls_are_allowed(url: str) -> None:
    verdict = PUBLIC.judge_url(url)
    assert (verdict.allowed, verdict.reason) == (True, "")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "http:/example.com",
        "http:example.com",
        "http://",
        "http:///path",
        "http://:80/",
        "http://./",
        "http://user@example.com/",
        "http://user:pw@example.com/",
        "http://@example.com/",
        "http://example.com@127.0.0.1/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:99999999/",
        "http://example.com:-1/",
        "http://example.com:80:80/",
        "http://example.com:8o/",
        "http://example.com:\u0661/",
        "http://exa mple.com/",
        "http://example.com/a b",
        " http://example.com/",
        "http://example.com/\n",
        "http://example.com/\r\nX: y",
        "http://example.com/\x00",
        "http://example.com\\@127.0.0.1/",
        "http://127%2e0.0.1/",
        "http://%6c%6fcalhost/",
        "http://example..com/",
        "http://-example.com/",
        "http://exam!ple.com/",
        "http://a\u200db.com/",
        "http://\u0301a.com/",
        "http://a\u05d0.com/",
        "http://ex\uff056dmple.com/",
        "http://example.com\uff0fpath/",
        "http://" + "\u00fc" * 8_000,
        "http://1.2.3.256/",
        "http://1.2.3.4.5/",
        "http://08.0.0.1/",
        "http://1.2.0xg.4/",
        "http://4294967296/",
        "http://9_3.184.216.34/",
        "http://a.0x7f/",
        "http://[::1/",
        "http://::1/",
        "http://[::1]x/",
        "http://[fe80::1%25eth0]/",
        "http://[1.2.3.4]/",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 127 + "com/",
        "http://example.com/" + "a" * MAX_URL_LENGTH,
    ],
)
def test_malformed_urls_are_refused_with_a_reason(url: str) -> None:
    verdict = LOOPBACK.judge_url(url)
    assert not verdict.allowed
    assert verdict.reason.endswith(".")


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://", "http://[", "http://0x"]))
def test_no_text_makes_the_judge_raise(text: str, start: str) -> None:
    verdict = PUBLIC.judge_url(start + text)
    assert verdict.allowed is (verdict.reason == "")


@given(
    st.integers(0, 2**32 - 1), st.sampled_from(["{0}", "0x{0:x}", "0{0:o}", "{1}.{2}", "0x{1:x}.{2}", "{1}.0{3:o}.{4}"])
)
def test_every_spelling_of_an_ipv4_address_is_read_as_the_resolver_reads_it(value: int, spelling: str) -> None:
    parts = (value, value >> 24, value & 0xFFFFFF, (value >> 16) & 0xFF, value & 0xFFFF)
    host = spelling.format(*parts)
    assert read_target(f"http://{host}/").address is not None
    assert str(read_target(f"http://{host}/").address) == socket.inet_ntoa(socket.inet_aton(host))


def test_target_is_normalised() -> None:
    target = read_target("HTTP://Exämple.COM.:8080/a?b")
    assert (target.scheme, target.host, target.port, target.path) == ("http", "xn--exmple-cua.com", 8080, "/a")
    with pytest.raises(TargetError):
        read_target("nothing")


@pytest.mark.parametrize(
    ("host", "ascii_name"),
    [
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("B\u00dcCHER.example", "xn--bcher-kva.example"),
        ("\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.com", "example.com"),
        ("STRA\u1e9eE.de", "xn--strae-oqa.de"),
        ("stra\u00dfe.de", "xn--strae-oqa.de"),
        ("\u03c3\u03c2.gr", "xn--3xab.gr"),
        ("exa\u00admple.com", "example.com"),
        ("\u200bexample.com", "example.com"),
        ("\ufb01le.com", "file.com"),
        ("\u4f8b\u3048\u3002\u30c6\u30b9\u30c8", "xn--r8jz45g.xn--zckzah"),
        ("\u2603.net", "xn--n3h.net"),
        ("localhost\u3002", "localhost"),
    ],
)
def test_international_names_are_mapped_as_browsers_map_them(host: str, ascii_name: str) -> None:
    assert read_target(f"http://{host}/").host == ascii_name


@pytest.mark.parametrize(
    "host",
    [
        "\uff11\uff12\uff17.0.0.1",
        "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
        "127\u30020\u30020\u30021",
        "\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54",
        "\uff10\uff587f.1",
    ],
)
def test_mapped_names_are_judged_as_what_is_dialled(host: str) -> None:
    assert not PUBLIC.judge_url(f"http://{host}/").allowed
    assert LOOPBACK.judge_url(f"http://{host}/").allowed


@pytest.mark.parametrize(
    ("addresses", "chosen"),
    [
        (["93.184.216.34", "93.184.216.35"], ["93.184.216.34", "93.184.216.35"]),
        (["93.184.216.34", "10.0.0.1"], []),
        (["10.0.0.1", "93.184.216.34"], []),
        (["2606:4700::1111", "fd00::1"], []),
        (["93.184.216.34", "::ffff:10.0.0.1"], []),
        (["93.184.216.34", "169.254.169.254"], []),
        (["93.184.216.34", "127.0.0.1"], ["93.184.216.34", "127.0.0.1"]),
        (["::2", "127.0.0.1", "10.0.0.1"], ["127.0.0.1"]),
        (["10.0.0.1", "10.0.0.2"], []),
        (["not an address", "93.184.216.34"], []),
    ],
)
def test_name_with_a_denied_address_beside_a_public_one_is_refused(addresses: list[str], chosen: list[str]) -> None:
    policy = EgressPolicy.from_settings("127.0.0.0/8")
    assert policy.choose_addresses(addresses, 80) == chosen


# What the operator opens


def test_allowed_loopback_passes_when_written_and_when_dialled() -> None:
    assert LOOPBACK.judge_url("http://localhost:8000/x").allowed
    assert LOOPBACK.judge_url("http://127.0.0.1:8000/x").allowed
    assert LOOPBACK.judge_url("http://[::1]:8000/x").allowed
    assert LOOPBACK.judge_address("127.0.0.1", 8000).allowed
    assert LOOPBACK.judge_address("::1", 8000).allowed
    assert not LOOPBACK.judge_address("10.0.0.1", 8000).allowed


def test_localhost_passes_where_only_one_family_is_open() -> None:
    assert EgressPolicy.from_settings("[::1]/128").judge_url("http://localhost/").allowed
    assert not EgressPolicy.from_settings("127.0.0.2/32").judge_url("http://localhost/").allowed


def test_allowance_without_a_port_keeps_denied_ports_closed() -> None:
    assert not LOOPBACK.judge_address("127.0.0.1", 5432).allowed
    assert not LOOPBACK.judge_url("http://localhost:6379/").allowed


def test_allowance_with_a_port_opens_that_port_only() -> None:
    policy = EgressPolicy.from_settings("10.1.2.0/24:5432,8.8.8.8:25")
    assert policy.judge_address("10.1.2.3", 5432).allowed
    assert policy.judge_address("::ffff:10.1.2.3", 5432).allowed
    assert not policy.judge_address("10.1.2.3", 80).allowed
    assert not policy.judge_address("10.1.3.3", 5432).allowed
    assert policy.judge_address("8.8.8.8", 25).allowed
    assert policy.judge_address("8.8.8.8", 80).allowed
    assert policy.judge_url("http://db.example.com:5432/").allowed


def test_private_names_pass_once_a_private_network_is_open() -> None:
    policy = EgressPolicy.from_settings("10.0.0.0/8")
    assert policy.judge_url("http://app.corp.internal/").allowed
    assert not policy.judge_url("http://metadata.google.internal/").allowed
    assert not LOOPBACK.judge_url("http://app.corp.internal/").allowed


@pytest.mark.parametrize(
    ("allow", "ip"),
    [
        ("169.254.0.0/16", "169.254.169.254"),
        ("169.254.0.0/16:80", "169.254.170.2"),
        ("100.64.0.0/10", "100.100.100.200"),
        ("168.0.0.0/8", "168.63.129.16"),
        ("[fd00::]/8", "fd00:ec2::254"),
        ("[64:ff9b::]/96", "64:ff9b::169.254.169.254"),
        ("[2002::]/16", "2002:a9fe:a9fe::"),
        ("[::]/96", "::169.254.169.254"),
        ("169.254.0.0/16", "::ffff:169.254.169.254"),
    ],
)
def test_cloud_metadata_stays_denied_whatever_is_allowed(allow: str, ip: str) -> None:
    assert not EgressPolicy.from_settings(allow).judge_address(ip, 80).allowed


def test_allow_list_is_read_and_shown() -> None:
    allowances = parse_allow(" 10.1.2.0/24:8080, 127.0.0.0/8 ,[::1]/128,[fd00:1::]/64:443,9.9.9.9,")
    assert [(item.network, item.port) for item in allowances] == [
        (ip_network("10.1.2.0/24"), 8080),
        (ip_network("127.0.0.0/8"), None),
        (ip_network("::1/128"), None),
        (ip_network("fd00:1::/64"), 443),
        (ip_network("9.9.9.9/32"), None),
    ]
    assert [str(item) for item in allowances] == [
        "10.1.2.0/24:8080",
        "127.0.0.0/8",
        "[::1]/128",
        "[fd00:1::]/64:443",
        "9.9.9.9/32",
    ]
    assert parse_allow("") == ()


@pytest.mark.parametrize(
    "entry",
    words("""
    0.0.0.0/0 [::]/0 0.0.0.0/1 128.0.0.0/7 [2000::]/3 10.1.2.3/8 10.0.0.0/33 10.0.0.0/8:0 10.0.0.0/8:65536 ::1/128
    localhost example.com:80 10.0.0/24 [::ffff:10.0.0.0]/104 169.254.169.254/32 169.254.169.254:80 [fd00:ec2::254]
    10.0.0.1:http *
    """),
)
def test_dangerous_or_malformed_allowances_are_refused(entry: str) -> None:
    with pytest.raises(EgressSettingError) as caught:
        parse_allow(f"127.0.0.1/32,{entry}")
    assert len(caught.value.faults) == 1
    assert entry in caught.value.faults[0]


def test_all_faults_of_the_settings_are_reported_at_once() -> None:
    with pytest.raises(ValueError) as caught:
        EgressPolicy.from_settings("0.0.0.0/0,nonsense", "ftp://x", ["good.example", "bad host"])
    assert isinstance(caught.value, EgressSettingError)
    assert len(caught.value.faults) == 4


# The self-test and this installation itself


SELF = EgressPolicy.from_settings("", "http://127.0.0.1:8000", ["app.example.com", "127.0.0.1", "localhost:8000"])


@pytest.mark.parametrize("path", ["/api/synthetic/health", "/api/synthetic/echo?x=1", "/api/synthetic/slow"])
def test_synthetic_base_is_open_to_synthetic_calls(path: str) -> None:
    assert SELF.judge_url(f"http://127.0.0.1:8000{path}", synthetic=True).allowed
    assert SELF.is_synthetic_target(f"http://127.0.0.1:8000{path}")
    assert not SELF.judge_url(f"http://127.0.0.1:8000{path}").allowed


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:8000/api/synthetic/health",
        "http://127.0.0.1:8001/api/synthetic/health",
        "http://127.0.0.1/api/synthetic/health",
        "http://127.0.0.2:8000/api/synthetic/health",
        "http://127.0.0.1:8000/api/jobs",
        "http://127.0.0.1:8000/api/synthetic",
        "http://127.0.0.1:8000/api/synthetic/../jobs",
        "http://127.0.0.1:8000/api/synthetic/%2e%2e/jobs",
        "http://127.0.0.1:8000/api/synthetic/..%2fjobs",
        "http://127.0.0.1:8000//api/synthetic/health",
        "http://127.0.0.1:8000/x/api/synthetic/health",
    ],
)
def test_synthetic_calls_reach_nothing_else(url: str) -> None:
    assert not SELF.judge_url(url, synthetic=True).allowed
    assert not SELF.is_synthetic_target(url)


def test_synthetic_exemption_holds_for_the_call_and_never_for_metadata() -> None:
    assert SELF.judge_address("172.18.0.3", 8000, synthetic_target=True).allowed
    assert not SELF.judge_address("172.18.0.3", 8000).allowed
    assert not SELF.judge_address("169.254.169.254", 80, synthetic_target=True).allowed
    assert not SELF.is_synthetic_target("nonsense")


@pytest.mark.parametrize("base", ["http://web:8000/api", "http://web:8000/?a", "web:8000", "http://u:p@web/"])
def test_synthetic_base_is_an_origin(base: str) -> None:
    with pytest.raises(EgressSettingError):
        EgressPolicy.from_settings("", base)


def test_own_hosts_are_refused_by_name_and_by_address() -> None:
    policy = EgressPolicy.from_settings(
        "10.0.0.0/8", None, ["App.example.com", ".corp.example", "8.8.4.4", "[2606::1]:8443", "*"]
    )
    assert not policy.judge_url("https://app.example.com/").allowed
    assert not policy.judge_url("https://app.example.com.:8443/").allowed
    assert not policy.judge_url("https://corp.example/").allowed
    assert not policy.judge_url("https://a.corp.example/").allowed
    assert policy.judge_url("https://notcorp.example/").allowed
    assert policy.judge_url("https://other.example.com/").allowed
    assert not policy.judge_address("8.8.4.4", 443).allowed
    assert not policy.judge_address("::ffff:8.8.4.4", 443).allowed
    assert not policy.judge_address("2606::1", 8443).allowed
    assert policy.judge_address("2606::1", 443).allowed


def test_loopback_is_governed_by_the_allow_list_and_not_by_own_hosts() -> None:
    policy = EgressPolicy.from_settings("127.0.0.0/8", None, ["localhost", "127.0.0.1:8000", "[::1]"])
    assert policy.own_hosts == ()
    assert policy.judge_url("http://localhost:8000/").allowed


def test_denied_ports_leave_the_web_open() -> None:
    assert not DENIED_PORTS & {80, 443, 3000, 4000, 5000, 8000, 8080, 8443, 8888, 9000}


def test_installation_denies_its_own_names_but_not_its_whole_domain() -> None:
    environment = read_environment(
        {
            "DEBUG": "true",
            "ALLOWED_HOSTS": "cron.example.com,.example.com,localhost",
            "SITE_URL": "https://c.example.com",
        }
    )
    policy = installation_policy(environment)
    assert not policy.judge_url("https://cron.example.com/").allowed
    assert not policy.judge_url("https://c.example.com/").allowed
    assert policy.judge_url("https://api.example.com/").allowed
