// Where each part of a file stands. Pure state: what is stored, what is under way, and how a strip shows it.

export class Board {
  #underWay = new Map(); // number → bytes sent so far
  #stored = new Map(); // number → entity tag
  #sizeBytes;
  #storedBytes = 0;

  constructor(sizeBytes, partSizeBytes) {
    this.#sizeBytes = sizeBytes;
    this.partSizeBytes = partSizeBytes;
    this.count = Math.max(1, Math.ceil(sizeBytes / partSizeBytes));
  }

  get storedCount() {
    return this.#stored.size;
  }

  get underWayCount() {
    return this.#underWay.size;
  }

  get sentBytes() {
    let sum = this.#storedBytes;
    for (const bytes of this.#underWay.values()) sum += bytes;
    return sum;
  }

  sizeOf(number) {
    return Math.min(this.partSizeBytes, this.#sizeBytes - (number - 1) * this.partSizeBytes);
  }

  /** A part is on its way; returns by how many bytes that is more than before. */
  send(number, bytes) {
    const more = bytes - (this.#underWay.get(number) ?? 0);
    this.#underWay.set(number, bytes);
    return more;
  }

  /** A part's try is over without success. */
  drop(number) {
    this.#underWay.delete(number);
  }

  store(number, etag) {
    this.#underWay.delete(number);
    if (!this.#stored.has(number)) this.#storedBytes += this.sizeOf(number);
    this.#stored.set(number, etag);
  }

  /** Takes over what storage says it holds, and nothing else. */
  reset(stored) {
    this.#underWay.clear();
    this.#stored.clear();
    this.#storedBytes = 0;
    for (const [number, etag] of stored) this.store(number, etag);
  }

  /** Every part's entity tag, by ascending number. */
  stored() {
    return [...this.#stored].sort(([a], [b]) => a - b);
  }

  missing() {
    const numbers = [];
    for (let number = 1; number <= this.count; number += 1) if (!this.#stored.has(number)) numbers.push(number);
    return numbers;
  }

  /** The whole as at most `most` cells of equal width: how much of each is stored, and how much under way, 0 to 1. */
  cells(most) {
    const count = Math.min(this.count, most);
    const cells = Array.from({ length: count }, () => ({ parts: 0, stored: 0, underWay: 0 }));
    const cellOf = (number) => cells[Math.floor(((number - 1) * count) / this.count)];
    for (let number = 1; number <= this.count; number += 1) {
      const cell = cellOf(number);
      cell.parts += 1;
      if (this.#stored.has(number)) cell.stored += 1;
      else if (this.#underWay.has(number)) cell.underWay += this.#underWay.get(number) / this.sizeOf(number);
    }
    return cells.map(({ parts, stored, underWay }) => ({ stored: stored / parts, underWay: underWay / parts }));
  }
}
