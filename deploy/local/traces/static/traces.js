// Folding, details and highlighting in the waterfall; the live list. Every page reads well without it, except
// that details stay closed.
"use strict";

const rows = [...document.querySelectorAll(".row")];
const depth = (row) => Number(row.dataset.depth);
const fold = (row) => row.querySelector(".fold");

// Shows exactly the rows that have no folded ancestor.
function showRows() {
  let foldedAt = Infinity;
  for (const row of rows) {
    if (depth(row) <= foldedAt) foldedAt = Infinity;
    row.hidden = depth(row) > foldedAt;
    if (!row.hidden && fold(row)?.getAttribute("aria-expanded") === "false") foldedAt = depth(row);
  }
}

function setFolded(row, folded) {
  const button = fold(row);
  if (!button) return;
  button.setAttribute("aria-expanded", String(!folded));
  row.querySelector(".open").dataset.folded = button.dataset.count;
}

function setOpen(row, open) {
  row.querySelector(".open").setAttribute("aria-expanded", String(open));
  row.querySelector(".detail").hidden = !open;
}

// Unfolds everything above a row, opens it and brings it into view.
function reveal(row) {
  let level = depth(row);
  for (let place = rows.indexOf(row) - 1; place >= 0 && level > 0; place--) {
    if (depth(rows[place]) < level) {
      level = depth(rows[place]);
      setFolded(rows[place], false);
    }
  }
  showRows();
  rows.forEach((other) => other.classList.toggle("target", other === row));
  setOpen(row, true);
  row.scrollIntoView({ block: "nearest" });
}

function revealHash() {
  const row = document.getElementById(location.hash.slice(1));
  if (row?.classList.contains("row")) reveal(row);
}

for (const row of rows) {
  row.querySelector(".line").addEventListener("click", (event) => {
    const button = event.target.closest(".fold");
    if (button) {
      setFolded(row, button.getAttribute("aria-expanded") === "true");
      showRows();
    } else {
      setOpen(row, row.querySelector(".detail").hidden);
    }
  });
}

document.getElementById("collapse")?.addEventListener("click", () => {
  rows.forEach((row) => { setFolded(row, true); setOpen(row, false); });
  showRows();
});
document.getElementById("expand")?.addEventListener("click", () => {
  rows.forEach((row) => setFolded(row, false));
  showRows();
});

let lastError = -1;
document.getElementById("next-error")?.addEventListener("click", () => {
  const failed = rows.map((row, place) => (row.classList.contains("failed") ? place : -1)).filter((place) => place >= 0);
  lastError = failed.find((place) => place > lastError) ?? failed[0];
  reveal(rows[lastError]);
});

const legend = [...document.querySelectorAll(".legend [data-service]")];
for (const chip of legend) {
  chip.addEventListener("click", () => {
    const alone = chip.getAttribute("aria-pressed") === "true" ? null : chip.dataset.service;
    legend.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.service === alone)));
    rows.forEach((row) => row.classList.toggle("faded", alone !== null && row.dataset.service !== alone));
  });
}

addEventListener("hashchange", revealHash);
revealHash();

// The list: local times, and a fresh look every two seconds while "live" is ticked.
function localTimes() {
  for (const time of document.querySelectorAll("time[data-ns]")) {
    const moment = new Date(Number(time.dataset.ns.slice(0, -6)));
    time.title = moment.toISOString();
    time.textContent = moment.toLocaleTimeString([], { hour12: false });
  }
}
localTimes();

const live = document.getElementById("live");
async function refresh() {
  if (!live.checked) return;
  try {
    const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    document.getElementById("traces").replaceWith(page.getElementById("traces"));
    localTimes();
  } catch { /* the store restarts; the next look will tell */ }
  setTimeout(refresh, 2000);
}
live?.addEventListener("change", refresh);
