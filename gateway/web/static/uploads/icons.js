// Drawings of 24 × 24, as paths: made as elements, since nothing here writes markup.

const PATHS = {
  pause: "M8 5v14M16 5v14",
  play: "M7 4.5v15l12-7.5z",
  again: "M4 12a8 8 0 1 0 2.6-5.9M4 4v4.5h4.5",
  folder: "M3 6.5h6l2 2.5h10v10H3z",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  watch: "M14 4h6v6M20 4l-9 9M18 14v6H4V6h6",
  image: "M3.5 5h17v14h-17zM3.5 16l5-5 4.5 4.5 2.5-2.5 5 5M15.5 9.2v.1",
  video: "M3.5 5h17v14h-17zM10 9v6l5-3z",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  good: "M5 12.5l4.5 4.5L19 7.5",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", "data-icon": name })) {
    svg.setAttribute(key, value);
  }
  const path = svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  path.setAttribute("d", PATHS[name]);
  return svg;
}

export function iconOf(contentType) {
  const kind = contentType.split("/")[0];
  return icon(kind === "image" || kind === "video" ? kind : "file");
}
