"""How the console looks and is worked by keyboard, in a real Chromium: contrast, phones, focus, search, themes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from playwright.sync_api import Page, expect

from accounts.models import User
from jobs.admin.words import TONES
from jobs.models import Endpoint, EndpointStatus, JobStatus, RunStatus
from planner.models import AnalysisSession, Proposal, ProposalStatus
from tests.cronicorn.test_browser import CHROMIUM, complaints, page, sign_in
from tests.support.factories import make_api_key, make_endpoint, make_job, make_run, make_user

__all__ = ["complaints", "page"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),  # each walks over many pages
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="No Chromium was found: set CHROMIUM to its path."),
]

PHONE = {"width": 390, "height": 844}
LONG = "A-name-without-any-blank-" * 6


@pytest.fixture
def ada(transactional_db: None) -> User:
    ContentType.objects.clear_cache()
    return make_user("ada@example.com")


def make_busy_estate(owner: User) -> Endpoint:
    """Rows of every status, source and mode, with long names."""
    now = datetime.now(UTC)
    job = make_job(owner, name=f"Checkout {LONG}")
    make_job(owner, name="Resting", status=JobStatus.PAUSED)
    endpoint = make_endpoint(
        job,
        name=f"Queue {LONG}",
        url=f"https://{'x' * 60}.example.com/{'path/' * 20}",
        failure_count=3,
        ai_hint_interval_ms=60_000,
        ai_hint_interval_expires_at=now + timedelta(hours=1),
        ai_hint_interval_reason="The queue grows.",
        ai_hint_interval_set_by="planner",
    )
    make_endpoint(job, name="Backed off", failure_count=4)
    make_endpoint(job, name="Stopped", status=EndpointStatus.PAUSED)
    make_endpoint(job, name="For now", paused_until=now + timedelta(hours=1), paused_by="user")
    sources = [word for word in TONES if "-" in word] + ["retry", "manual", "run-once", "paused"]
    for number, status in enumerate([*RunStatus.values, *(["success"] * len(sources))]):
        make_run(
            endpoint,
            status=status,
            due_at=now - timedelta(minutes=number + 1),
            source=sources[number % len(sources)],
            error_kind="connect_failed" if status == "failed" else None,
            dns_ms=1.0,
            connect_ms=2.0,
            total_ms=900.0,
        )
    session = AnalysisSession.objects.create(
        endpoint=endpoint, owner=owner, trigger="new_runs", backend="openai", status="failed", reasoning="Because."
    )
    for status in ProposalStatus.values:
        proposal = Proposal.objects.create(
            endpoint=endpoint,
            owner=owner,
            session=session,
            cause="model",
            tool="propose_interval",
            arguments={"interval_ms": 60_000},
            mode="approve",
            status=status,
            reason=f"It grows {LONG}",
            offer_expires_at=now + timedelta(hours=1),
        )
    assert proposal.pk
    make_api_key(owner)
    return endpoint


def pages_of(endpoint: Endpoint) -> list[str]:
    run, proposal = endpoint.runs.first(), endpoint.proposals.first()  # type: ignore[attr-defined]
    return [
        "/",
        "/jobs/job/",
        f"/jobs/job/{endpoint.job_id}/",
        "/jobs/endpoint/",
        f"/jobs/endpoint/{endpoint.pk}/",
        f"/jobs/endpoint/{endpoint.pk}/change/",
        "/jobs/endpoint/add/",
        "/jobs/run/",
        f"/jobs/run/{run.pk}/",
        "/planner/proposal/",
        f"/planner/proposal/{proposal.pk}/",
        "/planner/analysissession/",
        f"/planner/analysissession/{proposal.session_id}/",
        "/accounts/apikey/",
        "/accounts/apikey/add/",
    ]


# WCAG 2.2, 1.4.3: the colour of each text against what is painted behind it, ancestors composed. A canvas turns every
# colour notation into bytes.
CONTRAST = """() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const bytes = (colour) => {
    context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (element) => {
    if (!element) return document.documentElement.classList.contains("dark") ? [0, 0, 0] : [255, 255, 255];
    const own = bytes(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, behind(element.parentElement));
  };
  const texts = [".cc-badge", ".cc-dim", ".cc-text-bad", ".cc-text-warn", ".cc-tile-name", ".cc-tile-value", ".cc-link",
    ".cc-button", ".cc-table th", ".cc-note", ".cc-facts dt"];
  const found = [];
  for (const element of document.querySelectorAll(texts.join(", "))) {
    const text = element.textContent.trim();
    if (!text || element.matches(".material-symbols-outlined") || !element.checkVisibility()) continue;
    const back = behind(element);
    const [a, b] = [light(over(bytes(getComputedStyle(element).color), back)), light(back)].sort((x, y) => y - x);
    found.push([`${element.className} "${text.slice(0, 30)}"`, (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_badge_and_small_text_has_enough_contrast(page: Page, ada: User, theme: str) -> None:
    endpoint = make_busy_estate(ada)
    sign_in(page, ada.email)
    page.evaluate(f"localStorage.setItem('adminTheme', '\"{theme}\"')")
    measured: dict[str, float] = {}
    for address in pages_of(endpoint):
        page.goto(address)
        expect(page.locator("html.dark")).to_have_count(1 if theme == "dark" else 0)
        measured |= {f"{address} {name}": ratio for name, ratio in page.evaluate(CONTRAST)}
    for tone in {*TONES.values(), "calm"}:
        assert any(f"cc-badge cc-{tone}" in name for name in measured), tone
    assert {name: round(ratio, 2) for name, ratio in measured.items() if ratio < 4.5} == {}


# What lies outside the screen, or is cut off inside a box that hides it, unless a box around it scrolls.
CLIPPED = """() => {
  const width = document.documentElement.clientWidth, whole = document.documentElement.scrollWidth;
  const found = whole > width ? [`the page is ${whole} wide`] : [];
  const upwards = function* (element) {
    for (; element && element !== document.body; element = element.parentElement) yield element;
  };
  const scrolls = (element) => [...upwards(element)].some((box) =>
    ["auto", "scroll"].includes(getComputedStyle(box).overflowX) && box.scrollWidth > box.clientWidth);
  for (const element of document.querySelectorAll("main *, #main *, #content *, #result_list *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || scrolls(element)) continue;
    if (element.closest("svg, .cc-hidden, .sr-only, select, .material-symbols-outlined")) continue;
    const range = document.createRange(); range.selectNodeContents(element);
    const text = range.getBoundingClientRect(), name = `"${element.textContent.trim().slice(0, 40)}"`;
    if (text.width && (text.right > width + 1 || text.left < -1)) found.push(`${name} ends at ${text.right}`);
    for (const box of upwards(element)) {
      const style = getComputedStyle(box), frame = box.getBoundingClientRect();
      const across = ["hidden", "clip"].includes(style.overflowX) && text.right > frame.right + 1;
      const down = style.overflowY === "hidden" && (text.bottom > frame.bottom + 1 || text.top < frame.top - 1);
      if (across || down) { found.push(`${name} is cut by ${box.tagName}.${box.className}`); break; }
    }
  }
  return [...new Set(found)];
}"""


def test_no_page_clips_or_overflows_on_a_phone(page: Page, ada: User) -> None:
    endpoint = make_busy_estate(ada)
    sign_in(page, ada.email)
    page.set_viewport_size(PHONE)
    clipped = {}
    for address in pages_of(endpoint):
        page.goto(address)
        if found := page.evaluate(CLIPPED):
            clipped[address] = found
    assert clipped == {}


def test_search_is_worked_by_keyboard(page: Page, ada: User, complaints: list[str]) -> None:
    job = make_job(ada, name="Queues")
    first, second = make_endpoint(job, name="Queue one"), make_endpoint(job, name="Queue two")
    sign_in(page, ada.email)
    search = page.get_by_role("combobox", name="Find a job or endpoint")
    page.keyboard.press("t")
    expect(search).to_be_focused()
    page.keyboard.type("queue")
    options = page.locator("#search-results").get_by_role("option")
    expect(options).to_have_count(3)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    expect(options.nth(1)).to_contain_text("Queue two")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(options.nth(2)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/endpoint/{first.pk}/")
    page.keyboard.press("t")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/endpoint/{second.pk}/")
    page.keyboard.press("t")
    page.keyboard.type("queue")
    expect(options).to_have_count(3)
    page.keyboard.press("Escape")
    expect(search).to_have_value("")
    expect(options).to_have_count(0)
    assert complaints == []


FOCUSED = """() => {
  const element = document.activeElement, style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  const ring = (s) => (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 1) || s.boxShadow !== "none";
  const around = element.closest(".focus-within\\\\:outline-2");
  const text = element.textContent.replace(/\\s+/g, " ").trim();
  const named = element.getAttribute("aria-label") || text || element.name || element.id || "";
  return {
    place: element === document.body ? "" : element.getAttribute("href") || named.slice(0, 60),
    name: named.slice(0, 60),
    shown: ring(style) || Boolean(around && ring(getComputedStyle(around))),
    visible: element.checkVisibility({ visibilityProperty: true }) && box.width > 0 && box.height > 0,
  };
}"""


def tab_through(page: Page, most: int = 160) -> Iterator[dict[str, Any]]:
    """Where the focus goes, from the top of the page until it leaves it."""
    page.evaluate("() => { document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0); }")
    for _ in range(most):
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        if not found["place"]:
            return
        yield found


def test_focus_reaches_menu_filters_and_row_actions_and_is_seen(page: Page, ada: User) -> None:
    endpoint = make_endpoint(make_job(ada, name="Checkout"), name="Queue depth")
    make_run(endpoint)
    sign_in(page, ada.email)
    own = f"/jobs/endpoint/{endpoint.pk}/"
    for address, wanted in (
        ("/jobs/endpoint/", ["/jobs/job/", "/jobs/endpoint/add/", own, "Filters", "Select record", ada.email]),
        (own, ["Run now", "Pause", "Archive", "Planner", "/change/", "/history/", "/jobs/run/"]),
    ):
        page.goto(address)
        stops = list(tab_through(page))
        places = " | ".join(f"{stop['place']} {stop['name']}" for stop in stops)
        assert [want for want in wanted if want not in places] == [], places
        assert [stop for stop in stops if not stop["visible"]] == []
        assert [stop for stop in stops if not stop["shown"]] == []


def test_filters_account_menu_and_actions_are_worked_by_keyboard(page: Page, ada: User, complaints: list[str]) -> None:
    endpoint = make_endpoint(make_job(ada, name="Checkout"), name="Queue depth")
    sign_in(page, ada.email)
    page.goto("/jobs/endpoint/")
    filters = page.get_by_role("button", name="Filters")
    filters.focus()
    page.keyboard.press("Enter")
    sheet = page.locator("#changelist-filter")
    expect(sheet).to_be_visible()
    expect(sheet.locator(":focus")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(filters).to_be_focused()
    menu = page.get_by_role("button", name=ada.email)
    menu.focus()
    page.keyboard.press("Space")
    entries = page.locator("[x-show=openUserLinks]")
    expect(entries).to_be_visible()
    expect(entries.locator(":focus")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(entries).to_be_hidden()
    page.locator(f"input[value='{endpoint.pk}']").focus()
    page.keyboard.press("Space")
    action = page.locator("select[name=action]")
    for _ in range(10):
        page.keyboard.press("Tab")
        if action.evaluate("select => select === document.activeElement"):
            break
    expect(action).to_be_focused()
    action.select_option("archive")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Archive these endpoints?")).to_be_visible()
    endpoint.refresh_from_db()
    assert endpoint.status == "active"
    page.get_by_role("button", name="Archive 1").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 of 1: archived.")).to_be_visible()
    endpoint.refresh_from_db()
    assert endpoint.status == "archived"
    assert complaints == []


def test_links_of_the_time_line_are_links_of_their_own(page: Page, ada: User) -> None:
    endpoint = make_endpoint(make_job(ada), name="Queue depth")
    run = make_run(endpoint)
    sign_in(page, ada.email)
    page.goto(f"/jobs/endpoint/{endpoint.pk}/")
    nested = "a a, a button, button a, [role=img] a, [role=img] button, label a"
    expect(page.locator(nested)).to_have_count(0)
    link = page.locator(f"svg a[href='/jobs/run/{run.pk}/']")
    expect(link).to_have_attribute(
        "aria-label", f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC: success, 200, baseline-interval"
    )
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/run/{run.pk}/")


RED_OF_THE_PAGE = """() => {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = getComputedStyle(document.body).backgroundColor; context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data[0];
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_chosen_theme_is_kept_on_every_page_of_the_account(page: Page, ada: User, theme: str) -> None:
    page.emulate_media(color_scheme="dark" if theme == "light" else "light")
    sign_in(page, ada.email)
    page.locator("[x-on\\:click*='adminTheme'], [x-on\\:click*='switchTheme']").first.wait_for(state="attached")
    page.evaluate(f"Alpine.$data(document.documentElement).adminTheme = '{theme}'")
    signed_in = ["/accounts/password/change/", "/accounts/email/", "/accounts/3rdparty/", "/no-such-page/", "/api/docs"]
    for address in [*signed_in, "/accounts/apikey/", "/accounts/logout/"]:
        page.goto(address)
        expect(page.locator("html.dark")).to_have_count(1 if theme == "dark" else 0)
        if address != "/api/docs":
            assert (page.evaluate(RED_OF_THE_PAGE) > 128) == (theme == "light"), address
    page.context.clear_cookies()
    for address in ("/accounts/login/", "/accounts/password/reset/"):
        page.goto(address)
        expect(page.locator(f"html.{theme}")).to_have_count(1)
        assert (page.evaluate(RED_OF_THE_PAGE) > 128) == (theme == "light"), address
