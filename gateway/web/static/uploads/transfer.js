// The way of one file: begin or resume, send what storage lacks, complete. Safe to abort and run again at any point.

import { Problem } from "../api.js";
import { sha256 } from "./checksum.js";
import { Transient } from "./patience.js";
import { isHashed, isOnePart, rangeOf, usable } from "./plan.js";
import * as session from "./session.js";
import { Answered, Unreadable, put } from "./storage.js";
import { Urls } from "./urls.js";

const LANES = 4; // parts of one file in flight
const MOST_REFUSALS = 3; // a fresh URL refused so often is not refused for its age
const MOST_ROUNDS = 3; // of completing, finding parts missing, and sending them
const MOST_BEGINNINGS = 3;
const STORED_ELSEWHERE = ["processing", "published"];
const IS_COMPLETING = "upload-completing"; // storage has joined the parts, or lost them: completing again tells

/** The server has no such upload any more: all there is to do is to begin another one. */
class Lost extends Error {}

/** The media turned out to be accepted already, by a call whose answer was lost or in another tab. */
class Accepted extends Error {
  constructor(media) {
    super("accepted");
    this.media = media;
  }
}

/** Nothing that this page does will make it work. */
export class Refused extends Error {
  constructor(message, advice = "") {
    super(message);
    this.next = advice;
  }
}

export const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** What a record holds before the gateway was asked for anything. */
export const newSession = () => ({ mediaId: "", key: newKey(), completeKey: "", isAccepted: false });

export class Transfer {
  #upload;
  #store;
  #slots;
  #patience;
  #signal;
  #urls;
  #known = new Map(); // number → {etag, checksum}

  /** `slots` bound the PUTs of the whole page: a browser opens six connections to a host, and more would only look stalled. */
  constructor(upload, { store, slots, patience, signal }) {
    this.#upload = upload;
    this.#store = store;
    this.#slots = slots;
    this.#patience = patience;
    this.#signal = signal;
  }

  /** Ends with the media, accepted for processing. Throws Problem, Refused, Unreadable, or the signal's reason. */
  async run() {
    for (let beginnings = 1; ; beginnings += 1) {
      try {
        await (this.#record.mediaId ? this.#resume() : this.#begin());
        return await this.#deliver();
      } catch (error) {
        if (error instanceof Accepted) return error.media;
        if (!(error instanceof Lost) || beginnings === MOST_BEGINNINGS) throw error;
        await this.#startOver(error.message);
      }
    }
  }

  get #record() {
    return this.#upload.record;
  }

  // Beginning

