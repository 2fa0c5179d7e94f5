// The list of uploads and the line above it that sums them up. Draws a few times a second at most.

import { byId, bytes, duration, percent, show } from "../dom.js";
import { Row } from "./row.js";
import { sentFraction } from "./words.js";

const FRAME_MS = 120;
const TICK_MS = 1000; // figures such as the time left change without any event

export class List {
  #queue;
  #rows = new Map(); // upload → Row
  #changed = new Set(); // uploads whose rows are not up to date
  #timer = 0;
  #act;
  #onSummary;

  /** `act` is called with what a person wants and the upload, `onSummary` with what `summaryOf` says, after each drawing. */
  constructor(queue, act, onSummary) {
    this.#queue = queue;
    this.#act = act;
    this.#onSummary = onSummary;
    queue.addEventListener("added", ({ detail }) => this.#add(detail));
    queue.addEventListener("removed", ({ detail }) => this.#remove(detail));
    queue.addEventListener("change", () => this.#schedule());
    window.addEventListener("online", () => this.#drawAll());
    window.addEventListener("offline", () => this.#drawAll());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#drawAll());
    setInterval(() => this.#draw(queue.uploads.filter((one) => one.isStarted)), TICK_MS);
  }

  #add(upload) {
    const row = new Row(upload, this.#act);
    this.#rows.set(upload, row);
    byId("uploads").append(row.element);
    row.update(navigator.onLine, Date.now());
    upload.addEventListener("change", () => this.#draw([upload]));
  }

  /** A row that held the focus passes it to its neighbour. */
  #remove(upload) {
    const { element } = this.#rows.get(upload);
    const neighbour = element.nextElementSibling ?? element.previousElementSibling;
    const hadFocus = element.contains(document.activeElement);
    element.remove();
    this.#rows.delete(upload);
    this.#changed.delete(upload);
    if (!hadFocus) return;
    const row = [...this.#rows.values()].find((one) => one.element === neighbour);
    (row?.firstAction ?? byId("choose")).focus();
  }

  #draw(uploads) {
    for (const one of uploads) this.#changed.add(one);
    if (uploads.length) this.#schedule();
  }

  #drawAll() {
    this.#draw(this.#queue.uploads);
  }

  #schedule() {
    if (!this.#timer) this.#timer = setTimeout(() => this.#frame(), FRAME_MS);
  }

  #frame() {
    this.#timer = 0;
    for (const upload of this.#changed) this.#rows.get(upload)?.update(navigator.onLine, Date.now());
    this.#changed.clear();
    this.#summary();
  }

  #summary() {
    const { uploads } = this.#queue;
    const all = summaryOf(uploads, Date.now());
    show(byId("list"), uploads.length > 0);
    document.documentElement.dataset.uploads = uploads.length ? "some" : "none";
    byId("summary-title").textContent = all.title;
    byId("summary-figures").textContent = all.figures;
    show(byId("summary-bar"), all.isUnderWay && uploads.length > 1);
    byId("overall").value = all.fraction;
    show(byId("pause-all"), uploads.filter((one) => one.isStarted || one.state === "waiting").length > 1);
    show(byId("resume-all"), uploads.filter((one) => one.state === "paused" || (one.state === "file" && one.record.handle)).length > 1);
    show(byId("clear"), uploads.filter((one) => one.isOver).length > 1);
    this.#onSummary(all);
    document.title = all.isUnderWay ? `${percent(all.fraction)} · Upload · Millrace` : "Upload · Millrace";
  }
}

/** What all uploads together are doing. Pure. */
export function summaryOf(uploads, nowMs) {
  const wanted = uploads.filter((one) => !["failed", "cancelled"].includes(one.state));
  const sizeBytes = wanted.reduce((sum, one) => sum + one.sizeBytes, 0);
  const sentBytes = wanted.reduce((sum, one) => sum + one.sizeBytes * sentFraction(one), 0);
  const rate = uploads.reduce((sum, one) => sum + (one.state === "sending" && !one.stalled ? one.rate.at(nowMs) : 0), 0);
  const under = uploads.filter((one) => one.isStarted || one.state === "waiting");
  const done = uploads.filter((one) => one.state === "published").length;
  const failed = uploads.filter((one) => one.state === "failed").length;
  const processing = uploads.filter((one) => one.state === "processing").length;
  const isUnderWay = under.length > 0;
  const leftBytes = under.reduce((sum, one) => sum + one.sizeBytes - one.sentBytes, 0);
  const files = (count) => `${count} ${count === 1 ? "file" : "files"}`;
  const title = isUnderWay
    ? `Uploading ${files(under.length)}`
    : processing
      ? `Processing ${files(processing)}`
      : uploads.length === done
        ? `${files(done)} published`
        : files(uploads.length);
  const figures = [
    isUnderWay ? `${bytes(sentBytes)} of ${bytes(sizeBytes)}` : null,
    isUnderWay && rate ? `${bytes(rate)}/s` : null,
    isUnderWay && rate ? `${duration(leftBytes / rate)} left` : null,
    done && uploads.length !== done ? `${done} published` : null,
    failed ? `${failed} failed` : null,
  ];
  return { title, figures: figures.filter(Boolean).join(" · "), fraction: sizeBytes ? sentBytes / sizeBytes : 0, isUnderWay };
}
