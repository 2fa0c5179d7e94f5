// Calls to the gateway with the visitor's token.
//
// The token comes in the fragment (`#token=…`), which browsers never send to a server, and leaves the address bar at
// once. It is kept for this tab only.

const KEY = "millrace-token";

export class Problem extends Error {
  constructor(body, status, retryAfterS = 0) {
    super(body.detail || body.title || `HTTP ${status}`);
    this.status = status;
    this.slug = (body.type || "").split("/").pop();
    this.next = body.next || "";
    this.retryable = body.retryable ?? (status >= 500 || status === 429);
    this.retryAfterMs = retryAfterS * 1000;
    this.traceId = body.trace_id || "";
  }
}

export class Unreachable extends Error {}

export const token = {
  /** Takes the token out of the address bar; true when there was one. */
  adopt() {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (!given) return false;
    history.replaceState(null, "", location.pathname + location.search);
    this.keep(given);
    return true;
  },
  keep(value) {
    sessionStorage.setItem(KEY, value.trim());
  },
  get() {
    return sessionStorage.getItem(KEY) || "";
  },
  forget() {
    sessionStorage.removeItem(KEY);
  },
  /** Whose token it is, as it says itself: good enough to keep two people's lists apart, and for nothing else. */
  subject() {
    try {
      const payload = this.get().split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
      return String(JSON.parse(atob(payload)).sub ?? "");
    } catch {
      return ""; // not a JWT
    }
  },
};

/** A response that is known to be fine. Throws Problem, Unreachable, or the signal's AbortError. */
export async function request(path, { method = "GET", body, headers = {}, accept = "application/json", signal } = {}) {
  const sent = { ...headers, Accept: accept, Authorization: `Bearer ${token.get()}` };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers: sent, body: body === undefined ? undefined : JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable("The gateway does not answer.");
  }
  if (response.ok) return response;
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // a proxy's page; the status says enough
  }
  throw new Problem(problem, response.status, Number(response.headers.get("Retry-After")) || 0);
}

/** The JSON of an answer; a connection that breaks off within it counts as unreachable. */
export async function getJson(path, options) {
  const response = await request(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable("The gateway's answer broke off.");
  }
}

/** Server-sent events over fetch, since EventSource cannot send a token. Yields {name, data} until the stream ends. */
export async function* events(path, { signal } = {}) {
  const response = await request(path, { accept: "text/event-stream", signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    pending += value;
    const blocks = pending.split("\n\n");
    pending = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (event) yield event;
    }
  }
}

function parse(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return data.length ? { name, data: JSON.parse(data.join("\n")) } : null;
}
