// A bounded number of something at once; who waits longest is next.

export class Slots {
  #free;
  #waiting = [];

  constructor(count) {
    this.#free = count;
  }

  /** Runs a function while holding a slot. Rejects with the signal's reason when that comes first. */
  async hold(signal, run) {
    await this.#acquire(signal);
    try {
      return await run();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }

  #acquire(signal) {
    signal.throwIfAborted();
    if (this.#free > 0) {
      this.#free -= 1;
      return undefined;
    }
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#waiting = this.#waiting.filter((one) => one !== enter);
        reject(signal.reason);
      };
      const enter = () => {
        signal.removeEventListener("abort", abort);
        resolve();
      };
      this.#waiting.push(enter);
      signal.addEventListener("abort", abort);
    });
  }
}
