// One file on its way, as everything else on the page sees it. It holds state and says when that changes; it does nothing.
//
// `state` is one of
//   waiting     for its turn
//   file        for its file, which a reload has taken away
//   starting    the gateway is being asked
//   sending     parts are on their way
//   paused      by its owner
//   finishing   everything is stored; storage joins the parts
//   processing  accepted; renditions are being made
//   published, failed, cancelled

import { Board } from "./board.js";
import { Rate } from "./rate.js";

export const STARTED = ["starting", "sending", "finishing"];
const OVER = ["published", "failed", "cancelled"];

export class Upload extends EventTarget {
  state = "waiting";
  board = null; // known once the server has said how large a part is
  rate = new Rate();
  note = ""; // something its owner should know, though nothing is wrong
  problem = null; // {message, next} of a failure
  media = null; // as the gateway told it last
  fraction = 0; // of its processing
  isRestored = false; // begun by an earlier page
  waits = new Map(); // what is being waited for before it is tried again: key → {why, until}

  /** `record` is what the store keeps; `file` is missing after a reload. */
  constructor(record, file = null) {
    super();
    this.record = record;
    this.file = file;
  }

  get name() {
    return this.record.name;
  }

  get sizeBytes() {
    return this.record.sizeBytes;
  }

  get sentBytes() {
    if (["finishing", "processing", "published"].includes(this.state)) return this.sizeBytes;
    return this.board?.sentBytes ?? 0;
  }

  get isStarted() {
    return STARTED.includes(this.state);
  }

  get isOver() {
    return OVER.includes(this.state);
  }

  /** The wait that ends first, while nothing else goes on; null otherwise. */
  get stalled() {
    if (!this.isStarted || !this.waits.size || this.board?.underWayCount) return null;
    return [...this.waits.values()].reduce((first, one) => (one.until < first.until ? one : first));
  }

  become(state, more = {}) {
    if (state !== this.state) this.rate.restart();
    Object.assign(this, { problem: null }, more, { state });
    if (!this.isStarted) this.waits.clear();
    this.changed();
  }

  lay(partSizeBytes, stored = []) {
    this.board = new Board(this.sizeBytes, partSizeBytes);
    this.board.reset(stored);
    this.changed();
  }

  moved(number, bytes) {
    this.rate.add(Math.max(0, this.board.send(number, bytes)), Date.now());
    this.changed();
  }

  dropped(number) {
    this.board.drop(number);
    this.changed();
  }

  stored(number, etag) {
    this.board.store(number, etag);
    this.changed();
  }

  waiting(key, wait) {
    if (wait) this.waits.set(key, wait);
    else this.waits.delete(key);
    this.changed();
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }
}
