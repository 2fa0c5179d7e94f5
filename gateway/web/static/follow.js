// One media until it is final, whatever the network does meanwhile. The watch page and the upload page both follow.

import { Problem, events } from "./api.js";

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15000;

export const isFinal = (status) => status === "published" || status === "failed";

/**
 * Reads a media's event stream, again after every break. Yields {name, data} until the media is final.
 *
 * Throws Problem when the gateway refuses for good, or the signal's AbortError. `onBreak` hears of every other end.
 */
export async function* follow(mediaId, { signal, onBreak = () => {} } = {}) {
  let delayMs = FIRST_RETRY_MS;
  let final = false;
  for (;;) {
    try {
      for await (const event of events(`/v1/media/${encodeURIComponent(mediaId)}/events`, { signal })) {
        delayMs = FIRST_RETRY_MS;
        if (event.name === "state") final = isFinal(event.data.status);
        yield event;
      }
    } catch (error) {
      if (signal?.aborted || (error instanceof Problem && error.status < 500 && error.status !== 429)) throw error;
      onBreak(error);
    }
    if (final) return; // the gateway has ended the stream by itself
    await new Promise((resolve) => setTimeout(resolve, delayMs * (0.5 + Math.random() / 2)));
    delayMs = Math.min(delayMs * 2, LAST_RETRY_MS);
  }
}
