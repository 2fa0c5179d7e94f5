// Every upload of the page: which run now, which wait, and what a person does with them.

import { Problem } from "../api.js";
import { Patience } from "./patience.js";
import { contentTypeOf, isSameFile } from "./plan.js";
import * as session from "./session.js";
import { Slots } from "./slots.js";
import { Unreadable } from "./storage.js";
import { claim } from "./store.js";
import { Transfer, newKey, newSession } from "./transfer.js";
import { Upload } from "./upload.js";

const FILES_AT_ONCE = 4;
const PUTS_AT_ONCE = 6; // what a browser opens to one host over HTTP/1.1
const MOST_FILES = 1000;
const ABORT_GIVEN_UP_MS = 60000; // the server sweeps what nobody aborted

const INTERRUPTED = new DOMException("interrupted", "AbortError");

/**
 * Events: `added` and `removed` with an upload as `detail`, `change` for anything, `settled` when one is over,
 * `token` when the gateway wants another token.
 */
export class Queue extends EventTarget {
  uploads = [];
  patience = new Patience();
  #store;
  #following;
  #slots = new Slots(PUTS_AT_ONCE);
  #running = new Map(); // upload → AbortController
  #claims = new Map(); // upload → what gives it back
  #owner = null; // null while nobody has said who they are
  #restoring = Promise.resolve();

  constructor(store, following) {
    super();
    this.#store = store;
    this.#following = following;
  }

  /** Begins or goes on for this owner; null halts whatever has not begun. */
  async serve(owner) {
    const isNew = owner !== null && this.#owner === null;
    this.#owner = owner;
    if (isNew) this.#restoring = this.#restore();
    await this.#restoring;
    this.#pump();
  }

  get activeCount() {
    return this.#running.size;
  }

  /** Adds files as {file, handle, path}. Answers with how many were added, resumed, there already, or too many. */
  async add(sources) {
    await this.#restoring; // a file may be the one that an upload of an earlier page lacks
    const told = { added: 0, resumed: 0, there: 0, tooMany: 0 };
    for (const { file, handle, path } of sources) {
      const same = this.uploads.find((one) => !one.isOver && isSameFile(one.record, file) && one.record.path === path);
      const lacking = this.uploads.find((one) => one.state === "file" && isSameFile(one.record, file));
      if (lacking) {
        told.resumed += 1;
        this.give(lacking, file, handle);
      } else if (same) {
        told.there += 1;
      } else if (this.uploads.length >= MOST_FILES) {
        told.tooMany += 1;
      } else {
        told.added += 1;
        await this.#append(file, handle, path);
      }
    }
    return told;
  }