  async #begin() {
    const record = this.#record;
    record.algorithm = isHashed(record.sizeBytes) ? session.ALGORITHM : "";
    await this.#store.save(record);
    const checksum = record.algorithm && isOnePart(record.sizeBytes) ? await this.#checksumOf(1) : undefined;
    const begun = await this.#ask(() => session.initiate({ ...record, checksum }, this.#signal));
    Object.assign(record, { mediaId: begun.media_id, partSizeBytes: begun.part_size_bytes });
    await this.#store.save(record);
    this.#urls = new Urls(record.mediaId, begun);
    this.#upload.lay(begun.part_size_bytes);
  }

  async #resume() {
    const record = this.#record;
    this.#known = await this.#store.parts(record.id);
    this.#urls = new Urls(record.mediaId);
    try {
      const held = await this.#held();
      this.#upload.lay(held.part_size_bytes, usable(held.parts, held.part_size_bytes, record.sizeBytes));
    } catch (error) {
      if (!(error instanceof Problem) || error.slug !== IS_COMPLETING) throw error;
      this.#upload.lay(record.partSizeBytes, [...this.#known].filter(([, { etag }]) => etag).map(([number, { etag }]) => [number, etag]));
    }
  }

  async #startOver(why) {
    Object.assign(this.#record, newSession());
    this.#known.clear();
    await this.#store.forgetParts(this.#record.id);
    await this.#store.save(this.#record);
    this.#upload.board = null;
    this.#enter("starting", { note: `${why} It was begun anew.` });
  }

  /** A step begins, unless somebody has paused or cancelled meanwhile. */
  #enter(state, more) {
    this.#signal.throwIfAborted();
    this.#upload.become(state, more);
  }

  // Sending

  async #deliver() {
    for (let round = 1; ; round += 1) {
      this.#enter("sending");
      await this.#sendMissing();
      this.#enter("finishing");
      try {
        return await this.#complete();
      } catch (error) {
        if (!(error instanceof Problem) || !error.slug.startsWith("parts-") || round === MOST_ROUNDS) throw error;
        await this.#look();
      }
    }
  }

  /** Compares with storage: what it holds otherwise than it was sent from here is sent again. */
  async #look() {
    const held = await this.#held();
    const right = [...usable(held.parts, held.part_size_bytes, this.#upload.sizeBytes)].filter(([number, etag]) => {
      const known = this.#known.get(number);
      return !known || known.etag === etag;
    });
    this.#record.completeKey = "";
    this.#upload.lay(held.part_size_bytes, right);
  }

  async #sendMissing() {
    const pending = this.#upload.board.missing();
    const failure = new AbortController();
    const signal = AbortSignal.any([this.#signal, failure.signal]);
    const lane = async () => {
      while (pending.length) await this.#sendPart(pending.shift(), pending, signal);
    };
    const lanes = Array.from({ length: Math.min(LANES, pending.length) }, lane);
    try {
      await Promise.all(lanes);
    } catch (error) {
      failure.abort(error);
      await Promise.allSettled(lanes);
      throw error;
    }
  }

  async #sendPart(number, pending, signal) {
    for (let refusals = 1; ; refusals += 1) {
      const checksum = this.#record.algorithm ? await this.#checksumOf(number) : undefined;
      try {
        const etag = await this.#patience.insist(() => this.#tryPart(number, { checksum, next: pending, signal }), {
          signal,
          isTransient: (error) => error instanceof Transient || session.isTransient(error),
          onWait: (wait) => this.#upload.waiting(number, wait),
        });
        this.#known.set(number, { etag, checksum });
        await this.#store.savePart(this.#record.id, number, { etag, checksum });
        this.#upload.stored(number, etag);
        return;
      } catch (error) {
        if (signal.aborted) throw error;
        if (error instanceof Problem) throw await this.#explained(error);
        if (!(error instanceof Answered)) throw error;
        if (error.meaning === "lost") throw await this.#found(error);
        if (!["sign", "digest"].includes(error.meaning) || refusals === MOST_REFUSALS) throw new Refused(error.message);
        this.#urls.refuse(number);
        this.#known.delete(number);
      }
    }
  }

  /** One try of one part. When its answer was lost, storage is asked before the part is sent a second time. */
  async #tryPart(number, { checksum, next, signal }) {
    const { url, headers } = await this.#urls.of(number, { checksum, next: next.slice(), signal });
    const blob = this.#slice(number);
    const onProgress = (bytes) => this.#upload.moved(number, bytes);
    let failure;
    try {
      const etag = await this.#slots.hold(signal, () => put({ url, headers, blob, signal, onProgress }));
      if (etag) return etag;
      failure = new Refused("Object storage hides its ETag header from this page.", "Its CORS rules have to expose ETag.");
    } catch (error) {
      failure = error;
    }
    this.#upload.dropped(number);
    const mayBeStored = failure instanceof Refused || failure.isComplete || failure.meaning === "there";
    const etag = !signal.aborted && mayBeStored && (await this.#etagAtStorage(number, signal));
    if (etag) return etag;
    throw failure;
  }

  async #etagAtStorage(number, signal) {
    const held = await session.heldParts(this.#record.mediaId, signal);
    return usable(held.parts, held.part_size_bytes, this.#upload.sizeBytes).get(number);
  }

  // Completing

  async #complete() {
    const record = this.#record;
    const parts = [];
    for (const [number, etag] of this.#upload.board.stored()) {
      parts.push({ number, etag, checksum: record.algorithm ? await this.#checksumOf(number) : undefined });
    }
    record.completeKey ||= newKey();
    await this.#store.save(record);
    const call = () => session.complete(record.mediaId, parts, record.completeKey, this.#signal);
    try {
      return await this.#ask(call);
    } catch (error) {
      if (!(error instanceof Problem) || error.slug !== "idempotency-key-reused") throw error;
      record.completeKey = newKey(); // an earlier try named other parts
      return this.#ask(call);
    }
  }

  // What all of it needs

  #slice(number) {
    const { begin, end } = rangeOf(number, this.#upload.board?.partSizeBytes ?? this.#upload.sizeBytes, this.#upload.sizeBytes);
    return this.#upload.file.slice(begin, end);
  }

  async #checksumOf(number) {
    const known = this.#known.get(number)?.checksum;
    if (known) return known;
    this.#signal.throwIfAborted();
    let checksum;
    try {
      checksum = await sha256(this.#slice(number));
    } catch (error) {
      throw new Unreadable("The file is gone, or it was changed.", { cause: error });
    }
    this.#known.set(number, { ...this.#known.get(number), checksum });
    return checksum;
  }

  async #held() {
    return this.#ask(() => session.heldParts(this.#record.mediaId, this.#signal));
  }

  /** Calls the gateway until it answers; a refusal that means something else than it says is translated. */
  async #ask(call) {
    try {
      return await this.#patience.insist(call, {
        signal: this.#signal,
        isTransient: session.isTransient,
        onWait: (wait) => this.#upload.waiting("gateway", wait),
      });
    } catch (error) {
      throw error instanceof Problem ? await this.#explained(error) : error;
    }
  }

  /** An upload that is not what it should be: its media tells what became of it. */
  async #explained(problem) {
    const isAboutState = problem.status === 404 || (problem.status === 409 && problem.slug.startsWith("upload-"));
    const tellsAll = problem.slug === IS_COMPLETING || !this.#record.mediaId;
    return isAboutState && !tellsAll ? this.#found(problem) : problem;
  }

  async #found(error) {
    let media;
    try {
      media = await this.#patience.insist(() => session.media(this.#record.mediaId, this.#signal), {
        signal: this.#signal,
        isTransient: session.isTransient,
        onWait: (wait) => this.#upload.waiting("gateway", wait),
      });
    } catch (refusal) {
      if (refusal instanceof Problem && refusal.status === 404) return new Lost("The server no longer knew this upload.");
      return refusal;
    }
    if (STORED_ELSEWHERE.includes(media.status)) return new Accepted(media);
    if (media.status === "uploading") return new Lost("Object storage no longer held this upload.");
    Object.assign(this.#record, newSession()); // whatever comes next is another upload
    const isGivenUp = media.failure.reason.startsWith("upload_");
    return isGivenUp ? new Lost(media.failure.message) : new Refused(media.failure.message, error.next);
  }
}
