// One PUT of one part to object storage. XMLHttpRequest, because fetch tells nothing of an upload's progress.

import { Transient } from "./patience.js";
import { meaningOf } from "./retry.js";

const STALLED_MS = 30000; // a phone that changed networks keeps a connection that will never answer
const ANSWER_MS = 120000; // storage may take its time to write a large part down
const LATE_MS = 3000; // when the network comes back, whatever has not moved for so long is dead
const UNSENDABLE = ["content-length", "host"]; // the browser sends these itself, and refuses to be told

/** Storage wants something else than this PUT: `meaning` as in retry.js, except `taken` and `again`. */
export class Answered extends Error {
  constructor(meaning, status, code) {
    super(`Object storage answered ${status}${code ? ` ${code}` : ""}.`);
    this.meaning = meaning;
  }
}

/** The file is gone or was changed. */
export class Unreadable extends Error {}

/**
 * Sends a blob to a presigned URL, once; answers with the entity tag, without quotes, or "" where CORS hides it.
 *
 * Throws Transient (with `isComplete` when every byte had left), Answered, Unreadable, or the signal's reason.
 */
export async function put({ url, headers = {}, blob, signal, onProgress }) {
  try {
    return await send({ url, headers, blob, signal, onProgress });
  } catch (error) {
    if (error instanceof Transient && !(await isReadable(blob))) throw new Unreadable("The file is gone, or it was changed.");
    throw error;
  }
}

/** A request fails in the same way for a lost network and for a lost file; one byte tells which. */
async function isReadable(blob) {
  try {
    await blob.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

function send({ url, headers, blob, signal, onProgress }) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    let isComplete = false;
    let movedMs = performance.now();
    let watchdog = 0;

    const finish = (settle, value) => {
      clearTimeout(watchdog);
      signal.removeEventListener("abort", stop);
      window.removeEventListener("online", recover);
      settle(value);
    };
    const fail = (text) => finish(reject, Object.assign(new Transient(text), { isComplete }));
    const giveUp = (text) => {
      request.abort();
      fail(text);
    };
    const watch = (ms) => {
      movedMs = performance.now();
      clearTimeout(watchdog);
      watchdog = setTimeout(() => giveUp("Object storage has stopped answering."), ms);
    };
    const recover = () => {
      if (performance.now() - movedMs > LATE_MS) giveUp("The connection was lost.");
    };
    const stop = () => {
      request.abort();
      finish(reject, signal.reason);
    };

    request.upload.onprogress = ({ loaded }) => {
      watch(STALLED_MS);
      onProgress(loaded);
    };
    request.upload.onload = () => {
      isComplete = true;
      watch(ANSWER_MS);
    };
    request.onload = () => {
      const code = /<Code>([^<]{1,100})<\/Code>/.exec(request.responseText)?.[1] ?? "";
      const meaning = meaningOf(request.status, code);
      if (meaning === "taken") finish(resolve, (request.getResponseHeader("ETag") ?? "").replaceAll('"', ""));
      else if (meaning === "again") fail(`Object storage answered ${request.status}${code ? ` ${code}` : ""}.`);
      else finish(reject, new Answered(meaning, request.status, code));
    };
    request.onerror = () => fail("The connection to object storage was lost.");

    signal.addEventListener("abort", stop);
    window.addEventListener("online", recover);
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) {
      if (!UNSENDABLE.includes(name.toLowerCase())) request.setRequestHeader(name, value);
    }
    watch(STALLED_MS);
    request.send(blob);
  });
}
