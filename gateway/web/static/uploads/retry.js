// How long to wait before the next try, and what a failed try means. Pure.

const BASE_MS = 500;
const CAP_MS = 20000;

/** Milliseconds after this many failures in a row; `jitter` is 0 to 1. Half is fixed, half spreads those who failed together. */
export function delayMs(failures, jitter) {
  return Math.min(CAP_MS, BASE_MS * 2 ** (failures - 1)) * (0.5 + 0.5 * jitter);
}

const TRANSIENT_STATUS = [0, 408, 425, 429];
const TRANSIENT_CODES = ["RequestTimeout", "RequestTimeTooSkewed", "IncompleteBody", "SlowDown", "OperationAborted"];
const DIGEST_CODES = ["BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"];

/**
 * What storage's answer to a PUT means: `taken`, `again` (same URL), `sign` (another URL), `there` (stored already),
 * `digest` (the bytes are not what the URL was signed for), `lost` (no such upload), or `refused`.
 */
export function meaningOf(status, code = "") {
  if (status >= 200 && status < 300) return "taken";
  if (status >= 500 || TRANSIENT_STATUS.includes(status) || TRANSIENT_CODES.includes(code)) return "again";
  if (status === 412 || code === "PreconditionFailed") return "there";
  if (status === 404) return "lost";
  if (DIGEST_CODES.includes(code)) return "digest";
  if (status === 403 || code === "ExpiredToken") return "sign";
  return "refused";
}
