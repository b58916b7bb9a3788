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
