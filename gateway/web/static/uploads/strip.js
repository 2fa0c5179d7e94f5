// The parts of a file side by side on one canvas: stored, under way, still to come. One element however many parts.

const CELL_PX = 7; // narrower ones could not be told apart
const GAP_PX = 2;
const HEIGHT_PX = 12;
const RADIUS_PX = 2.5;

export class Strip {
  #canvas;
  #board = null;
  #widthPx = 0;

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(([{ contentRect }]) => {
      this.#widthPx = contentRect.width;
      this.draw(this.#board);
    }).observe(canvas);
  }

  draw(board) {
    this.#board = board;
    if (!this.#widthPx) return;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(this.#widthPx * scale), Math.round(HEIGHT_PX * scale)];
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    const pen = this.#canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, this.#widthPx, HEIGHT_PX);
    const style = getComputedStyle(this.#canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const cells = board ? board.cells(Math.max(1, Math.floor(this.#widthPx / CELL_PX))) : [{ stored: 0, underWay: 0 }];
    const pitch = (this.#widthPx + GAP_PX) / cells.length;
    for (const [index, { stored, underWay }] of cells.entries()) {
      const [x, wide] = [index * pitch, pitch - GAP_PX];
      pen.save();
      pen.beginPath();
      pen.roundRect(x, 0, wide, HEIGHT_PX, RADIUS_PX);
      pen.clip();
      pen.fillStyle = colour("--empty");
      pen.fillRect(x, 0, wide, HEIGHT_PX);
      pen.fillStyle = colour("--under-way");
      pen.fillRect(x, 0, wide * Math.min(1, stored + underWay), HEIGHT_PX);
      pen.fillStyle = colour("--stored");
      pen.fillRect(x, 0, wide * stored, HEIGHT_PX);
      pen.restore();
    }
  }
}
