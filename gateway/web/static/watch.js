// The watch page: progress until a media is final, then the video, the pictures, or the reason why there are none.
//
// `data-state` of <main> is one of loading, token, unknown, uploading, processing, published, failed, unreachable;
// `data-levels` is how many qualities the player offers; `window.millracePlayer` is the hls.js instance.

import { Problem, token } from "./api.js";
import { STATUS, byId, bytes, kilobits, make, moment, percent, playTime, show } from "./dom.js";
import { follow } from "./follow.js";
import { play } from "./player.js";
import { bySize, fill, sources } from "./stills.js";
import { placeholder } from "./thumbhash.js";

const mediaId = decodeURIComponent(location.pathname.split("/").pop());
const main = byId("main");

const NOTES = {
  uploading: "Waiting for the upload to complete.",
  planning: "Looking at the file to decide what to make of it.",
  encoding: "Renditions are made in parallel; this page goes on by itself.",
  publishing: "Everything is encoded. Checking it, and warming the CDN.",
};

let playing = false;
let announced = -1;
let fraction = 0;

function setState(state) {
  main.dataset.state = state;
}

/** Shows one thing on the stage. */
function stage(id) {
  for (const element of byId("stage").children) show(element, element.id === id);
  byId("stage").dataset.shows = id === "video" || id === "image" ? "picture" : "words";
  show(byId("controls"), id === "video");
}

function message(state, title, text, next = "", { form = false } = {}) {
  setState(state);
  byId("message-title").textContent = title;
  byId("message-text").textContent = text;
  byId("message-next").textContent = next;
  show(byId("token-form"), form);
  stage("panel-message");
  byId("announcement").textContent = `${title}. ${text}`;
  if (form) byId("token").focus();
}

function askForToken(title, text) {
  message("token", title, text, "Open the link that the upload printed, or paste a token here. It stays in this tab.", { form: true });
}

function showState(media) {
  const status = STATUS[media.status];
  document.title = `${media.filename} · Millrace`;
  byId("title").textContent = media.filename;
  byId("status").textContent = status.label;
  byId("status").dataset.tone = status.tone;
  show(byId("status"));
  show(byId("details"));
  showFacts(media);
  if (media.status === "published") return showPublished(media);
  if (media.status === "failed") {
    byId("no-renditions").textContent = "There are none: the media was not published.";
    const next = media.failure.reason === "upload_aborted" ? "" : "Upload the file again, or a version of it in another format.";
    return message("failed", "This media could not be published", media.failure.message || media.failure.reason, next);
  }
  setState(media.status);
  byId("progress-title").textContent = status.label;
  if (media.status === "uploading") byId("progress-note").textContent = NOTES.uploading;
  showOverall(media.progress);
  stage("panel-progress");
}

function showOverall(latest) {
  fraction = Math.max(fraction, latest);
  byId("overall").value = fraction;
  byId("overall-percent").textContent = percent(fraction);
  const tenth = Math.floor(fraction * 10);
  if (tenth > announced) {
    announced = tenth;
    byId("announcement").textContent = `${byId("progress-title").textContent}, ${percent(fraction)}`;
  }
}

function showProgress({ fraction: latest, tasks }) {
  showOverall(latest);
  const list = byId("tasks");
  for (const [index, task] of tasks.entries()) {
    const row = list.children[index] ?? list.appendChild(taskRow());
    const [name, bar, figure] = row.children;
    name.textContent = task.label;
    bar.value = task.fraction;
    bar.setAttribute("aria-label", task.label);
    figure.textContent = percent(task.fraction);
  }
  while (list.children.length > tasks.length) list.lastChild.remove();
  const done = tasks.length > 0 && tasks.every((task) => task.fraction >= 1);
  byId("progress-note").textContent = done ? NOTES.publishing : tasks.length ? NOTES.encoding : NOTES.planning;
}

function taskRow() {
  return make("li", {}, make("span"), make("progress", { max: 1, value: 0 }), make("span", { class: "percent" }));
}

function showFacts(media) {
  const sound = media.playback?.renditions.find((one) => one.resolution === "audio");
  const duration = media.playback?.renditions[0]?.duration_secs;
  const facts = [
    ["Type", media.content_type],
    ["Original", bytes(media.size_bytes)],
    ["Duration", duration ? playTime(duration) : null],
    ["Sound", sound ? `${sound.codecs}, ${kilobits(sound.bitrate_kbps)}` : null],
    ["Uploaded", moment(media.created_at)],
    ["Published", media.published_at ? moment(media.published_at) : null],
    ["Media id", make("code", { text: media.media_id })],
    ["Playlist", link(media.playback?.manifest_url, "main.m3u8 at the CDN")],
    ["Trace", link(media.links.trace, "From upload to published")],
  ];
  byId("facts").replaceChildren(
    ...facts.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", { text: name }), make("dd", {}, value)]),
  );
}

