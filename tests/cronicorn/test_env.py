"""The settings from the environment: faults, secrets and the generated pages."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from cronicorn import env
from cronicorn.env import PROJECT_DIR, ConfigurationError, Environment, named_variables, read_environment, variables
from cronicorn.postgres.configuration import CONNECTION_BOUNDS, connection_parameters, database_from_url
from tests.support.certificates import make_certificate

GOOD = {"SECRET_KEY": "k" * 50, "ENCRYPTION_KEYS": Fernet.generate_key().decode()}


def faults_of(values: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read_environment(values)
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return caught.value.faults


def test_two_secrets_are_all_that_production_needs() -> None:
    environment = read_environment(GOOD)

    assert (environment.debug, environment.port, environment.database_url) == (False, 8000, "")
    assert environment.public_url == environment.synthetic_url == "http://127.0.0.1:8000"


def test_every_fault_is_reported_at_once() -> None:
    faults = faults_of(
        {
            "PORT": "http",
            "WEB_WORKERS": "0",
            "DEBUG": "perhaps",
            "SITE_URL": "https://cron.example.com/path",
            "DATABASE_URL": "mysql://db/x",
            "SIGN_UP": "everybody",
            "AI_PRICE_INPUT": "-1",
        }
    )

    names = [fault.partition(":")[0] for fault in faults]
    expected = ["DEBUG", "SITE_URL", "PORT", "WEB_WORKERS", "DATABASE_URL", "SIGN_UP", "AI_PRICE_INPUT"]
    expected += ["SECRET_KEY", "ENCRYPTION_KEYS"]
    assert sorted(names) == sorted(expected)


def test_faults_of_one_setting_hide_none_between_settings_nor_those_of_egress() -> None:
    faults = faults_of(
        {
            "PORT": "http",
            "ALLOWED_HOSTS": "*",
            "PLANNER_BACKEND": "openai",
            "EGRESS_ALLOW": "10.0.0.0/33",
            "SYNTHETIC_BASE_URL": "http://256.1.1.1",
        }
    )

    named = ("PORT", "ALLOWED_HOSTS", "SECRET_KEY", "ENCRYPTION_KEYS", "OPENAI_API_KEY")
    for name in (*named, "EGRESS_ALLOW", "SYNTHETIC_BASE_URL"):
        assert any(name in fault for fault in faults), name


def test_faults_between_settings_are_reported_at_once() -> None:
    faults = faults_of(
        {
            "ALLOWED_HOSTS": "*",
            "ENCRYPTION_KEYS": "short",
            "PLANNER_BACKEND": "openai",
            "GITHUB_CLIENT_ID": "x",
            "OIDC_CLIENT_ID": "x",
            "OIDC_CLIENT_SECRET": "y",
        }
    )

    names = [fault.partition(":")[0].partition(" ")[0] for fault in faults]
    assert names == [
        "SECRET_KEY",
        "ALLOWED_HOSTS",
        "ENCRYPTION_KEYS",
        "OPENAI_API_KEY",
        "GITHUB_CLIENT_ID",
        "OIDC_SERVER_URL",
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"SITE_URL": "https://cron.example.com:x"},
        {"SITE_URL": "https://cron.example.com:99999"},
        {"SITE_URL": "https://user:pw@cron.example.com"},
        {"SITE_URL": "https://cron.example.com#there"},
        {"SITE_URL": "https://[::1"},
        {"DATABASE_URL": "postgresql://db:port/cronicorn"},
        {"DATABASE_URL_DIRECT": "postgresql://db:99999/cronicorn"},
        {"EMAIL_URL": "mail.example.com"},
        {"EMAIL_URL": "smtp://mail.example.com:port"},
        {"EMAIL_URL": "smtp://[::1"},
        {"OIDC_SERVER_URL": "https://[::1"},
        {"OPENAI_BASE_URL": "localhost:11434"},
    ],
    ids=str,
)
def test_an_address_that_cannot_be_read_is_a_fault_of_its_setting(values: dict[str, str]) -> None:
    (fault,) = faults_of({**GOOD, **values})

    assert fault.startswith(f"{next(iter(values))}: ")


@pytest.mark.parametrize(
    "setting",
    ["EGRESS_ALLOW=0.0.0.0/0", "SSL_CERT_FILE=missing.pem", "SYNTHETIC_BASE_URL=http://256.1.1.1", "PORT=http"],
)
def test_no_process_starts_with_a_setting_that_cannot_be_used(setting: str, tmp_path: Path) -> None:
    name, _, value = setting.partition("=")
    environment = {**os.environ, **GOOD, "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "cronicorn.settings"}

    checked = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=PROJECT_DIR,
        env={**environment, name: value},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert checked.returncode == 1
    assert name in checked.stderr
    assert "Traceback" not in checked.stderr


@pytest.mark.parametrize(
    "values",
    [
        {"SECRET_KEY": "hunter2-hunter2"},
        {"ENCRYPTION_KEYS": "hunter2-hunter2"},
        {"DATABASE_URL": "mysql://cronicorn:hunter2@db/x"},
        {"DATABASE_URL_DIRECT": "hunter2"},
        {"DATABASE_URL": "postgresql://cronicorn:hunter2/x"},
        {"EMAIL_URL": "smtp://mail:hunter2"},
    ],
    ids=str,
)
def test_a_secret_is_never_repeated_in_a_fault(values: dict[str, str]) -> None:
    assert not any("hunter2" in fault for fault in faults_of({**GOOD, **values}))


@pytest.mark.parametrize("secret", ["", "k" * 49, env.DEBUG_SECRET_KEY, "insecure" + "k" * 50])
def test_production_refuses_a_weak_secret_key(secret: str) -> None:
    assert [fault.partition(":")[0] for fault in faults_of({**GOOD, "SECRET_KEY": secret})] == ["SECRET_KEY"]


def test_production_refuses_the_encryption_key_of_debug_mode() -> None:
    assert faults_of({**GOOD, "ENCRYPTION_KEYS": env.DEBUG_ENCRYPTION_KEY})


def test_debug_mode_brings_its_own_secrets() -> None:
    environment = read_environment({"DEBUG": "true", "ALLOWED_HOSTS": "*"})

    assert environment.secret_key == env.DEBUG_SECRET_KEY


@pytest.mark.parametrize("port", ["0", "65536", "-1", "8000.0", "8_000x", "\u0661\u0662x"])
def test_a_port_out_of_range_is_refused(port: str) -> None:
    assert faults_of({**GOOD, "PORT": port})


@pytest.mark.parametrize(("raw", "meaning"), [("on", True), ("TRUE", True), ("1", True), ("no", False), ("0", False)])
def test_words_for_true_and_false(raw: str, meaning: bool) -> None:
    assert read_environment({**GOOD, "BEHIND_PROXY": raw}).behind_proxy is meaning


def test_the_process_environment_outranks_dotenv_and_dotenv_the_generated_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env, "PROJECT_DIR", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secrets.env").write_text("SECRET_KEY=generated\nENCRYPTION_KEYS=generated\n")
    (tmp_path / ".env").write_text("DATA_DIR=data\nSECRET_KEY=dotenv\nPORT=1\nAI_MODEL= \nLOG_LEVEL=\n")

    found = variables({"PORT": "2", "SIGN_UP": "", "HOME": "/root"})

    assert {"PORT": "2", "SECRET_KEY": "dotenv", "ENCRYPTION_KEYS": "generated"}.items() <= found.items()
    assert not found.keys() & {"SIGN_UP", "AI_MODEL", "LOG_LEVEL"}


@pytest.mark.parametrize(("page", "text"), [(".env.example", env.example), ("docs/settings.md", env.reference)])
def test_the_generated_page_is_current(page: str, text: object) -> None:
    assert callable(text)
    assert (PROJECT_DIR / page).read_text(encoding="utf-8") == text(), f"write {page} anew: python -m cronicorn.env"


def test_every_setting_has_a_default_that_can_be_read_and_a_sentence() -> None:
    environment = read_environment({"DEBUG": "true"})

    for item in dataclasses.fields(Environment):
        assert hasattr(environment, item.name)
        assert item.metadata["help"].endswith("."), item.metadata["name"]


def test_prices_are_read_by_model() -> None:
    table = '{"large": [2.5, 10], "local": [0, 0]}'
    assert env.read_environment({**GOOD, "AI_PRICES": table}).ai_prices == (("large", 2.5, 10.0), ("local", 0.0, 0.0))
    assert env.read_environment(GOOD).ai_prices == ()


@pytest.mark.parametrize("raw", ["0.15", "{", '[["a", [1, 2]]]', "[" * 100_000, '"a"'])
def test_what_is_no_price_table_is_refused(raw: str) -> None:
    (fault,) = faults_of({**GOOD, "AI_PRICES": raw})
    assert 'write {"model": [input, output]}' in fault


def test_every_fault_of_the_price_table_is_named() -> None:
    table = '{"a": [1], "b": ["1", 2], "c": [1, -2], "d": [1, NaN], "e": [1, 2], "e": [1, 2], " ": [1, 2], "f": true}'
    (fault,) = faults_of({**GOOD, "AI_PRICES": table})
    for named in ("'a'", "'b'", "'c'", "'d'", "'e' stands twice", "no name", "'f'"):
        assert named in fault


@pytest.mark.parametrize(
    ("own", "dotenv", "named", "value"),
    [
        ({}, "", False, None),
        ({"EGRESS_ALLOW": ""}, "", True, None),
        ({"EGRESS_ALLOW": " "}, "", True, None),
        ({}, "EGRESS_ALLOW=\n", True, None),
        ({}, "EGRESS_ALLOW\n", True, None),
        ({"EGRESS_ALLOW": ""}, "EGRESS_ALLOW=10.0.0.0/8\n", True, None),
        ({"EGRESS_ALLOW": "none"}, "EGRESS_ALLOW=10.0.0.0/8\n", True, "none"),
        ({}, "EGRESS_ALLOW=10.0.0.0/8\n", True, "10.0.0.0/8"),
    ],
)
def test_an_empty_value_is_a_choice_and_differs_from_none_at_all(
    own: dict[str, str], dotenv: str, named: bool, value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env, "PROJECT_DIR", tmp_path)
    (tmp_path / ".env").write_text(dotenv)
    assert ("EGRESS_ALLOW" in named_variables(own)) is named
    assert variables(own).get("EGRESS_ALLOW") == value


@pytest.mark.parametrize("name", [item.metadata["name"] for item in dataclasses.fields(Environment)])
def test_an_empty_value_in_the_process_environment_puts_dotenv_aside(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env, "PROJECT_DIR", tmp_path)
    (tmp_path / ".env").write_text(f"{name}=something\n")
    assert variables({})[name] == "something"
    assert name not in variables({name: ""})


def test_an_empty_value_leaves_the_generated_secrets(tmp_path: Path) -> None:
    (tmp_path / "secrets.env").write_text("SECRET_KEY=generated\n")
    assert variables({"DATA_DIR": str(tmp_path), "SECRET_KEY": ""})["SECRET_KEY"] == "generated"


@pytest.mark.parametrize("raw", ["none", "None", "NONE", ""])
def test_no_private_network_can_be_said_with_a_word(raw: str) -> None:
    assert read_environment({**GOOD, "EGRESS_ALLOW": raw}).egress_allow == ""


KEY = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "is not there"),
        (b"", "not a PEM file"),
        (b"\n\n", "not a PEM file"),
        (b"certificates", "not a PEM file"),
        (b"\x30\x82\x01\x00\xff", "not a PEM file"),
        (KEY.encode(), "not a PEM file"),
        (b"-----BEGIN CERTIFICATE-----\nMIIC" + b"A" * 400 + b"\n-----END CERTIFICATE-----\n", "not a PEM file"),
        (b"-----BEGIN CERTIFICATE-----\nMIIC", "not a PEM file"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a PEM file"),
    ],
)
def test_a_certificate_file_that_cannot_be_used_is_refused(content: bytes | None, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_bytes(content)
    faults = faults_of({**GOOD, "SSL_CERT_FILE": str(file), "PORT": "http", "PLANNER_BACKEND": "openai"})
    named = {text.partition(":")[0]: text for text in faults}
    assert named.keys() == {"SSL_CERT_FILE", "PORT", "OPENAI_API_KEY"}, "all faults at once"
    assert fault in named["SSL_CERT_FILE"]


def test_a_folder_is_no_certificate_file(tmp_path: Path) -> None:
    (fault,) = faults_of({**GOOD, "SSL_CERT_FILE": str(tmp_path)})
    assert "is no file" in fault


def test_a_good_certificate_file_is_accepted(tmp_path: Path) -> None:
    file = str(make_certificate(tmp_path, "localhost").ca_file)
    assert read_environment({**GOOD, "SSL_CERT_FILE": file}).ssl_cert_file == file


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:hunter2@db/x?options=-c%20statement_timeout%3D0", "remove `options`"),
        ("postgresql://u:hunter2@db/x?sslmode=require&options=", "remove `options`"),
        ("postgresql://u:hunter2@db/x?replication=database", "remove `replication`"),
        ("postgresql://u:hunter2@db/x?pool_size=5&ssl_mode=require", "libpq knows no parameter pool_size, ssl_mode"),
        ("postgresql://u:hunter2@db/x?tcp_user_timeout=0&connect_timeout=never", "tcp_user_timeout is a number"),
        ("postgresql://u:hunter2@db/x?keepalives=0", "keepalives is a number above 0"),
        ("postgresql://u:hunter2@db/x?sslmode=verify", "sslmode is one of disable, allow"),
        ("postgresql://u:hunter2@db/x?target_session_attrs=read-only", "target_session_attrs is one of any"),
        ("postgresql://u:hunter2@h1:5432,h2:99999/x", "from 1 to 65535"),
        ("postgresql://u:hunter2@h1:1,h2:2,h3/x?port=1,2", "one for each"),
        ("postgresql://u:hunter2%zz@db/x", "%25"),
        ("postgresql://u:hunter2@[::1/x", "postgresql://user:password@host"),
    ],
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_URL_DIRECT"])
def test_database_url_that_would_lose_a_limit_or_a_parameter_is_refused(name: str, url: str, words: str) -> None:
    (fault,) = faults_of({**GOOD, name: url})

    assert words in fault
    assert "hunter2" not in fault


def test_every_fault_of_a_database_url_is_named() -> None:
    (fault,) = faults_of({**GOOD, "DATABASE_URL": "postgresql://db/x?options=a&replication=b&colour=red"})

    assert all(word in fault for word in ("options", "replication", "colour"))


def test_several_hosts_are_tried_for_the_one_that_accepts_writes() -> None:
    url = "postgresql://u:p%40ss@h1:5432,h2:5433/name?sslmode=require"
    read_environment({**GOOD, "DATABASE_URL": url})
    found = database_from_url(url, data_dir=Path("/data"), durable=True)

    assert (found["HOST"], found["PORT"], found["NAME"]) == ("h1,h2", "5432,5433", "name")
    assert (found["USER"], found["PASSWORD"]) == ("u", "p@ss")
    assert found["OPTIONS"]["target_session_attrs"] == "read-write"
    assert found["OPTIONS"]["sslmode"] == "require"


@pytest.mark.parametrize(("given", "attrs"), [("&target_session_attrs=any", "any"), ("", "read-write")])
def test_word_of_the_url_on_its_hosts_counts(given: str, attrs: str) -> None:
    found = connection_parameters(f"postgresql://h1,h2/x?connect_timeout=3{given}")

    assert found["target_session_attrs"] == attrs
    assert (found["connect_timeout"], found["tcp_user_timeout"]) == ("3", 10_000)


def test_every_connection_notices_a_host_that_vanished(tmp_path: Path) -> None:
    for url in ("", "postgresql://db/x"):
        options = database_from_url(url, data_dir=tmp_path, durable=True)["OPTIONS"]
        assert {"connect_timeout", "tcp_user_timeout", "keepalives_idle"} <= options.keys()
        assert options["options"] == ""  # PGOPTIONS cannot lift a limit
    assert CONNECTION_BOUNDS.items() <= connection_parameters("postgresql://db/x").items()
