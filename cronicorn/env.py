"""Every setting that comes from the environment: name, type, default and meaning, declared once.

`read_environment` reads the process environment over `.env` over `.data/secrets.env`, and reports all faults at
once. `python -m cronicorn.env example` prints `.env.example`; `... docs` prints `docs/settings.md`.
"""

import base64
import dataclasses
import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from dotenv import dotenv_values

from cronicorn.database_url import libpq_parameters

PROJECT_DIR = Path(__file__).resolve().parent.parent
DEBUG_SECRET_KEY = "insecure-key-for-debugging-only"
_PEM_BEGIN = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----")
_PEM_BLOCK = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----([^-]*)-----END (?:TRUSTED )?CERTIFICATE-----")
DEBUG_ENCRYPTION_KEY = "aW5zZWN1cmUta2V5LWZvci1kZWJ1Z2dpbmctb25seSE="


# What belongs to a higher layer: functions of an Environment that raise ValueError, with `faults` if several. By name,
# because this module stands below them.
JUDGES = (("scheduling.egress.policy", "installation_policy"),)


class ConfigurationError(Exception):
    """The environment cannot be used; the message lists every fault with its remedy."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("The configuration has faults:\n" + "\n".join(f"  - {fault}" for fault in faults))


def _text(raw: str) -> str:
    return raw


def _words(raw: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in raw.split(",") if word.strip())


def _boolean(raw: str) -> bool:
    meanings = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    try:
        return meanings[raw.lower()]
    except KeyError:
        raise ValueError("write true or false") from None


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        try:
            number = int(raw)
        except ValueError:
            raise ValueError("write a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"write a number from {low} to {high}")
        return number

    return parse


def _decimal(raw: str) -> float:
    try:
        number = float(raw)
    except ValueError:
        raise ValueError("write a number") from None
    if not 0 <= number < 1_000_000:
        raise ValueError("write a number from 0 to 1000000")
    return number


def _prices(raw: str) -> tuple[tuple[str, float, float], ...]:
    """A price table as model, input, output; every fault of it is named."""
    form = 'write {"model": [input, output]}'
    try:
        table = json.loads(raw or "{}", object_pairs_hook=list)
    except (ValueError, RecursionError):
        raise ValueError(f"{form} as JSON") from None
    if not isinstance(table, list) or not all(isinstance(entry, tuple) for entry in table):
        raise ValueError(form)
    prices: dict[str, tuple[str, float, float]] = {}
    faults = []
    for model, pair in table:
        if not model.strip():
            faults.append("a model has no name")
        elif model in prices:
            faults.append(f"{model!r} stands twice")
        elif not isinstance(pair, list) or len(pair) != 2 or not all(_is_price(number) for number in pair):
            faults.append(f"{model!r} needs two numbers from 0 to 1000000, input and output")
        else:
            prices[model] = (model, float(pair[0]), float(pair[1]))
    if faults:
        raise ValueError("; ".join(faults))
    return tuple(prices.values())


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1_000_000


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw not in words:
            raise ValueError(f"write one of {', '.join(words)}")
        return raw

    return parse


def _path(raw: str) -> Path:
    path = Path(raw).expanduser()
    return path if path.is_absolute() else PROJECT_DIR / path


def _is_url(raw: str, *schemes: str) -> bool:
    """Whether it has one of the schemes, and a host and a port that can be read. Tells nothing else of a secret."""
    try:
        parts = urlsplit(raw)
        return parts.scheme in schemes and parts.port != 0
    except ValueError:
        return False


def _origin(raw: str) -> str:
    if raw:
        parts = urlsplit(raw) if _is_url(raw, "http", "https") else None
        if parts is None or not parts.hostname or "@" in parts.netloc or parts.path.strip("/") or set("?#") & set(raw):
            raise ValueError("write scheme, host and port only, as in https://cron.example.com")
    return raw.rstrip("/")


def _web_url(raw: str) -> str:
    if raw and not (_is_url(raw, "http", "https") and urlsplit(raw).hostname):
        raise ValueError("write an address such as https://host/path")
    return raw


def _postgres_url(raw: str) -> str:
    if raw:
        libpq_parameters(raw)
    return raw


def _mail_url(raw: str) -> str:
    if raw and not (_is_url(raw, "smtp", "smtps") and urlsplit(raw).hostname):
        raise ValueError("write smtp://user:password@host:587 or smtps://user:password@host:465")
    return raw


def _networks(raw: str) -> str:
    """The networks as written, for `scheduling.egress` to read; `none` is the same as an empty value."""
    return "" if raw.lower() == "none" else raw


def _certificates(raw: str) -> str:
    """The file as an absolute path, after a look into it: a call that trusts nobody would fail much later."""
    if not raw:
        return raw
    path = _path(raw)
    if not path.is_file():
        raise ValueError(f"{path} is not there" if not path.exists() else f"{path} is no file")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    blocks = _PEM_BLOCK.findall(text)
    if not blocks or len(blocks) != len(_PEM_BEGIN.findall(text)) or not all(_is_der(block) for block in blocks):
        raise ValueError(f"{path} is not a PEM file of certificates")
    return str(path)


def _is_der(block: bytes) -> bool:
    """Whether the base64 of a PEM block holds a whole DER sequence, as a certificate is one."""
    try:
        der = base64.b64decode(b"".join(block.split()), validate=True)
    except ValueError:
        return False
    if len(der) < 100 or der[0] != 0x30:
        return False
    size = der[1] & 0x7F if der[1] & 0x80 else 0
    length = int.from_bytes(der[2 : 2 + size], "big") if size else der[1]
    return 2 + size + length <= len(der)


def setting(
    name: str, default: str, parse: Callable[[str], Any], help: str, *, group: str, secret: bool = False
) -> Any:
    """Declares one setting: `default` is what an unset or empty variable means, as text."""
    return field(
        metadata={"name": name, "default": default, "parse": parse, "help": help, "group": group, "secret": secret}
    )


@dataclass(frozen=True, slots=True)
class Environment:
    """The parsed environment."""

    # fmt: off
    debug: bool = setting("DEBUG", "false", _boolean, "Development mode: detailed errors and insecure default secrets.", group="Core")
    secret_key: str = setting("SECRET_KEY", "", _text, "Signs sessions and tokens; at least 50 random characters.", group="Core", secret=True)
    encryption_keys: tuple[str, ...] = setting("ENCRYPTION_KEYS", "", _words, "Fernet keys that encrypt header values and signing keys, newest first, comma-separated.", group="Core", secret=True)
    allowed_hosts: tuple[str, ...] = setting("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]", _words, "Host names that the web server answers to.", group="Core")
    site_url: str = setting("SITE_URL", "", _origin, "The public origin, used in links and mail; empty: http://127.0.0.1:PORT.", group="Core")
    port: int = setting("PORT", "8000", _integer(1, 65535), "The port of the web server.", group="Core")
    bind_address: str = setting("BIND_ADDRESS", "127.0.0.1", _text, "The address that the web server listens on; 0.0.0.0 in a container.", group="Core")
    web_workers: int = setting("WEB_WORKERS", "2", _integer(1, 64), "Processes of the web server.", group="Core")
    behind_proxy: bool = setting("BEHIND_PROXY", "false", _boolean, "Trust X-Forwarded-Proto from a reverse proxy that ends TLS and always sets it.", group="Core")
    log_format: str = setting("LOG_FORMAT", "text", _one_of("text", "json"), "Shape of log lines.", group="Core")
    log_level: str = setting("LOG_LEVEL", "INFO", _one_of("DEBUG", "INFO", "WARNING", "ERROR"), "Lowest level that is logged.", group="Core")

    database_url: str = setting("DATABASE_URL", "", _postgres_url, "postgresql://user:password@host:5432/name, several hosts as h1:5432,h2:5432; empty: the embedded PostgreSQL under DATA_DIR.", group="Database", secret=True)
    database_url_direct: str = setting("DATABASE_URL_DIRECT", "", _postgres_url, "A connection past a pooler, for LISTEN and migrations; empty: DATABASE_URL.", group="Database", secret=True)
    data_dir: Path = setting("DATA_DIR", ".data", _path, "Folder of the embedded PostgreSQL and of the generated secrets.", group="Database")
    database_durable: bool = setting("DATABASE_DURABLE", "true", _boolean, "Whether the embedded PostgreSQL waits for the disk; false only for tests.", group="Database")

    sign_up: str = setting("SIGN_UP", "closed", _one_of("closed", "open"), "Who may create an account: nobody, or everybody with a verified address.", group="Accounts")
    github_client_id: str = setting("GITHUB_CLIENT_ID", "", _text, "OAuth application for sign-in with GitHub.", group="Accounts")
    github_client_secret: str = setting("GITHUB_CLIENT_SECRET", "", _text, "Its secret.", group="Accounts", secret=True)
    google_client_id: str = setting("GOOGLE_CLIENT_ID", "", _text, "OAuth client for sign-in with Google.", group="Accounts")
    google_client_secret: str = setting("GOOGLE_CLIENT_SECRET", "", _text, "Its secret.", group="Accounts", secret=True)
    oidc_server_url: str = setting("OIDC_SERVER_URL", "", _web_url, "Issuer of any OpenID Connect provider.", group="Accounts")
    oidc_name: str = setting("OIDC_NAME", "Single sign-on", _text, "Name on its sign-in button.", group="Accounts")
    oidc_client_id: str = setting("OIDC_CLIENT_ID", "", _text, "OpenID Connect client.", group="Accounts")
    oidc_client_secret: str = setting("OIDC_CLIENT_SECRET", "", _text, "Its secret.", group="Accounts", secret=True)
    email_url: str = setting("EMAIL_URL", "", _mail_url, "smtp://user:password@host:587 (STARTTLS) or smtps://...:465; empty: mail is written to the log.", group="Accounts", secret=True)
    email_from: str = setting("EMAIL_FROM", "cronicorn@localhost", _text, "Sender of mail.", group="Accounts")

    egress_allow: str = setting("EGRESS_ALLOW", "", _networks, "Private networks that endpoints may call, as 10.1.2.0/24:8080,127.0.0.1/32; none or empty: no private network. Where it is not set at all, scripts/up opens loopback.", group="Calls")
    ssl_cert_file: str = setting("SSL_CERT_FILE", "", _certificates, "PEM file of all certificate authorities to trust, in place of the system's.", group="Calls")
    synthetic_base_url: str = setting("SYNTHETIC_BASE_URL", "", _origin, "Where the self-test routes are reached by synthetic jobs; empty: http://127.0.0.1:PORT.", group="Calls")
    scheduler_concurrency: int = setting("SCHEDULER_CONCURRENCY", "500", _integer(1, 10_000), "Calls in flight per scheduler process.", group="Calls")
    scheduler_per_host: int = setting("SCHEDULER_PER_HOST", "20", _integer(1, 10_000), "Calls in flight per destination host and scheduler process.", group="Calls")
    scheduler_batch_size: int = setting("SCHEDULER_BATCH_SIZE", "100", _integer(1, 1000), "Endpoints claimed by one statement.", group="Calls")
    scheduler_poll_interval_ms: int = setting("SCHEDULER_POLL_INTERVAL_MS", "5000", _integer(10, 60_000), "Longest sleep of an idle scheduler, in milliseconds.", group="Calls")
    lease_seconds: int = setting("LEASE_SECONDS", "60", _integer(5, 600), "How long a claim outlives a worker that stopped renewing it.", group="Calls")

    hint_floor_ms: int = setting("HINT_FLOOR_MS", "10000", _integer(1000, 3_600_000), "Fastest interval that the planner may set where an endpoint has no minimum, in milliseconds.", group="Planner")
    planner_backend: str = setting("PLANNER_BACKEND", "auto", _one_of("auto", "openai", "rules"), "auto: the model where OPENAI_API_KEY is set, and heuristics; openai: no heuristics; rules: no model.", group="Planner")
    planner_rules_interval_ms: int = setting("PLANNER_RULES_INTERVAL_MS", "2000", _integer(100, 3_600_000), "Pause between passes of the owner's rules, in milliseconds.", group="Planner")
    ai_analysis_interval_ms: int = setting("AI_ANALYSIS_INTERVAL_MS", "300000", _integer(1000, 86_400_000), "Pause between passes of the model, in milliseconds.", group="Planner")
    planner_hold_ms: int = setting("PLANNER_HOLD_MS", "3600000", _integer(0, 604_800_000), "How long the planner keeps its hands off after a person's word, in milliseconds.", group="Planner")
    planner_concurrency: int = setting("PLANNER_CONCURRENCY", "8", _integer(1, 256), "Analyses at the same time per planner process.", group="Planner")
    openai_api_key: str = setting("OPENAI_API_KEY", "", _text, "Key of an OpenAI-compatible service; empty: no model pass.", group="Planner", secret=True)
    openai_base_url: str = setting("OPENAI_BASE_URL", "", _web_url, "Its base URL; empty: the client's default.", group="Planner")
    ai_model: str = setting("AI_MODEL", "gpt-4o-mini", _text, "Model name.", group="Planner")
    ai_price_input: float = setting("AI_PRICE_INPUT", "0.15", _decimal, "Price of a million prompt tokens, in US dollars, of models that AI_PRICES does not name; for the cost column only.", group="Planner")
    ai_price_output: float = setting("AI_PRICE_OUTPUT", "0.60", _decimal, "Price of a million completion tokens of such models.", group="Planner")
    ai_prices: tuple[tuple[str, float, float], ...] = setting("AI_PRICES", "", _prices, 'Prices by model, in US dollars per million tokens: {"model": [input, output]}.', group="Planner")
    ai_session_token_limit: int = setting("AI_SESSION_TOKEN_LIMIT", "20000", _integer(4000, 10_000_000), "Tokens after which one analysis is cut.", group="Planner")
    ai_owner_daily_token_limit: int = setting("AI_OWNER_DAILY_TOKEN_LIMIT", "1000000", _integer(0, 10**12), "Tokens per owner and UTC day; above it only rules decide.", group="Planner")
    ai_daily_token_limit: int = setting("AI_DAILY_TOKEN_LIMIT", "20000000", _integer(0, 10**12), "Tokens per UTC day for the whole service.", group="Planner")
    # fmt: on

    @property
    def public_url(self) -> str:
        """The origin that people use, without a trailing slash."""
        return self.site_url or f"http://127.0.0.1:{self.port}"

    @property
    def synthetic_url(self) -> str:
        """The origin under which synthetic jobs reach the self-test routes."""
        return self.synthetic_base_url or f"http://127.0.0.1:{self.port}"


def data_dir(environ: Mapping[str, str]) -> Path:
    """The folder that DATA_DIR names, in the given environment or in `.env`."""
    return _path(named_variables(environ).get("DATA_DIR") or ".data")


def named_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a person set, in the process environment or else in `.env`; empty values too, since they are a choice."""
    own = os.environ if environ is None else environ
    merged = {**dotenv_values(PROJECT_DIR / ".env"), **own}
    return {key: (value or "").strip() for key, value in merged.items()}


def variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The process environment over `.env` over the generated secrets, empty values dropped.

    An empty value in the process environment also puts aside that of `.env`, but no generated secret.
    """
    named = named_variables(environ)
    secrets = {key: (value or "").strip() for key, value in dotenv_values(data_dir(named) / "secrets.env").items()}
    merged = {**secrets, **{key: value for key, value in named.items() if value}}
    return {key: value for key, value in merged.items() if value}


def read_environment(values: Mapping[str, str]) -> Environment:
    """Parses the settings. Raises ConfigurationError with every fault at once.

    In place of a value that cannot be read its default stands, so that the others are still judged together.
    """
    faults: list[str] = []
    parsed: dict[str, Any] = {}
    for item in dataclasses.fields(Environment):
        name, raw = item.metadata["name"], values.get(item.metadata["name"], item.metadata["default"])
        try:
            parsed[item.name] = item.metadata["parse"](raw)
        except ValueError as fault:
            shown = "its value" if item.metadata["secret"] else repr(raw)
            faults.append(f"{name}: {shown} is not usable: {fault}.")
            parsed[item.name] = item.metadata["parse"](item.metadata["default"])
    faults += _joint_faults(parsed)
    environment = Environment(**parsed)
    faults += _faults_by_judges(environment)
    if faults:
        raise ConfigurationError(faults)
    return environment


def _faults_by_judges(environment: Environment) -> list[str]:
    """Faults that the JUDGES find."""
    faults: list[str] = []
    for module, function in JUDGES:
        try:
            getattr(importlib.import_module(module), function)(environment)
        except ValueError as error:
            faults += getattr(error, "faults", [str(error)])
    return faults


def _joint_faults(parsed: dict[str, Any]) -> list[str]:
    """Faults that only several settings together show; fills in the secrets of debug mode."""
    faults = []
    if parsed["debug"]:
        parsed["secret_key"] = parsed["secret_key"] or DEBUG_SECRET_KEY
        parsed["encryption_keys"] = parsed["encryption_keys"] or (DEBUG_ENCRYPTION_KEY,)
    else:
        if len(parsed["secret_key"]) < 50 or parsed["secret_key"].startswith("insecure"):
            faults.append("SECRET_KEY: set at least 50 random characters (scripts/up makes one), or DEBUG=true.")
        if not parsed["encryption_keys"] or DEBUG_ENCRYPTION_KEY in parsed["encryption_keys"]:
            faults.append("ENCRYPTION_KEYS: set a Fernet key (scripts/up makes one), or DEBUG=true.")
        if "*" in parsed["allowed_hosts"]:
            faults.append("ALLOWED_HOSTS: name the hosts; '*' is accepted with DEBUG=true only.")
    for number, key in enumerate(parsed["encryption_keys"], start=1):
        try:
            Fernet(key)
        except ValueError:
            faults.append(f"ENCRYPTION_KEYS: key {number} is not 32 bytes in URL-safe base64.")
    if parsed["planner_backend"] == "openai" and not parsed["openai_api_key"]:
        faults.append("OPENAI_API_KEY: required by PLANNER_BACKEND=openai.")
    for provider in ("github", "google", "oidc"):
        if bool(parsed[f"{provider}_client_id"]) != bool(parsed[f"{provider}_client_secret"]):
            faults.append(f"{provider.upper()}_CLIENT_ID and {provider.upper()}_CLIENT_SECRET: set both or neither.")
    if parsed["oidc_client_id"] and not parsed["oidc_server_url"]:
        faults.append("OIDC_SERVER_URL: required by OIDC_CLIENT_ID.")
    return faults


def example() -> str:
    """The text of `.env.example`: every setting with its default, commented out."""
    lines = ["# Every setting with its default. Copy to .env and uncomment what you change."]
    group = None
    for item in dataclasses.fields(Environment):
        if item.metadata["group"] != group:
            group = item.metadata["group"]
            lines += ["", f"# {group}"]
        lines += [f"# {item.metadata['help']}", f"#{item.metadata['name']}={item.metadata['default']}"]
    return "\n".join(lines) + "\n"


def reference() -> str:
    """The text of `docs/settings.md`."""
    lines = [
        "# Settings",
        "",
        "Read from the process environment, then `.env`, then `.data/secrets.env`. An empty value means the default; in the",
        "process environment it also puts the value of `.env` aside, as in `OPENAI_API_KEY= scripts/up`.",
        "All faults are reported at once, at start. This page is generated: `python -m cronicorn.env docs`.",
    ]
    group = None
    for item in dataclasses.fields(Environment):
        if item.metadata["group"] != group:
            group = item.metadata["group"]
            lines += ["", f"## {group}", "", "| name | default | meaning |", "|---|---|---|"]
        default = f"`{item.metadata['default']}`" if item.metadata["default"] else "empty"
        lines.append(f"| `{item.metadata['name']}` | {default} | {item.metadata['help']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write({"example": example, "docs": reference}[sys.argv[1]]())
