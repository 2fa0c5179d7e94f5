// Stills in several formats: the browser takes the smallest file that it can show, and a blur until it has come.

import { make } from "./dom.js";
import { placeholder } from "./thumbhash.js";

/** Thumbnails of the API → those of one size together, largest size first, each with its JPEG first. */
export function bySize(thumbnails) {
  const sizes = [...new Set(thumbnails.map((one) => one.size_px))];
  return sizes.map((size) => thumbnails.filter((one) => one.size_px === size));
}

/** The `<source>`s of one size, smallest file first, as far as they save anything over the first. */
export function sources([first, ...others]) {
  return others
    .filter((one) => one.size_bytes < first.size_bytes)
    .sort((one, other) => one.size_bytes - other.size_bytes)
    .map((one) => make("source", { srcset: one.url, type: one.content_type }));
}

/** Shows one size in an `<img>` within a `<picture>`. */
export function fill(image, ofOneSize, thumbhash) {
  const blur = placeholder(thumbhash);
  if (blur) {
    image.style.background = `center / contain no-repeat url("${blur}")`;
    // What is transparent in the picture shall not show its blur.
    image.addEventListener("load", () => image.style.removeProperty("background"), { once: true });
  }
  image.parentElement.prepend(...sources(ofOneSize));
  image.src = ofOneSize[0].url;
}
