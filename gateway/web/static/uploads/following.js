// What becomes of the accepted: two are followed live, the others are asked for in turn.
//
// A browser opens six connections to a host; event streams without a bound would leave none for the uploads themselves.

import { Problem } from "../api.js";
import { follow, isFinal } from "../follow.js";
import * as session from "./session.js";

const LIVE = 2;
const POLL_MS = 1500;

export class Following {
  #waiting = []; // {upload, onFinal}, not followed live
  #live = new Map(); // upload → AbortController
  #polling = false;

  /** Follows an upload's media until it is final, then calls `onFinal`. */
  add(upload, onFinal) {
    this.#waiting.push({ upload, onFinal });
    this.#next();
  }

  drop(upload) {
    this.#waiting = this.#waiting.filter((one) => one.upload !== upload);
    this.#live.get(upload)?.abort();
  }

  #next() {
    while (this.#live.size < LIVE && this.#waiting.length) this.#follow(this.#waiting.shift());
    if (this.#waiting.length && !this.#polling) this.#poll();
  }

  async #follow({ upload, onFinal }) {
    const stopping = new AbortController();
    this.#live.set(upload, stopping);
    try {
      for await (const { name, data } of follow(upload.record.mediaId, { signal: stopping.signal })) {
        if (name === "progress") progress(upload, data.fraction);
        if (name === "state") show(upload, data, onFinal);
      }
    } catch (error) {
      if (!stopping.signal.aborted) refuse(upload, error, onFinal);
    } finally {
      this.#live.delete(upload);
      this.#next();
    }
  }

  async #poll() {
    this.#polling = true;
    while (this.#waiting.length) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      const one = this.#waiting.shift();
      if (!one) break;
      const stays = await ask(one);
      if (stays) this.#waiting.push(one);
    }
    this.#polling = false;
  }
}

/** One look; whether another one is needed. */
async function ask({ upload, onFinal }) {
  try {
    const media = await session.media(upload.record.mediaId, new AbortController().signal);
    show(upload, media, onFinal);
    return !isFinal(media.status);
  } catch (error) {
    if (session.isTransient(error)) return true;
    refuse(upload, error, onFinal);
    return false;
  }
}

function progress(upload, fraction) {
  upload.fraction = Math.max(upload.fraction, fraction);
  upload.changed();
}

function show(upload, media, onFinal) {
  upload.media = media;
  upload.fraction = Math.max(upload.fraction, media.progress);
  if (!isFinal(media.status)) return upload.changed();
  const problem = media.failure && { message: media.failure.message || media.failure.reason, next: ADVICE };
  upload.become(media.status, { problem });
  return onFinal();
}

const ADVICE = "Upload it again, or a version of it in another format.";

function refuse(upload, error, onFinal) {
  if (!(error instanceof Problem)) throw error;
  const isGone = error.status === 404;
  upload.become("failed", { problem: isGone ? { message: "The server no longer knows this media.", next: "" } : error });
  onFinal();
}
