// Keeps times current, refreshes live parts, asks before what cannot be taken back. No page needs it to work.
"use strict";

(() => {
  const REFRESH_MS = 5000;
  const shown = new WeakMap();

  function words(seconds) {
    const parts = [];
    for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
      const count = Math.floor(seconds / size);
      seconds -= count * size;
      if (count) parts.push(`${count} ${unit}`);
    }
    return parts.slice(0, 2).join(" ");
  }

  // The page's times are judged by the server's clock: the browser's may be wrong by hours.
  let offsetMs = 0;

  function tellTimes(root) {
    const now = Date.now() + offsetMs;
    for (const time of root.querySelectorAll("time[data-moment]")) {
      const seconds = Math.trunc((Date.parse(time.dateTime) - now) / 1000);
      const text = seconds === 0 ? "now" : seconds > 0 ? `in ${words(seconds)}` : `${words(-seconds)} ago`;
      if (time.textContent !== text) time.textContent = text;
    }
  }

  function learnClock(response) {
    const date = Date.parse(response.headers.get("Date") || "");
    if (!Number.isNaN(date) && Math.abs(date - Date.now()) > 2000) offsetMs = date - Date.now();
  }

  // Where a picture is wider than the screen, its latest part matters.
  function showLatest(root) {
    for (const picture of root.querySelectorAll(".cc-scroll > svg")) picture.parentElement.scrollLeft = picture.parentElement.scrollWidth;
  }

  function keepsPart(part) {
    return part.contains(document.activeElement) || part.querySelector("details[open]") !== null;
  }

  async function refresh(root) {
    const state = root.querySelector("[data-live-state]");
    try {
      const response = await fetch(root.dataset.live, { headers: { Accept: "application/json" } });
      if (response.redirected) return location.reload();
      if (!response.ok) throw new Error(String(response.status));
      learnClock(response);
      const parts = await response.json();
      for (const part of root.querySelectorAll("[data-part]")) {
        const html = parts[part.dataset.part];
        // A part with the focus or an open menu waits, so that nothing moves under the hands.
        if (html !== undefined && shown.get(part) !== html && !keepsPart(part)) {
          part.innerHTML = html;
          shown.set(part, html);
          showLatest(part);
        }
      }
      tellTimes(root);
      if (state) { state.textContent = "live"; state.classList.remove("cc-stale"); }
    } catch {
      if (state) { state.textContent = "connection lost, trying again"; state.classList.add("cc-stale"); }
    }
  }

  function live(root) {
    let timer = null;
    const tick = async () => {
      await refresh(root);
      timer = document.hidden ? null : setTimeout(tick, REFRESH_MS);
    };
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) { clearTimeout(timer); timer = null; }
      else if (timer === null) { timer = setTimeout(tick, 0); }
    });
    timer = setTimeout(tick, REFRESH_MS);
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-live]").forEach(live);
    document.querySelectorAll("select[data-submit]").forEach((select) => {
      select.addEventListener("change", () => select.form.submit());
    });
    tellTimes(document);
    showLatest(document);
    setInterval(() => { if (!document.hidden) tellTimes(document); }, 1000);
  });

  // The theme's menus and switches are no buttons: here they get the keyboard's focus and answer to Enter and Space.
  const NATIVE = "a[href], button, input, select, textarea, summary, label, [role=dialog]";

  function operable(root) {
    for (const element of root.querySelectorAll("[x-on\\:click]")) {
      if (element.matches(NATIVE) || !element.textContent.trim()) continue;
      element.tabIndex = 0;
      element.setAttribute("role", "button");
      if (element.matches(".material-symbols-outlined")) {
        element.setAttribute("aria-label", element.getAttribute("x-on:click").includes("sidebar") ? "Menu" : "Switch");
      }
    }
  }

  const CLOSERS = [
    { box: "#changelist-filter", opener: "[x-on\\:click*='filterOpen = true'], [x-on\\:click*='filterOpen = !']", closer: "#changelist-filter-close" },
    { box: "[x-show=openUserLinks]", opener: "[x-on\\:click*='openUserLinks = !']" },
  ];

  document.addEventListener("click", (event) => {
    for (const { box, opener } of CLOSERS) {
      if (!event.target.closest(opener)) continue;
      // Alpine shows the box first.
      requestAnimationFrame(() => requestAnimationFrame(() => {
        const inside = document.querySelector(box);
        const first = inside && [...inside.querySelectorAll("a[href], [tabindex='0'], select, input")].find((one) => one.checkVisibility());
        if (first) first.focus();
      }));
    }
  });

  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if ((event.key === "Enter" || event.key === " ") && target.matches("[role=button][x-on\\:click]")) {
      event.preventDefault();
      target.click();
    } else if (event.key === "Escape") {
      for (const { box, opener, closer } of CLOSERS) {
        if (!target.closest(box)) continue;
        document.querySelector(closer || opener).click();
        const back = document.querySelector(opener);
        requestAnimationFrame(() => requestAnimationFrame(() => back.focus()));
      }
    }
  });

  document.addEventListener("DOMContentLoaded", () => {
    operable(document);
    // The bar of actions is shown below the list: the focus comes to it after the rows.
    const bar = document.getElementById("changelist-actions-wrapper");
    if (bar) document.getElementById("changelist-form").append(bar.parentElement);
  });

  // The sidebar's search by keyboard: arrows choose, Enter opens, also when it is pressed before the answer is there.
  let enterWaits = false;

  function found() {
    return [...document.querySelectorAll("#search-results [role=option]")];
  }

  function choose(input, row) {
    for (const other of found()) other.setAttribute("aria-selected", String(other === row));
    if (row) { input.setAttribute("aria-activedescendant", row.id); row.scrollIntoView({ block: "nearest" }); }
    else input.removeAttribute("aria-activedescendant");
  }

  document.addEventListener("keydown", (event) => {
    const input = event.target;
    if (input.id !== "nav-filter" || event.isComposing) return;
    const rows = found();
    const at = rows.findIndex((row) => row.getAttribute("aria-selected") === "true");
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      if (rows.length) choose(input, rows[Math.min(Math.max(at + step, 0), rows.length - 1)]);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (input.dataset.answered === input.value.trim() && rows.length) location.assign(rows[Math.max(at, 0)].href);
      else enterWaits = input.value.trim() !== "";
    } else if (event.key === "Escape") {
      event.preventDefault();
      input.value = "";
      document.getElementById("search-results").replaceChildren();
      input.setAttribute("aria-expanded", "false");
    }
  });

  document.addEventListener("input", (event) => { if (event.target.id === "nav-filter") enterWaits = false; });

  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.id !== "search-results") return;
    const input = document.getElementById("nav-filter");
    const rows = found();
    input.dataset.answered = event.detail.requestConfig.parameters.s ?? event.detail.requestConfig.formData?.get("s") ?? "";
    input.dataset.answered = input.dataset.answered.trim();
    input.setAttribute("aria-expanded", String(rows.length > 0));
    choose(input, null);
    if (enterWaits && rows.length) location.assign(rows[0].href);
    enterWaits = false;
  });

  document.addEventListener("submit", (event) => {
    const question = event.target.dataset ? event.target.dataset.confirm : undefined;
    if (question && !window.confirm(question)) event.preventDefault();
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) {
      await navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent);
      button.lastChild.textContent = "Copied";
    }
    for (const menu of document.querySelectorAll("details.cc-menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
})();
