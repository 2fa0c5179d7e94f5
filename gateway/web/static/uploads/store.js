// What outlives a reload: each upload's facts and parts, in IndexedDB, which alone can keep a handle to a file.
//
// The file's bytes are never stored. Without IndexedDB (some private windows) uploads work and are forgotten with the page.

const NAME = "millrace";
const DAY_MS = 24 * 3600 * 1000;
const KEPT_MS = 7 * DAY_MS; // longer than any server keeps an upload open

export class Store {
  #opening = open();

  /** One owner's uploads, oldest first; the very old ones are forgotten. */
  async all(owner) {
    const records = (await this.#do("uploads", "readonly", (uploads) => uploads.getAll())) ?? [];
    const isOld = (record) => Date.now() - record.addedMs > (record.isAccepted ? DAY_MS : KEPT_MS);
    for (const record of records.filter(isOld)) await this.forget(record.id);
    return records.filter((record) => !isOld(record) && record.owner === owner).sort((a, b) => a.addedMs - b.addedMs);
  }

  save(record) {
    return this.#do("uploads", "readwrite", (uploads) => uploads.put(record));
  }

  async forget(id) {
    await this.#do("uploads", "readwrite", (uploads) => uploads.delete(id));
    await this.forgetParts(id);
  }

  /** What was known of each stored part, by number. */
  async parts(id) {
    const [keys, values] = await Promise.all([
      this.#do("parts", "readonly", (parts) => parts.getAllKeys(within(id))),
      this.#do("parts", "readonly", (parts) => parts.getAll(within(id))),
    ]);
    return new Map((keys ?? []).map(([, number], index) => [number, values[index]]));
  }

  savePart(id, number, part) {
    return this.#do("parts", "readwrite", (parts) => parts.put(part, [id, number]));
  }

  forgetParts(id) {
    return this.#do("parts", "readwrite", (parts) => parts.delete(within(id)));
  }

  /** A full disk or a cleared profile must not stop an upload: then it is merely not remembered. */
  async #do(name, mode, work) {
    const database = await this.#opening;
    if (!database) return undefined;
    try {
      return await outcome(work(database.transaction(name, mode).objectStore(name)));
    } catch (error) {
      console.info("An upload could not be remembered:", error.message);
      return undefined;
    }
  }
}

async function open() {
  try {
    const opening = indexedDB.open(NAME, 1);
    opening.onupgradeneeded = () => {
      opening.result.createObjectStore("uploads", { keyPath: "id" });
      opening.result.createObjectStore("parts"); // [upload's id, part number] → {etag, checksum}
    };
    return await outcome(opening);
  } catch (error) {
    console.info("Uploads are not remembered beyond this page:", error.message);
    return null;
  }
}

const within = (id) => IDBKeyRange.bound([id], [id, []]); // arrays sort after numbers

function outcome(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another tab holds an older version"));
  });
}

/**
 * Takes an upload for this tab, until the page ends: two tabs must not send the same one.
 * Answers with what gives it back, or null when another tab has it.
 */
export function claim(id) {
  if (!navigator.locks) return Promise.resolve(() => {});
  return new Promise((resolve) => {
    navigator.locks.request(`millrace-upload-${id}`, { ifAvailable: true }, (lock) => {
      if (!lock) return resolve(null);
      return new Promise((release) => resolve(release));
    });
  });
}
