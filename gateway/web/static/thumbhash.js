// Draws what stands in for a picture until it has come: its ThumbHash, small and blurred (services/transcode/engine/images/thumbhash.py).

const LONGER_PX = 32;

/** A hash in base64 → an address of its picture; "" for none, or for what is no hash. */
export function placeholder(base64) {
  if (!base64) return "";
  try {
    const { width, height, pixels } = draw(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
    return canvas.toDataURL();
  } catch {
    return "";
  }
}

/** The bytes of a hash → its picture, in RGBA. */
export function draw(hash) {
  if (hash.length < 5) throw new RangeError("too short for a ThumbHash");
  const bits = (at, count) => {
    let value = 0;
    for (let bit = 0; bit < count; bit += 1) value |= ((hash[(at + bit) >> 3] >> ((at + bit) & 7)) & 1) << bit;
    return value;
  };
  const hasAlpha = bits(23, 1) === 1;
  const isLandscape = bits(39, 1) === 1;
  const finest = hasAlpha ? 5 : 7;
  const [across, down] = isLandscape ? [finest, bits(24, 3)] : [bits(24, 3), finest];

  let next = hasAlpha ? 48 : 40;
  const channel = (average, scale, columns, rows) => {
    const waves = [];
    for (let row = 0; row < rows; row += 1) {
      for (let column = row ? 0 : 1; column * rows < columns * (rows - row); column += 1) {
        waves.push({ row, column, height: 2 * (bits(next, 4) / 7.5 - 1) * scale });
        next += 4;
      }
    }
    return (x, y) =>
      waves.reduce((sum, { row, column, height }) => sum + height * Math.cos(Math.PI * column * x) * Math.cos(Math.PI * row * y), average);
  };
  const lightness = channel(bits(0, 6) / 63, bits(18, 5) / 31, Math.max(3, across), Math.max(3, down));
  // Colours were rounded towards grey; the format's own decoder makes up for that.
  const yellowBlue = channel(bits(6, 6) / 31.5 - 1, (bits(27, 6) / 63) * 1.25, 3, 3);
  const redGreen = channel(bits(12, 6) / 31.5 - 1, (bits(33, 6) / 63) * 1.25, 3, 3);
  const opacity = hasAlpha ? channel(bits(40, 4) / 15, bits(44, 4) / 15, 5, 5) : () => 1;

  const ratio = across / down;
  const width = Math.max(1, Math.round(ratio > 1 ? LONGER_PX : LONGER_PX * ratio));
  const height = Math.max(1, Math.round(ratio > 1 ? LONGER_PX / ratio : LONGER_PX));
  const pixels = new Uint8ClampedArray(width * height * 4);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const [x, y] = [(column + 0.5) / width, (row + 0.5) / height];
      const [light, yellow, redder] = [lightness(x, y), yellowBlue(x, y), redGreen(x, y)];
      const blue = light - (yellow * 2) / 3;
      const red = (3 * light - blue + redder) / 2;
      pixels.set([red * 255, (red - redder) * 255, blue * 255, opacity(x, y) * 255], (row * width + column) * 4);
    }
  }
  return { width, height, pixels };
}
