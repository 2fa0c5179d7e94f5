// The gateway's side of an upload: begin, sign, list, complete, abort. Each call once; who calls decides about another try.

import { Problem, Unreachable, getJson } from "../api.js";

const TIMEOUT_MS = 30000;
const COMPLETE_TIMEOUT_MS = 120000; // storage joins the parts meanwhile

export const ALGORITHM = "SHA256";

/** Whether the same call may work later. */
export const isTransient = (error) => error instanceof Unreachable || (error instanceof Problem && error.retryable);

function ask(method, path, { body, key, signal, timeoutMs = TIMEOUT_MS }) {
  const headers = key ? { "Idempotency-Key": key } : {};
  return getJson(path, { method, body, headers, signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]) });
}

const path = (mediaId) => `/v1/uploads/${encodeURIComponent(mediaId)}`;

export const initiate = ({ name, contentType, sizeBytes, algorithm, checksum, key }, signal) =>
  ask("POST", "/v1/initiate-upload", {
    body: {
      filename: name,
      content_type: contentType,
      size_bytes: sizeBytes,
      ...(algorithm && { checksum_algorithm: algorithm }),
      ...(checksum && { checksum }),
    },
    key,
    signal,
  });

export const signParts = (mediaId, numbers, checksums, signal) =>
  ask("POST", `${path(mediaId)}/sign-parts`, { body: { part_numbers: numbers, ...(checksums && { checksums }) }, signal });

export const heldParts = (mediaId, signal) => ask("GET", `${path(mediaId)}/parts`, { signal });

/** `parts` as {number, etag, checksum}, the last one only where the upload has an algorithm. */
export const complete = (mediaId, parts, key, signal) =>
  ask("POST", "/v1/complete-upload", {
    body: {
      media_id: mediaId,
      parts: parts.map(({ number, etag, checksum }) => ({ part_number: number, etag, ...(checksum && { checksum }) })),
    },
    key,
    signal,
    timeoutMs: COMPLETE_TIMEOUT_MS,
  });

export const abort = (mediaId, signal) => ask("DELETE", path(mediaId), { signal });

export const media = (mediaId, signal) => ask("GET", `/v1/media/${encodeURIComponent(mediaId)}`, { signal });

export const quota = (signal) => ask("GET", "/v1/quota", { signal });
