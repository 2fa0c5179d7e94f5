// Where files come from: a drop, a picker, the clipboard. All of them end as {file, handle, path}.
//
// A handle, where the browser gives one, lets an upload go on after a reload without the file being chosen again.

import { isMedia } from "./plan.js";

const MOST_FOUND = 2000; // a folder may hold the whole disk
const DEEPEST = 12;

/** What was found: `files`, and how many of a folder's files were left out. */
export class Found {
  files = [];
  skipped = 0;

  get isFull() {
    return this.files.length >= MOST_FOUND;
  }

  add(file, { handle, path = "", isChosen = true } = {}) {
    if (this.isFull || (!isChosen && !isMedia(file.name, file.type))) this.skipped += 1;
    else this.files.push({ file, handle, path });
  }
}

/** Must be called within the drop's event: its items are gone at the first await. */
export function dropped(dataTransfer) {
  const items = [...dataTransfer.items].filter((item) => item.kind === "file");
  return expanded(
    items.map((item) => ({
      handle: item.getAsFileSystemHandle?.().catch(() => null),
      entry: item.webkitGetAsEntry?.(),
      file: item.getAsFile(),
    })),
  );
}

async function expanded(items) {
  const found = new Found();
  for (const { handle: promised, entry, file } of items) {
    const handle = await promised;
    if (handle) await walk(handle, "", 0, found);
    else if (entry?.isDirectory) await walkEntry(entry, "", 0, found);
    else if (file) found.add(file);
  }
  return found;
}

async function walk(handle, path, depth, found) {
  if (handle.kind === "file") return found.add(await handle.getFile(), { handle, path, isChosen: depth === 0 });
  if (depth === DEEPEST) return undefined;
  for await (const child of handle.values()) {
    if (found.isFull) return undefined;
    await walk(child, join(path, handle.name), depth + 1, found);
  }
  return undefined;
}

/** The same for browsers without handles; a reader gives a folder's entries a hundred at a time. */
async function walkEntry(entry, path, depth, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return found.add(file, { path, isChosen: depth === 0 });
  }
  if (depth === DEEPEST) return undefined;
  const reader = entry.createReader();
  for (;;) {
    const children = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!children.length || found.isFull) return undefined;
    for (const child of children) await walkEntry(child, join(path, entry.name), depth + 1, found);
  }
}

const join = (path, name) => (path ? `${path}/${name}` : name);

/** Lets a person choose files; `input` serves where there are no handles. Resolves to null when nothing was chosen. */
export async function chosen(input) {
  if (!window.showOpenFilePicker) return fromInput(input);
  try {
    const handles = await window.showOpenFilePicker({ multiple: input.multiple, id: "millrace" });
    const found = new Found();
    for (const handle of handles) found.add(await handle.getFile(), { handle });
    return found;
  } catch (error) {
    if (error.name === "AbortError") return null;
    return fromInput(input);
  }
}

export async function chosenFolder(input) {
  if (!window.showDirectoryPicker) return fromInput(input);
  try {
    const found = new Found();
    await walk(await window.showDirectoryPicker({ id: "millrace" }), "", 0, found);
    return found;
  } catch (error) {
    if (error.name === "AbortError") return null;
    return fromInput(input);
  }
}

/** Opens the input's own dialogue; what was chosen arrives as its `change` event, see `ofInput`. */
function fromInput(input) {
  input.click();
  return null;
}

export function ofInput(input) {
  const found = new Found();
  for (const file of input.files) {
    const folder = file.webkitRelativePath.split("/").slice(0, -1).join("/");
    found.add(file, { path: folder, isChosen: !folder });
  }
  input.value = ""; // so that choosing the same file again is noticed
  return found;
}

export function pasted(clipboardData) {
  const found = new Found();
  for (const file of clipboardData.files) found.add(file);
  return found;
}
