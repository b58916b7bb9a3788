"""The console in a real Chromium: what a person does on the first day, without a word from the content policy."""

import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connections
from playwright.sync_api import Page, expect, sync_playwright

from accounts.setup import create_operator, issue_link
from jobs.models import Endpoint
from tests.support.factories import PASSWORD, make_endpoint, make_job, make_run, make_user

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="No Chromium was found: set CHROMIUM to its path."),
]


@pytest.fixture
def complaints() -> list[str]:
    """Every error that a page wrote to the console, refusals of the content policy among them."""
    return []


@pytest.fixture
def page(live_server: Any, complaints: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A page of a fresh browser. Playwright runs an event loop in this thread, which Django would take amiss."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    cache.clear()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_context(base_url=live_server.url, color_scheme="dark").new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        browser.close()
        # Under the running event loop Django gave this thread connections of their own.
        connections.close_all()


def sign_in(page: Page, email: str) -> None:
    page.goto("/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Runs by hour and outcome")).to_be_visible()


def make_busy_endpoint() -> Endpoint:
    endpoint = make_endpoint(make_job(make_user("ada@example.com"), name="Checkout"), name="Queue depth")
    for minutes in range(1, 4):
        make_run(endpoint, due_at=datetime.now(UTC) - timedelta(minutes=minutes))
    return endpoint


def test_a_person_signs_in_looks_around_and_runs_an_endpoint_now(page: Page, complaints: list[str]) -> None:
    endpoint = make_busy_endpoint()
    sign_in(page, "ada@example.com")
    expect(page.locator("[data-figure=runs]")).to_contain_text("runs")
    expect(page.locator("[data-figure=hints]")).to_have_text("0 of 1")
    page.locator("#nav-sidebar a[href='/jobs/endpoint/']").click()
    page.get_by_role("link", name="Queue depth").click()
    expect(page.get_by_role("img", name="Calls against the baseline")).to_be_visible()
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_text("Queue depth: asked to run now.")).to_be_visible()
    expect(page.get_by_text("Run now, asked for at")).to_be_visible()
    endpoint.refresh_from_db()
    assert endpoint.next_source == "manual"
    assert complaints == []


def test_the_first_operator_sets_the_password_by_the_link_and_signs_in(page: Page, complaints: list[str]) -> None:
    page.goto(f"/accounts/setup/{issue_link(create_operator('admin@example.com'))}/")
    page.get_by_label("New password", exact=True).fill(PASSWORD)
    page.get_by_label("New password confirmation").fill(PASSWORD)
    page.get_by_role("button", name="Set password").click()
    expect(page.get_by_label("API key")).to_have_value(re.compile("^cc_"))
    page.get_by_role("link", name="Sign in as admin@example.com").click()
    sign_in(page, "admin@example.com")
    assert complaints == []


def test_the_next_slots_are_shown_while_typing(page: Page, complaints: list[str]) -> None:
    make_busy_endpoint()
    sign_in(page, "ada@example.com")
    page.goto("/jobs/endpoint/add/")
    slots = page.locator("[data-preview-slots] li")
    expect(slots).to_have_count(10)
    page.get_by_label("By a cron expression").check()
    expect(page.locator("[name=baseline_interval_ms]")).to_be_hidden()
    page.locator("[name=baseline_cron]").fill("30 9 * * 1")
    page.locator("[name=timezone]").fill("Europe/Berlin")
    expect(slots.first).to_contain_text("09:30:00")
    expect(slots.first).to_contain_text("UTC")
    warnings = page.locator("[data-preview-warnings] li")
    expect(warnings).to_have_count(0)
    page.locator("[name=baseline_cron]").fill("*/45 * * * *")
    expect(warnings).to_contain_text(["the gaps are 45 and 15 min"])
    page.locator("[name=baseline_cron]").fill("61 * * * *")
    expect(warnings).to_have_count(0)
    expect(page.locator("[data-preview-fault]")).to_contain_text("minute")
    expect(slots).to_have_count(0)
    assert complaints == []


def test_the_dashboard_refreshes_by_itself(page: Page, complaints: list[str]) -> None:
    endpoint = make_busy_endpoint()
    sign_in(page, "ada@example.com")
    expect(page.locator("[data-figure=failing]")).to_have_text("0 endpoints")
    Endpoint.objects.filter(pk=endpoint.pk).update(failure_count=2)
    expect(page.locator("[data-figure=failing]")).to_have_text("1 endpoint", timeout=15_000)
    assert complaints == []


def test_archiving_asks_first(page: Page) -> None:
    endpoint = make_busy_endpoint()
    sign_in(page, "ada@example.com")
    page.goto(f"/jobs/endpoint/{endpoint.pk}/")
    questions: list[str] = []
    page.once("dialog", lambda dialog: (questions.append(dialog.message), dialog.dismiss()))
    page.get_by_role("button", name="Archive").click()
    assert questions == ["Archive this endpoint? It stops for good; its runs stay."]
    endpoint.refresh_from_db()
    assert endpoint.status == "active"


def test_a_list_is_worked_by_its_checkboxes(page: Page, complaints: list[str]) -> None:
    endpoint = make_busy_endpoint()
    sign_in(page, "ada@example.com")
    page.goto("/jobs/endpoint/")
    page.locator(f"input[value='{endpoint.pk}']").check()
    page.locator("select[name=action]").select_option("pause")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("1 of 1: paused.")).to_be_visible()
    assert complaints == []


def test_a_new_header_is_secret_unless_its_name_says_otherwise(page: Page, complaints: list[str]) -> None:
    make_busy_endpoint()
    sign_in(page, "ada@example.com")
    page.goto("/jobs/endpoint/add/")
    rows = page.locator("[data-headers] .cc-headers-row:not(.cc-headers-head)")
    for number, (name, secret) in enumerate([("Accept", False), ("X-Api-Key", True), ("if-none-match", False)]):
        rows.nth(number).get_by_label("Header name").fill(name)
        expect(rows.nth(number).get_by_label("Secret")).to_be_checked(checked=secret)
        expect(rows.nth(number).get_by_label("Header value")).to_have_attribute(
            "type", "password" if secret else "text"
        )
    row = rows.nth(3)
    row.get_by_label("Secret").uncheck()
    row.get_by_label("Header name").fill("X-Mine")
    expect(row.get_by_label("Secret")).not_to_be_checked()
    assert complaints == []