function link(url, text) {
  return url ? make("a", { href: url, text }) : null;
}

function showPublished(media) {
  if (playing) return;
  playing = true;
  setState("published");
  byId("announcement").textContent = "Published";
  show(byId("no-renditions"), false);
  if (media.type === "image") showImage(media);
  else showVideo(media);
}

function showImage({ filename, playback: { thumbnails, thumbhash } }) {
  const sizes = bySize(thumbnails);
  const image = byId("picture");
  image.alt = filename;
  fill(image, sizes[0], thumbhash);
  stage("image");
  byId("thumbnails").replaceChildren(...sizes.map((ofOneSize) => still(filename, ofOneSize)));
  show(byId("thumbnails"));
}

function still(filename, ofOneSize) {
  const [{ url, size_px: size, width_px: width, height_px: height }] = ofOneSize;
  const image = make("img", { src: url, alt: `${filename}, ${size} px`, loading: "lazy", "data-small": width < 200 });
  const files = ofOneSize.flatMap((one, index) => [index ? ", " : " · ", make("a", { href: one.url, text: format(one) }), ` ${bytes(one.size_bytes)}`]);
  return make(
    "li",
    {},
    make("a", { href: url }, make("picture", {}, ...sources(ofOneSize), image)),
    make("p", {}, make("strong", { text: `${size} px` }), ` · ${width} × ${height}`, ...files),
  );
}

/** "image/webp" → "WebP". */
function format({ content_type: type }) {
  return { "image/jpeg": "JPEG", "image/webp": "WebP", "image/avif": "AVIF" }[type] ?? type;
}

async function showVideo({ playback }) {
  const pictures = playback.renditions.filter((one) => one.width_px > 0).sort((a, b) => b.height_px - a.height_px);
  byId("renditions").replaceChildren(...pictures.map(renditionRow));
  show(byId("renditions-scroll"));
  const video = byId("video");
  if (playback.thumbnails.length) video.poster = playback.thumbnails[0].url;
  const blur = placeholder(playback.thumbhash);
  if (blur) video.style.background = `center / contain no-repeat url("${blur}")`;
  video.addEventListener("loadeddata", () => video.style.removeProperty("background"), { once: true });
  stage("video");
  window.millracePlayer = await play({
    video,
    url: playback.manifest_url,
    picker: byId("level"),
    onLevels: (count) => (main.dataset.levels = count),
    onLevel: ({ height, videoCodec }) => {
      for (const { dataset } of byId("renditions").children) {
        dataset.current = dataset.height === String(height) && (!videoCodec || dataset.codecs === videoCodec);
      }
    },
    onStats: (line) => (byId("stats").textContent = line),
    onFailure: (text) => message("published", "The video is there, but it cannot be played here", text, "Try another browser, or open the playlist in a player."),
  });
}

function renditionRow(one) {
  const cells = [
    ["", one.resolution],
    ["", `${one.width_px} × ${one.height_px}`],
    ["number", one.frame_rate ? `${one.frame_rate} /s` : ""],
    ["number", kilobits(one.bitrate_kbps)],
    ["number", kilobits(one.peak_bitrate_kbps)],
    ["mono", one.codecs],
  ];
  return make("tr", { "data-height": one.height_px, "data-codecs": one.codecs }, ...cells.map(([kind, text]) => make("td", { class: kind || null, text })));
}

async function watch() {
  const onBreak = () => {
    if (main.dataset.state === "loading") message("unreachable", "No answer yet", "The gateway does not answer. Trying again…");
  };
  try {
    for await (const { name, data } of follow(mediaId, { onBreak })) {
      if (name === "progress") showProgress(data);
      if (name === "state") showState(data);
    }
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    refuse(error);
  }
}

function refuse(problem) {
  if (problem.status === 401) {
    token.forget();
    return askForToken("Who is asking?", `${problem.message} Only its owner may watch a media here.`);
  }
  if (problem.status === 404) {
    return message("unknown", "No such media", "There is no media with this address, or it belongs to somebody else.",
      "Check the address, and that the token is its owner's.", { form: true });
  }
  return message("unreachable", "That did not work", problem.message, problem.next);
}

function begin() {
  setState("loading");
  stage("panel-loading");
  if (!token.get()) return askForToken("Who is asking?", "Only its owner may watch a media here.");
  return watch();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.keep(byId("token").value);
  byId("token").value = "";
  begin();
});
window.addEventListener("hashchange", () => token.adopt() && begin());
token.adopt();
begin();
