"""What operators rely on: the container files, the pages of the documentation, the import contracts."""

import re
import tomllib
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from cronicorn.env import PROJECT_DIR
from cronicorn.logging import Event

COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT_DIR / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (PROJECT_DIR / "Dockerfile").read_text(encoding="utf-8")
OPERATIONS = PROJECT_DIR / "docs" / "operations.md"
OWN = [name for name in SERVICES if name != "db"]


def needed_by(*names: str) -> set[str]:
    """The services that compose starts for these."""
    found = set(names)
    for name in names:
        found |= needed_by(*SERVICES[name].get("depends_on", {}))
    return found


def test_compose_has_the_five_services() -> None:
    assert set(SERVICES) == {"db", "migrate", "web", "scheduler", "ai-planner"}


def test_web_and_scheduler_start_without_the_planner() -> None:
    assert needed_by("db", "web", "scheduler") == {"db", "migrate", "web", "scheduler"}


def test_nothing_starts_before_the_database_is_migrated() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    for name in ("web", "scheduler", "ai-planner"):
        assert SERVICES[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


@pytest.mark.parametrize(
    ("service", "asks"),
    [
        ("db", "pg_isready"),
        ("web", "/api/health"),
        ("scheduler", "worker_health scheduler --live"),
        ("ai-planner", "worker_health planner --live"),
    ],
)
def test_every_lasting_service_has_a_health_check(service: str, asks: str) -> None:
    check = SERVICES[service]["healthcheck"]

    assert check["test"][0] == "CMD"
    assert asks in " ".join(check["test"])
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()


@pytest.mark.parametrize("service", OWN)
def test_every_manage_command_of_a_container_exists(service: str) -> None:
    calls = [SERVICES[service].get("command", []), SERVICES[service].get("healthcheck", {}).get("test", [])]
    named = [call[call.index("manage.py") + 1] for call in calls if "manage.py" in call]

    assert set(named) <= set(get_commands())


@pytest.mark.parametrize("service", OWN)
def test_our_containers_are_read_only_and_powerless(service: str) -> None:
    configuration = SERVICES[service]

    assert configuration["read_only"] is True
    assert configuration["cap_drop"] == ["ALL"]
    assert configuration["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", OWN)
@pytest.mark.parametrize("secret", ["SECRET_KEY", "ENCRYPTION_KEYS"])
def test_secrets_have_no_default(service: str, secret: str) -> None:
    assert re.fullmatch(rf"\$\{{{secret}:\?[^}}]+\}}", SERVICES[service]["environment"][secret])
    assert "${POSTGRES_PASSWORD:?" in SERVICES[service]["environment"]["DATABASE_URL"]


def test_a_stopped_scheduler_may_drain_and_may_be_many() -> None:
    assert SERVICES["scheduler"]["stop_grace_period"] == "40s"
    assert SERVICES["scheduler"]["deploy"]["replicas"] == "${SCHEDULER_REPLICAS:-1}"
    assert SERVICES["ai-planner"]["deploy"]["replicas"] == 1


def test_planner_is_given_its_settings() -> None:
    assert {"OPENAI_API_KEY", "OPENAI_BASE_URL", "AI_MODEL", "AI_ANALYSIS_INTERVAL_MS"} <= SERVICES["ai-planner"][
        "environment"
    ].keys()


def test_synthetic_jobs_reach_the_web_container() -> None:
    environment = SERVICES["web"]["environment"]

    assert environment["SYNTHETIC_BASE_URL"] == "http://web:8000"
    assert environment["ALLOWED_HOSTS"].endswith(",web")


def test_image_is_built_from_the_hashed_lock_in_stages_and_runs_without_root() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]

    assert len(stages) == 2
    assert "--require-hashes" in stages[0]
    assert re.search(r"^USER 10001:10001$", stages[1], re.MULTILINE)
    assert not re.search(r"^(ENV|ARG).*(SECRET_KEY|ENCRYPTION_KEYS)", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("folder", ["cronicorn", "accounts", "jobs", "scheduling", "planner", "synthetic", "templates"])
def test_every_folder_of_the_product_gets_into_the_image(folder: str) -> None:
    assert f"!{folder}" in (PROJECT_DIR / ".dockerignore").read_text().splitlines()
    assert (PROJECT_DIR / folder).is_dir()


@pytest.mark.parametrize("event", list(Event))
def test_every_log_event_is_explained(event: Event) -> None:
    assert f"| `{event.value}` |" in OPERATIONS.read_text(encoding="utf-8")


def test_no_log_event_is_explained_that_does_not_exist() -> None:
    section = OPERATIONS.read_text(encoding="utf-8").partition("## Logs")[2].partition("\n## ")[0]

    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) <= set(Event)


def test_every_command_in_the_pages_exists() -> None:
    pages = [PROJECT_DIR / "README.md", *(PROJECT_DIR / "docs").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"manage\.py (\w+)", page.read_text(encoding="utf-8"))}

    assert named <= set(get_commands()) | {"help"}


def test_every_link_in_the_pages_leads_somewhere() -> None:
    for page in [PROJECT_DIR / "README.md", *(PROJECT_DIR / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_module_of_the_scheduler_has_its_place_in_the_contracts() -> None:
    with (PROJECT_DIR / "pyproject.toml").open("rb") as file:
        contracts = {item["id"]: item for item in tomllib.load(file)["tool"]["importlinter"]["contracts"]}
    layers = {name.strip(" ()") for layer in contracts["direction"]["layers"] for name in layer.split(" : ")}
    edge = set(contracts["planner-advises"]["forbidden_modules"])
    pure = set(contracts["pure"]["source_modules"])
    modules = {f"scheduling.{path.stem}" for path in (PROJECT_DIR / "scheduling").iterdir() if path.stem[0] not in "_."}

    placed = edge | pure
    assert modules - {"scheduling.apps", "scheduling.migrations"} <= placed
    assert {name for name in placed if name.startswith("scheduling.")} <= layers
    assert not edge & pure
