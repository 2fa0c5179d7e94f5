"""One W3C trace context for a whole upload, made here so that every request of it joins one trace.

Nothing is exported from the client; it only names the trace (https://www.w3.org/TR/trace-context/ §3.2).
"""

import re
import secrets

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?P<trace_id>[0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def new_traceparent() -> str:
    """A fresh, sampled `traceparent`; all-zero ids, which the standard forbids, are as good as impossible."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def trace_id_of(traceparent: str) -> str:
    """The trace id inside a `traceparent` or `traceresponse`: 32 hex digits, or empty when it is neither."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    return match["trace_id"] if match else ""
