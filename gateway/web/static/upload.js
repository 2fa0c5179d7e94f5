// The upload page: files come in, go to object storage in parts, and end at their watch pages.
//
// `data-state` of <main> is one of loading, token, ready; that of a row is the state of its upload (uploads/upload.js),
// or retrying or offline. What each module below `uploads/` owns, it says in its first line.

import { token } from "./api.js";
import { byId, bytes, percent, show } from "./dom.js";
import { Announcer } from "./uploads/announcer.js";
import { Following } from "./uploads/following.js";
import { List } from "./uploads/list.js";
import { isSameFile } from "./uploads/plan.js";
import { Queue } from "./uploads/queue.js";
import * as session from "./uploads/session.js";
import { chosen, chosenFolder, dropped, ofInput, pasted } from "./uploads/source.js";
import { Store } from "./uploads/store.js";

const main = byId("main");
const announcer = new Announcer(byId("announcement"));
const queue = new Queue(new Store(), new Following());
let owner = null;

// Who uploads

function askForToken(text) {
  main.dataset.state = "token";
  byId("sign-in-text").textContent = text;
  show(byId("sign-in"));
  byId("token").focus();
}

/** Goes on with the token of this tab. Another person's token gets a fresh page: this one has begun somebody's uploads. */
async function signIn() {
  if (!token.get()) return askForToken("Paste a token of yours here. It stays in this tab.");
  const subject = token.subject();
  if (owner !== null && owner !== subject && queue.uploads.some((one) => one.record.mediaId)) return location.reload();
  owner = subject;
  show(byId("sign-in"), false);
  main.dataset.state = "ready";
  await queue.serve(owner);
  return showQuota();
}

queue.addEventListener("token", ({ detail }) => {
  token.forget();
  askForToken(`${detail.message} Uploads go on with a fresh one.`);
  announcer.say("A fresh access token is needed. Uploads wait for it.");
});

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.keep(byId("token").value);
  byId("token").value = "";
  signIn();
  byId("choose").focus();
});

async function showQuota() {
  try {
    const { used_bytes: used, limit_bytes: limit } = await session.quota(new AbortController().signal);
    // Whose files these will be stands beside it: a link may have brought somebody else's token.
    const room = limit ? `${bytes(used)} of ${bytes(limit)} used` : used ? `${bytes(used)} stored` : "";
    byId("quota").textContent = [token.subject() && `Signed in as ${token.subject()}`, room].filter(Boolean).join(" · ");
    show(byId("quota"), Boolean(byId("quota").textContent));
  } catch {
    show(byId("quota"), false); // good to know, and nothing depends on it
  }
}

// Files in

async function take(finding) {
  const found = await finding;
  if (!found) return;
  const { added, resumed, there, tooMany } = await queue.add(found.files);
  const files = (count) => `${count} ${count === 1 ? "file" : "files"}`;
  const words = [
    added ? `${files(added)} added.` : "",
    resumed ? `${files(resumed)} resumed.` : "",
    there ? `${files(there)} already in the list.` : "",
    tooMany ? `${files(tooMany)} too many: clear the list first.` : "",
    found.skipped ? `${files(found.skipped)} left out, neither image nor video.` : "",
  ].filter(Boolean);
  announcer.say(words.join(" ") || "No files were found.");
  const isAsHoped = added + resumed === found.files.length && added + resumed > 0 && !found.skipped;
  byId("drop-found").textContent = words.join(" ") || "No files were found there.";
  show(byId("drop-found"), !isAsHoped);
}

byId("choose").addEventListener("click", () => take(chosen(byId("files"))));
byId("choose-folder").addEventListener("click", () => take(chosenFolder(byId("folder"))));
for (const id of ["files", "folder"]) byId(id).addEventListener("change", ({ target }) => take(ofInput(target)));
document.addEventListener("paste", ({ clipboardData }) => clipboardData.files.length && take(pasted(clipboardData)));

let depth = 0; // of elements that the pointer has entered with files
const hasFiles = ({ dataTransfer }) => dataTransfer?.types.includes("Files");