  async #append(file, handle, path) {
    const record = {
      id: newKey(),
      owner: this.#owner,
      name: file.name,
      path,
      sizeBytes: file.size,
      lastModified: file.lastModified,
      contentType: contentTypeOf(file.name, file.type),
      addedMs: Date.now() + this.uploads.length / 1000, // so that those of one drop keep their order
      ...newSession(),
      handle,
    };
    const upload = new Upload(record, file);
    if (file.size === 0) {
      this.#show(upload);
      upload.become("failed", { problem: { message: "The file is empty.", next: "" } });
      return;
    }
    this.#claims.set(upload, await claim(record.id));
    this.#save(upload);
    this.#show(upload);
    this.#pump();
  }

  #show(upload) {
    this.uploads.push(upload);
    upload.addEventListener("change", () => this.dispatchEvent(new Event("change")));
    this.dispatchEvent(new CustomEvent("added", { detail: upload }));
    this.dispatchEvent(new Event("change"));
  }

  /** An upload of before somebody signed in belongs to nobody yet, and is not kept. */
  #save(upload) {
    if (this.#owner === null) return undefined;
    upload.record.owner = this.#owner;
    return this.#store.save(upload.record);
  }

  // What an earlier page began

  async #restore() {
    for (const upload of this.uploads) if (!upload.isOver) this.#save(upload);
    for (const record of await this.#store.all(this.#owner)) {
      if (this.uploads.some((one) => one.record.id === record.id)) continue;
      const release = await claim(record.id);
      if (!release) continue; // another tab is at it
      const upload = new Upload(record);
      upload.isRestored = true;
      this.#claims.set(upload, release);
      if (record.isAccepted) {
        upload.state = "processing";
        this.#show(upload);
        this.#following.add(upload, () => this.#settled(upload));
      } else {
        upload.state = "file";
        if (record.mediaId) upload.lay(record.partSizeBytes, [...(await this.#store.parts(record.id))].map(([number, { etag }]) => [number, etag]));
        this.#show(upload);
        await this.#reopen(upload, (handle) => handle.queryPermission({ mode: "read" }));
      }
    }
  }

  /** Gets the file from its handle, where there is one and the browser permits it. */
  async #reopen(upload, permission) {
    const { handle, isPaused } = upload.record;
    if (!handle || isPaused) return;
    try {
      const permitted = await permission(handle);
      if (permitted === "denied") throw new Error("the browser may not read the file");
      if (permitted !== "granted") return;
      this.give(upload, await handle.getFile(), handle);
    } catch {
      upload.record.handle = undefined; // forbidden, moved, deleted, or on a disk that is not there
      upload.become("file");
    }
  }

  /** Hands an upload its file again. A file that was changed since is another file, and is begun anew. */
  give(upload, file, handle) {
    const isSame = isSameFile(upload.record, file);
    if (!isSame) {
      const { mediaId } = upload.record;
      if (mediaId) this.#abort(mediaId);
      Object.assign(upload.record, { sizeBytes: file.size, lastModified: file.lastModified }, newSession());
      this.#store.forgetParts(upload.record.id);
    }
    upload.note = isSame ? "" : "The file was changed since, so it was begun anew.";
    upload.file = file;
    upload.record.handle = handle ?? upload.record.handle;
    this.resume(upload);
  }

  // What a person does

  pause(upload) {
    upload.record.isPaused = true;
    this.#save(upload);
    upload.become("paused");
    this.#stop(upload);
  }

  /** Goes on. Needs a person's click where the browser has to ask whether the file may be read again. */
  async resume(upload) {
    upload.record.isPaused = false;
    if (!upload.file) return this.#reopen(upload, (handle) => handle.requestPermission({ mode: "read" }));
    await this.#save(upload);
    upload.become("waiting");
    this.#pump();
  }

  /** Tries again after a failure: an upload that the server may still have goes on, else it is begun anew. */
  retry(upload) {
    upload.note = "";
    return this.resume(upload);
  }

  cancel(upload) {
    const { mediaId } = upload.record;
    upload.become("cancelled", { board: null, note: "" });
    this.#stop(upload);
    Object.assign(upload.record, newSession());
    this.#store.forget(upload.record.id);
    if (mediaId) this.#abort(mediaId);
    this.dispatchEvent(new CustomEvent("settled", { detail: upload }));
  }

  /** Takes an upload off the list. */
  remove(upload) {
    this.#following.drop(upload);
    this.#store.forget(upload.record.id);
    this.#claims.get(upload)?.();
    this.#claims.delete(upload);
    this.uploads = this.uploads.filter((one) => one !== upload);
    this.dispatchEvent(new CustomEvent("removed", { detail: upload }));
    this.dispatchEvent(new Event("change"));
  }

  #stop(upload) {
    this.#running.get(upload)?.abort(INTERRUPTED);
  }

  async #abort(mediaId) {
    const signal = AbortSignal.timeout(ABORT_GIVEN_UP_MS);
    try {
      await this.patience.insist(() => session.abort(mediaId, signal), { signal, isTransient: session.isTransient, onWait: () => {} });
    } catch (error) {
      console.info("An upload could not be aborted; the server will sweep it:", error.message);
    }
  }

  // What runs

  #pump() {
    if (this.#owner === null) return;
    for (const upload of this.uploads) {
      if (this.#running.size >= FILES_AT_ONCE) return;
      if (upload.state === "waiting" && !this.#running.has(upload)) this.#run(upload);
    }
  }

  async #run(upload) {
    const stopping = new AbortController();
    this.#running.set(upload, stopping);
    upload.become("starting");
    try {
      const transfer = new Transfer(upload, {
        store: this.#store, slots: this.#slots, patience: this.patience, signal: stopping.signal,
      });
      this.#accept(upload, await transfer.run());
    } catch (error) {
      if (!stopping.signal.aborted) this.#fail(upload, error);
    } finally {
      this.#running.delete(upload);
      this.#pump();
    }
  }

  #accept(upload, media) {
    upload.record.isAccepted = true;
    this.#save(upload);
    this.#store.forgetParts(upload.record.id);
    upload.media = media;
    upload.become("processing");
    this.#following.add(upload, () => this.#settled(upload));
  }

  #settled(upload) {
    if (upload.state === "failed") {
      if (upload.record.isAccepted) Object.assign(upload.record, newSession()); // to try again is to upload again
      this.#store.forget(upload.record.id);
    }
    this.dispatchEvent(new CustomEvent("settled", { detail: upload }));
  }

  #fail(upload, error) {
    if (error instanceof Problem && error.status === 401) {
      upload.become("waiting");
      this.#owner = null;
      this.dispatchEvent(new CustomEvent("token", { detail: error }));
      return;
    }
    if (!(error instanceof Problem)) console.info(`${upload.name}:`, error);
    upload.become("failed", { problem: error });
    if (error instanceof Unreadable) {
      upload.file = null; // what storage holds already is still good for the file, should it come back
      upload.record.handle = undefined;
      this.#save(upload);
      this.dispatchEvent(new CustomEvent("settled", { detail: upload }));
    } else {
      this.#settled(upload);
    }
  }
}
