// What an upload's state is called, and what can be done in it. Pure: an upload and the time in, words out.

import { bytes, duration, percent } from "../dom.js";

const LABELS = {
  waiting: ["Waiting", ""],
  file: ["Interrupted", "busy"],
  starting: ["Starting", "busy"],
  sending: ["Uploading", "busy"],
  paused: ["Paused", ""],
  retrying: ["Retrying", "busy"],
  offline: ["Offline", "busy"],
  finishing: ["Finishing", "busy"],
  processing: ["Processing", "busy"],
  published: ["Published", "good"],
  failed: ["Failed", "bad"],
  cancelled: ["Cancelled", ""],
};

const ADVICE = {
  "content-type-unsupported": "",
  "file-too-large": "Choose a smaller file, or a smaller version of this one.",
  "quota-exceeded": "Make room first, or ask for a larger quota.",
  "checksum-mismatch": "What arrived is not what was read here. Upload the file again.",
  "validation-failed": "",
};

const HOPELESS = ["content-type-unsupported", "file-too-large", "validation-failed"]; // the same file would be refused again

/** The state as a person sees it: an upload that waits for a better moment is retrying, or offline. */
export function shownState(upload, isOnline) {
  if (!upload.stalled) return upload.state;
  return isOnline ? "retrying" : "offline";
}

export function label(upload, isOnline) {
  const [text, tone] = LABELS[shownState(upload, isOnline)];
  return { text, tone };
}

/** How much of the file is at storage, 0 to 1. */
export const sentFraction = (upload) => upload.sentBytes / Math.max(1, upload.sizeBytes);

/** One line of figures under the strip. */
export function figures(upload, nowMs) {
  const { state, board, sizeBytes } = upload;
  if (state === "processing") return [`${percent(upload.fraction)} processed`, bytes(sizeBytes)];
  if (!board || ["published", "failed", "cancelled", "finishing"].includes(state)) return [bytes(sizeBytes)];
  const rate = upload.rate.at(nowMs);
  return [
    `${bytes(upload.sentBytes)} of ${bytes(sizeBytes)}`,
    board.count > 1 ? `${board.storedCount} of ${board.count} parts stored` : null,
    state === "sending" && rate && !upload.stalled ? `${bytes(rate)}/s` : null,
    state === "sending" && rate && !upload.stalled ? `${duration((sizeBytes - upload.sentBytes) / rate)} left` : null,
  ].filter(Boolean);
}

/** What the strip says to who cannot see it. */
export function stripText(upload, isOnline) {
  const parts = upload.board && upload.board.count > 1 ? `, ${upload.board.storedCount} of ${upload.board.count} parts stored` : "";
  return `${label(upload, isOnline).text}, ${percent(sentFraction(upload))} sent${parts}`;
}

/** A sentence or two about what is out of the ordinary, and what to do about it. */
export function remark(upload, isOnline, nowMs) {
  const { state, stalled, problem, record } = upload;
  if (state === "failed") return { text: problem.message, advice: ADVICE[problem.slug] ?? problem.next ?? "" };
  if (state === "file") {
    const kept = record.mediaId ? "Only what is missing will be sent." : "Nothing of it was sent yet.";
    if (upload.note) return { text: upload.note, advice: "Drop the same file again to go on, or choose it." };
    if (record.isPaused && record.handle) return { text: `Paused before this page was reloaded. ${kept}`, advice: "" };
    if (record.handle) return { text: `The page was reloaded meanwhile. ${kept}`, advice: "Resume asks whether the file may be read again." };
    return { text: `The page was reloaded meanwhile. ${kept}`, advice: "Drop the same file again to go on, or choose it." };
  }
  if (stalled && !isOnline) return { text: "This device is offline.", advice: "It goes on by itself once the network is back." };
  if (stalled) {
    const inS = Math.max(0, Math.ceil((stalled.until - nowMs) / 1000));
    return { text: stalled.why, advice: inS ? `Tries again in ${inS} s.` : "Trying again…" };
  }
  return { text: upload.note, advice: "" };
}

const GO = {
  starting: ["pause", "Pause", "pause"],
  sending: ["pause", "Pause", "pause"],
  waiting: ["pause", "Pause", "pause"],
  paused: ["resume", "Resume", "play"],
  cancelled: ["resume", "Upload again", "again"],
  failed: ["retry", "Try again", "again"],
};
const NO_FILE = ["choose", "Choose file…", "folder"];

/** What can be done: `go` as [what, name, icon] or null, and whether each of the others is offered. */
export function actions(upload) {
  const { state, file, record, sizeBytes, problem } = upload;
  let go = GO[state] ?? null;
  if (state === "file") go = record.handle ? ["resume", "Resume", "play"] : NO_FILE;
  else if (go && !file && !record.handle) go = NO_FILE;
  if (state === "failed" && (sizeBytes === 0 || HOPELESS.includes(problem.slug))) go = null;
  return {
    go,
    now: Boolean(upload.stalled),
    watch: state === "processing" || state === "published",
    copy: state === "published",
    end: upload.isOver || state === "processing" ? ["remove", "Remove"] : ["cancel", "Cancel"],
  };
}