function showOverlay(count) {
  byId("overlay-text").textContent = count > 1 ? `Drop ${count} items to upload` : "Drop to upload";
  show(byId("overlay"), depth > 0);
}

window.addEventListener("dragenter", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  depth += 1;
  showOverlay(event.dataTransfer.items.length);
});
window.addEventListener("dragleave", (event) => {
  if (!hasFiles(event)) return;
  depth = Math.max(0, depth - 1);
  showOverlay(0);
});
window.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
});
window.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  depth = 0;
  showOverlay(0);
  take(dropped(event.dataTransfer));
});

// What a person does with an upload

const acts = {
  pause: (upload) => queue.pause(upload),
  resume: (upload) => queue.resume(upload),
  retry: (upload) => queue.retry(upload),
  remove: (upload) => queue.remove(upload),
  now: () => queue.patience.wake(),
  cancel: async (upload) => {
    if (!upload.sentBytes || (await confirmed(upload))) queue.cancel(upload);
  },
  choose: (upload) => {
    lacking = upload;
    again();
  },
};
new List(queue, (what, upload) => acts[what](upload), sayQuarters);

let lacking = null; // the upload that a file is being chosen for

async function again() {
  const found = await chosen(byId("again"));
  if (found) give(found);
}

function give({ files: [one] }) {
  if (!one || !lacking) return;
  if (isSameFile(lacking.record, one.file) || lacking.state !== "file") return queue.give(lacking, one.file, one.handle);
  const isRenamed = one.file.name !== lacking.name;
  lacking.note = isRenamed ? `That was another file: ${one.file.name}.` : "That file has the same name, but was changed since.";
  lacking.changed();
  announcer.say(lacking.note);
}
byId("again").addEventListener("change", ({ target }) => give(ofInput(target)));

/** Asks before what has been sent is thrown away. */
function confirmed(upload) {
  const dialogue = byId("confirm");
  byId("confirm-text").textContent = `${upload.name}: ${bytes(upload.sentBytes)} of ${bytes(upload.sizeBytes)} have been sent and will be thrown away.`;
  dialogue.returnValue = "keep";
  dialogue.showModal();
  return new Promise((resolve) => {
    dialogue.addEventListener("close", () => resolve(dialogue.returnValue === "cancel"), { once: true });
  });
}

/** The button that was pressed goes; the one that takes its place has the focus from now on. */
function pass(id) {
  show(byId(id));
  byId(id).focus();
}

byId("pause-all").addEventListener("click", () => {
  for (const one of queue.uploads) if ((one.isStarted && one.state !== "finishing") || one.state === "waiting") queue.pause(one);
  pass("resume-all");
});
byId("resume-all").addEventListener("click", async () => {
  pass("pause-all");
  for (const one of queue.uploads) if (one.state === "paused" || (one.state === "file" && one.record.handle)) await queue.resume(one);
});
byId("clear").addEventListener("click", () => {
  for (const one of queue.uploads) if (one.isOver) queue.remove(one);
  byId("choose").focus();
});

// What is said

queue.addEventListener("settled", ({ detail: upload }) => {
  showQuota();
  if (upload.isRestored && upload.state === "published") return;
  const words = { published: "is published", failed: `failed: ${upload.problem?.message}`, cancelled: "was cancelled" };
  announcer.say(`${upload.name} ${words[upload.state]}`.replace(/[.!]?$/, "."));
});

let quarter = 0;

function sayQuarters({ fraction, isUnderWay, title }) {
  const now = isUnderWay ? Math.floor(fraction * 4) : 0;
  if (now > quarter && now < 4) announcer.say(`${title}, ${percent(fraction)}.`);
  quarter = now;
}

const isSending = () => queue.activeCount > 0;
window.addEventListener("offline", () => isSending() && announcer.say("Offline. Uploads go on by themselves once the network is back."));
window.addEventListener("online", () => isSending() && announcer.say("Back online."));
window.addEventListener("beforeunload", (event) => {
  if (!isSending()) return;
  event.preventDefault();
  event.returnValue = true; // for browsers of before 2023
});
window.addEventListener("hashchange", () => token.adopt() && signIn());

token.adopt();
signIn();
