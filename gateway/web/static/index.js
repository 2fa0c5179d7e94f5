// The landing page: whether everything answers, and, for a visitor with a token, what they uploaded last.

import { getJson, token } from "./api.js";
import { STATUS, byId, make, show } from "./dom.js";

const PARTS = { upload: "Uploads", metadata: "Media and their state", broker: "Live progress" };

async function lights() {
  const list = byId("lights");
  let body;
  try {
    body = await (await fetch("/readyz")).json();
  } catch {
    list.replaceChildren(light("Gateway", false));
    return;
  }
  list.replaceChildren(light("Gateway", true), ...Object.entries(PARTS).map(([name, label]) => light(label, body[name])));
}

function light(label, good) {
  const pill = make("span", { class: "pill", "data-tone": good ? "good" : "bad", text: good ? "Ready" : "No answer" });
  return make("li", {}, make("span", { text: label }), pill);
}

async function mine() {
  if (!token.get()) return;
  let page;
  try {
    page = await getJson("/v1/media?page_size=12");
  } catch {
    return;
  }
  show(byId("mine"));
  show(byId("mine-note"), page.media.length === 0);
  byId("mine-list").replaceChildren(...page.media.map(item));
}

function item(media) {
  const still = media.playback?.thumbnails[0];
  const { label, tone } = STATUS[media.status];
  return make(
    "li",
    {},
    make("a", { href: `/watch/${media.media_id}`, "aria-label": `Watch ${media.filename}` }, still ? make("img", { src: still.url, alt: "", loading: "lazy" }) : media.type),
    make("p", {}, media.filename, " ", make("span", { class: "pill", "data-tone": tone, text: label })),
  );
}

token.adopt();
lights();
mine();
