// The endpoint form: shows the fields of the chosen kind of schedule, and the next slots while they are typed.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("endpoint_form");
  const preview = document.getElementById("cc-preview");
  if (!form || !preview) return;
  const kinds = { interval: "baseline_interval_ms", cron: "baseline_cron", once: "run_once_at" };
  const names = [...Object.values(kinds), "baseline_kind", "timezone", "starts_at", "ends_at"];
  const fault = preview.querySelector("[data-preview-fault]");
  const list = preview.querySelector("[data-preview-slots]");
  const warnings = preview.querySelector("[data-preview-warnings]");
  const note = preview.querySelector("[data-preview-note]");
  const noteText = note.textContent;
  let latest = 0;
  let timer = null;

  // The card belongs under the schedule's own fields.
  const schedule = form.querySelector("[name=baseline_kind]").closest("fieldset");
  if (schedule) schedule.append(preview);

  function chosenKind() {
    const checked = form.querySelector("[name=baseline_kind]:checked");
    return checked ? checked.value : "interval";
  }

  function showFields() {
    for (const [kind, name] of Object.entries(kinds)) {
      const row = form.elements[name].closest(".field-row, .form-row") || form.elements[name].parentElement;
      row.hidden = kind !== chosenKind();
    }
  }

  function item(slot, zone) {
    const li = document.createElement("li");
    const local = document.createElement("span");
    local.textContent = slot.local.slice(0, 19).replace("T", " ");
    li.append(local);
    if (zone !== "UTC") {
      const utc = document.createElement("span");
      utc.className = "cc-dim";
      utc.textContent = `${slot.utc.slice(11)} UTC`;
      li.append(utc);
    }
    return li;
  }

  function warning(text) {
    const li = document.createElement("li");
    li.textContent = text;
    return li;
  }

  async function show() {
    const number = ++latest;
    const query = new URLSearchParams();
    if (preview.dataset.endpoint) query.set("endpoint", preview.dataset.endpoint);
    for (const name of names) {
      const field = form.elements[name];
      query.set(name, name === "baseline_kind" ? chosenKind() : field ? field.value : "");
    }
    try {
      const response = await fetch(`${preview.dataset.preview}?${query}`, { headers: { Accept: "application/json" } });
      const answer = await response.json();
      if (number !== latest) return;
      fault.hidden = !answer.fault;
      fault.textContent = answer.fault || "";
      note.textContent = answer.fault ? "" : answer.slots.length ? noteText : "This schedule has no slots left.";
      warnings.hidden = !(answer.warnings || []).length;
      warnings.replaceChildren(...(answer.warnings || []).map(warning));
      list.replaceChildren(...(answer.slots || []).map((slot) => item(slot, answer.zone)));
    } catch {
      if (number === latest) note.textContent = "The preview cannot be loaded.";
    }
  }

  form.addEventListener("input", (event) => {
    if (!names.includes(event.target.name)) return;
    showFields();
    clearTimeout(timer);
    timer = setTimeout(show, 250);
  });

  const headers = form.querySelector("[data-headers]");
  if (headers) {
    const publicNames = new Set(headers.dataset.public.split(" "));
    headers.addEventListener("change", (event) => {
      if (event.target.type === "checkbox") {
        event.target.dataset.chosen = "yes";
        const value = event.target.closest(".cc-headers-row").querySelector("[name$=-value]");
        value.type = event.target.checked ? "password" : "text";
        value.placeholder = "";
      }
    });
    headers.addEventListener("input", (event) => {
      if (event.target.name.endsWith("-name") && !event.target.defaultValue) {
        const row = event.target.closest(".cc-headers-row");
        const secret = row.querySelector("[name$=-secret]");
        if (!secret.dataset.chosen) {
          secret.checked = !publicNames.has(event.target.value.trim().toLowerCase());
          row.querySelector("[name$=-value]").type = secret.checked ? "password" : "text";
        }
      }
      const rows = headers.querySelectorAll(".cc-headers-row:not(.cc-headers-head)");
      const last = rows[rows.length - 1];
      if (last.querySelector("[name$=-name]").value && rows.length < 60) {
        const row = last.cloneNode(true);
        for (const input of row.querySelectorAll("input")) {
          input.name = input.name.replace(/-\d+-/, `-${rows.length}-`);
          if (input.type !== "checkbox") { input.value = ""; input.placeholder = ""; }
        }
        row.querySelector("[name$=-value]").type = "password";
        row.querySelector("[name$=-secret]").checked = true;
        delete row.querySelector("[name$=-secret]").dataset.chosen;
        last.after(row);
      }
    });
  }

  showFields();
  show();
});
