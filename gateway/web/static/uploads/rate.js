// How fast bytes move, over the last few seconds. Pure: the time is always given.

const WINDOW_MS = 6000;
const SETTLED_MS = 1000; // what was measured for less time than this would only flicker

export class Rate {
  #samples = [];
  #movedBytes = 0;

  /** More bytes have moved; those of a failed try have moved as well. */
  add(bytes, nowMs) {
    this.#movedBytes += bytes;
    const last = this.#samples.at(-1);
    if (last && nowMs - last.ms < 200) last.bytes = this.#movedBytes;
    else this.#samples.push({ ms: nowMs, bytes: this.#movedBytes });
    while (this.#samples.length > 2 && nowMs - this.#samples[0].ms > WINDOW_MS) this.#samples.shift();
  }

  /** Forgets what was before a pause. */
  restart() {
    this.#samples = [];
  }

  /** Bytes a second, or 0 while that is not known. */
  at(nowMs) {
    const [first] = this.#samples;
    if (!first || nowMs - first.ms < SETTLED_MS || nowMs - this.#samples.at(-1).ms > WINDOW_MS) return 0;
    return ((this.#movedBytes - first.bytes) * 1000) / (nowMs - first.ms);
  }
}
