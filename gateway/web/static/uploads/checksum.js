// SHA-256 of a piece of a file, base64, as S3's checksum headers have it.

let last = Promise.resolve();

/** One piece at a time, since each is in memory as a whole while it is hashed. Rejects when the file cannot be read. */
export function sha256(blob) {
  const mine = last.then(async () => encoded(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer())));
  last = mine.catch(() => {});
  return mine;
}

function encoded(digest) {
  return btoa(String.fromCharCode(...new Uint8Array(digest)));
}
