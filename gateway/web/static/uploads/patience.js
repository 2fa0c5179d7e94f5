// Waits that good news cuts short: the network is back, or somebody pressed "Try now".

import { delayMs } from "./retry.js";

/** A try that failed, and may succeed when it is made again. */
export class Transient extends Error {
  constructor(message, retryAfterMs = 0) {
    super(message);
    this.retryAfterMs = retryAfterMs;
  }
}

export class Patience {
  #sleeping = new Set();

  constructor() {
    window.addEventListener("online", () => this.wake());
  }

  /** Ends every wait now. */
  wake() {
    for (const wake of [...this.#sleeping]) wake();
  }

  /** Resolves after so many milliseconds, or at `wake`. Rejects with the signal's reason. */
  sleep(ms, signal) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        clearTimeout(timer);
        this.#sleeping.delete(wake);
        signal.removeEventListener("abort", abort);
        settle(value);
      };
      const wake = () => finish(resolve);
      const abort = () => finish(reject, signal.reason);
      const timer = setTimeout(wake, ms);
      if (signal.aborted) return abort();
      this.#sleeping.add(wake);
      signal.addEventListener("abort", abort);
    });
  }

  /**
   * Tries until it works, however long that takes: a person who wants no more of it pauses or cancels.
   *
   * Only what `isTransient` calls so is tried again. `onWait` hears {why, until} before each wait, and null after the last.
   * A browser's word that it is offline is no reason not to try, since it may be wrong; it is only said to the person.
   */
  async insist(attempt, { signal, isTransient, onWait }) {
    for (let failures = 1; ; failures += 1) {
      try {
        return await attempt();
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (!isTransient(error)) throw error;
        const ms = Math.max(delayMs(failures, Math.random()), error.retryAfterMs ?? 0);
        onWait({ why: error.message, until: Date.now() + ms });
        try {
          await this.sleep(ms, signal);
        } finally {
          onWait(null);
        }
      }
    }
  }
}
