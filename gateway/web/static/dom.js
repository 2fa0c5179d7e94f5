// The few things every page does with the document. Text goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** Makes an element: `make("td", {class: "number", text: "12"}, child…)`. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") element.textContent = value;
    else if (value === true) element.setAttribute(key, "");
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function show(element, visible = true) {
  element.hidden = !visible;
}

/** 12,345,678 → "12.3 MB". */
export function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${units[unit]}`;
}

/** 4200 → "4.2 Mbit/s". */
export function kilobits(kbps) {
  return kbps >= 1000 ? `${(kbps / 1000).toFixed(1)} Mbit/s` : `${Math.round(kbps)} kbit/s`;
}

/** 75.4 → "1:15". */
export function playTime(seconds) {
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const padded = String(rest).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${padded}` : `${minutes}:${padded}`;
}

/** 95 → "2 min". */
export function duration(seconds) {
  if (seconds < 1) return "1 s";
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function moment(iso) {
  return new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));
}

export const percent = (fraction) => `${Math.floor(fraction * 100)} %`;

export const STATUS = {
  uploading: { label: "Uploading", tone: "busy" },
  processing: { label: "Processing", tone: "busy" },
  published: { label: "Published", tone: "good" },
  failed: { label: "Failed", tone: "bad" },
};
