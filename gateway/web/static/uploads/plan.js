// What is decided about a file before anything of it is sent. Pure: values in, values out.

const MIB = 1024 * 1024;
const SMALLEST_PART_BYTES = 5 * MIB; // S3's floor: whatever the server chooses, a file up to this size has one part
const MOST_PARTS = 10_000;
const LARGEST_HASHED_BYTES = 64 * MIB; // crypto.subtle takes a part only as a whole, so a part has to fit into memory

const TYPES = {
  avif: "image/avif", bmp: "image/bmp", gif: "image/gif", heic: "image/heic", heif: "image/heif", jpeg: "image/jpeg", jpg: "image/jpeg",
  jxl: "image/jxl", png: "image/png", tif: "image/tiff", tiff: "image/tiff", webp: "image/webp",
  "3gp": "video/3gpp", avi: "video/x-msvideo", m2ts: "video/mp2t", m4v: "video/mp4", mkv: "video/x-matroska", mov: "video/quicktime",
  mp4: "video/mp4", mpeg: "video/mpeg", mpg: "video/mpeg", mts: "video/mp2t", mxf: "video/mxf", ogv: "video/ogg", ts: "video/mp2t",
  webm: "video/webm", wmv: "video/x-ms-wmv",
};

/** What a file claims to be. The server decides by the bytes in the end; the unknown is left to it. */
export function contentTypeOf(name, type) {
  if (/^(image|video)\//.test(type)) return type;
  const known = TYPES[name.split(".").pop().toLowerCase()];
  return known || type || "application/octet-stream";
}

/** Whether a file found in a folder is worth sending at all: folders hold all sorts of things. */
export function isMedia(name, type) {
  return !name.startsWith(".") && /^(image|video)\//.test(contentTypeOf(name, type));
}

/** Whether a file is the one that an upload began with, as far as a browser can tell. */
export function isSameFile(record, file) {
  return record.name === file.name && record.sizeBytes === file.size && record.lastModified === file.lastModified;
}

/** Where a part lies in the file; numbers begin at 1, and the last part has the rest. */
export function rangeOf(number, partSizeBytes, sizeBytes) {
  const begin = (number - 1) * partSizeBytes;
  return { begin, end: Math.min(begin + partSizeBytes, sizeBytes) };
}

/** Whether each part's checksum is taken: not where a part could be too large for memory, nor without crypto.subtle. */
export function isHashed(sizeBytes, subtle = globalThis.crypto?.subtle) {
  return Boolean(subtle) && sizeBytes / MOST_PARTS <= LARGEST_HASHED_BYTES;
}

/** Whether the file is one part for certain, so that its checksum at the beginning saves a call. */
export const isOnePart = (sizeBytes) => sizeBytes <= SMALLEST_PART_BYTES;

/** The parts that storage holds as they should be, by number; whatever is missing in it has to be sent. */
export function usable(held, partSizeBytes, sizeBytes) {
  const right = held.filter(({ part_number: number, size_bytes: size }) => {
    const { begin, end } = rangeOf(number, partSizeBytes, sizeBytes);
    return size === end - begin;
  });
  return new Map(right.map((part) => [part.part_number, part.etag]));
}
