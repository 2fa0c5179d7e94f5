// One upload on the page. Its elements are made once and only change, so that focus stays where it is.

import { make, percent, show } from "../dom.js";
import { icon, iconOf } from "./icons.js";
import { Strip } from "./strip.js";
import { draw } from "./thumbnail.js";
import { actions, figures, label, remark, sentFraction, shownState, stripText } from "./words.js";

const COPIED_MS = 2000;

export class Row {
  #upload;
  #strip;
  #wanted = null; // what the main button does now
  #end = "cancel";
  #shows = {};
  #pictured = null; // the file that the picture is of

  /** `act(what, upload)` is called with pause, resume, retry, choose, now, cancel, remove. */
  constructor(upload, act) {
    this.#upload = upload;
    const { id, name, path, contentType } = upload.record;
    this.picture = make("div", { class: "upload-picture" }, iconOf(contentType));
    this.title = make("h3", { class: "upload-name", id: `name-${id}`, tabindex: -1, title: name, text: name });
    this.path = make("p", { class: "upload-path", text: path });
    this.pill = make("span", { class: "pill" });
    this.canvas = make("canvas", { class: "strip", "aria-hidden": "true" });
    this.bar = make("div", { role: "progressbar", "aria-labelledby": `name-${id}`, "aria-valuemin": 0, "aria-valuemax": 100 }, this.canvas);
    this.processing = make("progress", { max: 1, value: 0, "aria-label": `Processing ${name}` });
    this.percent = make("span", { class: "percent" });
    this.figures = make("p", { class: "upload-figures" });
    this.remark = make("p", { class: "upload-remark" });
    this.go = button("", () => act(this.#wanted, upload));
    this.now = button("quiet", () => act("now", upload), "again", "Try now", `Try ${name} now`);
    this.copy = button("quiet", () => this.#copyLink(), "copy", "Copy link", `Copy link to ${name}`);
    // A tab opened by this one gets a copy of its session storage, and with it the token; no address ever holds that.
    this.watch = make("a", { class: "button", target: "_blank", rel: "opener" });
    for (const type of ["click", "auxclick"]) this.watch.addEventListener(type, openWithToken);
    this.end = button("quiet upload-end", () => act(this.#end, upload));
    this.element = make(
      "li",
      { class: "upload", id: `upload-${id}`, "aria-labelledby": `name-${id}` },
      this.picture,
      make(
        "div",
        { class: "upload-body" },
        make("div", { class: "upload-head" }, make("div", {}, this.title, path ? this.path : null), this.pill),
        make("div", { class: "upload-bar" }, this.bar, this.processing, this.percent),
        this.remark,
        make(
          "div",
          { class: "upload-foot" },
          this.figures,
          make("div", { class: "upload-actions" }, this.now, this.copy, this.watch, this.go, this.end),
        ),
      ),
    );
    this.#strip = new Strip(this.canvas);
  }

  get firstAction() {
    return [this.go, this.watch, this.now, this.copy, this.end].find((one) => !one.hidden) ?? this.title;
  }

  /** Drawn from the file as soon as that is there: after a reload it may come late. */
  async #picture() {
    const { file, record } = this.#upload;
    if (!file || file === this.#pictured) return;
    this.#pictured = file;
    const canvas = make("canvas", { "aria-hidden": "true" });
    if (await draw(file, record.contentType, canvas)) this.picture.replaceChildren(canvas);
  }

  /** The server's own picture, for what was begun by an earlier page. */
  #thumbnail() {
    const url = this.#upload.media?.playback?.thumbnails.findLast((one) => one.content_type === "image/jpeg")?.url;
    if (url && !this.picture.querySelector("canvas, img")) this.picture.replaceChildren(make("img", { src: url, alt: "" }));
  }

  update(isOnline, nowMs) {
    const upload = this.#upload;
    const { state } = upload;
    const had = this.element.contains(document.activeElement) && document.activeElement;
    const { text, tone } = label(upload, isOnline);
    this.element.dataset.state = shownState(upload, isOnline);
    this.#set(this.pill, "text", text);
    this.pill.dataset.tone = tone;

    const isProcessed = state === "processing";
    const isSent = isProcessed || (upload.isOver && !(state === "failed" && upload.board));
    show(this.bar, !isSent);
    show(this.processing, isProcessed);
    show(this.percent.parentElement, isProcessed || !isSent);
    this.bar.setAttribute("aria-valuenow", Math.floor(sentFraction(upload) * 100));
    this.bar.setAttribute("aria-valuetext", stripText(upload, isOnline));
    this.processing.value = upload.fraction;
    this.#set(this.percent, "percent", percent(isProcessed ? upload.fraction : sentFraction(upload)));
    if (!isSent) this.#strip.draw(upload.board);

    this.#set(this.figures, "figures", figures(upload, nowMs).join(" · "));
    this.#remark(remark(upload, isOnline, nowMs));
    this.#actions(actions(upload));
    this.#picture();
    if (state === "published") this.#thumbnail();
    if (had && !had.checkVisibility()) this.firstAction.focus();
  }

  #remark({ text, advice }) {
    const shown = `${text}\n${advice}`;
    if (this.#shows.remark === shown) return;
    this.#shows.remark = shown;
    show(this.remark, Boolean(text || advice));
    this.remark.replaceChildren(make("strong", { text }), advice ? ` ${advice}` : "");
  }

  #actions({ go, now, watch, copy, end: [what, name] }) {
    show(this.go, Boolean(go));
    if (go) {
      this.#wanted = go[0];
      this.go.classList.toggle("quiet", go[0] === "pause");
      this.#face(this.go, go[2], go[1]);
    }
    show(this.now, now);
    show(this.watch, watch);
    if (watch) {
      this.watch.href = this.#address;
      this.#face(this.watch, "watch", this.#upload.media?.type === "image" ? "View" : "Watch", " (opens a new tab)");
    }
    show(this.copy, copy);
    this.#end = what;
    this.#face(this.end, "close", name);
  }

  get #address() {
    return `/watch/${encodeURIComponent(this.#upload.record.mediaId)}`;
  }

  #face(element, drawing, text, more = "") {
    if (element.dataset.face === text) return;
    element.dataset.face = text;
    element.setAttribute("aria-label", `${text.replace("…", "")} ${this.#upload.name}${more}`);
    element.replaceChildren(icon(drawing), make("span", { text }));
  }

  async #copyLink() {
    try {
      await navigator.clipboard.writeText(new URL(this.#address, location.href).href);
    } catch {
      return;
    }
    this.copy.lastChild.textContent = "Copied";
    setTimeout(() => (this.copy.lastChild.textContent = "Copy link"), COPIED_MS);
  }

  #set(element, key, text) {
    if (this.#shows[key] === text) return;
    this.#shows[key] = text;
    element.textContent = text;
  }
}

function button(kind, onClick, drawing, text, description) {
  const element = make("button", { type: "button", class: `button ${kind}`, "aria-label": description });
  if (text) element.append(icon(drawing), make("span", { text }));
  element.addEventListener("click", onClick);
  return element;
}

/** The ways to open a background tab would open it without its opener, hence without the token. */
function openWithToken(event) {
  const isBackground = event.button === 1 || event.ctrlKey || event.metaKey;
  if (!isBackground) return;
  event.preventDefault();
  window.open(event.currentTarget.href);
}
