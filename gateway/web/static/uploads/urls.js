// Presigned URLs of the parts of an upload: the first window comes with it, more are asked for when they are needed.

import * as session from "./session.js";

const AHEAD = 50; // URLs signed at once, for the parts that come next
const MARGIN_MS = 60000; // one that expires while its part is on the way is of no use

export class Urls {
  #mediaId;
  #known = new Map(); // number → {url, headers, expiresMs}

  constructor(mediaId, first) {
    this.#mediaId = mediaId;
    if (first) this.#keep(first);
  }

  #keep({ parts, expires_at: expiresAt }) {
    const expiresMs = Date.parse(expiresAt);
    for (const { part_number: number, url, headers } of parts) this.#known.set(number, { url, headers, expiresMs });
  }

  /**
   * The URL of a part. A checksum is bound into it, so such a URL serves one part alone; else those of `next` are asked
   * for in the same call. Throws what the gateway says.
   */
  async of(number, { checksum, next = [], signal }) {
    const known = this.#known.get(number);
    if (known && known.expiresMs - MARGIN_MS > Date.now()) return known;
    const numbers = checksum ? [number] : [number, ...next.filter((one) => one !== number && !this.#known.has(one))].slice(0, AHEAD);
    this.#keep(await session.signParts(this.#mediaId, numbers, checksum ? [checksum] : null, signal));
    return this.#known.get(number);
  }

  /** A URL that storage did not take is not used again. */
  refuse(number) {
    this.#known.delete(number);
  }
}
