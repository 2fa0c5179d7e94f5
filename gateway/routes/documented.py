"""Which problems a route may answer, for the OpenAPI document."""

from typing import Any, Final

from gateway.problems import CONTENT_TYPE, Problem

_MEANINGS: Final = {
    401: "No token, or one that does not verify",
    404: "Unknown, or another user's",
    409: "The state does not allow it, or the first request with the same key is under way",
    413: "The body is too large, or more than the quota has room for",
    422: "The request cannot succeed as it stands",
    429: "A limit is reached; see `Retry-After`",
    500: "A defect on our side",
    503: "Something the gateway depends on did not answer; repeat in a moment",
    504: "It took too long; repeat, that is safe",
}
_OF_EVERY_ROUTE: Final = (401, 500, 503, 504)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses of these statuses and of those that any route may answer, each a problem."""
    return {
        status: {
            "model": Problem,
            "description": _MEANINGS[status],
            "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, *_OF_EVERY_ROUTE})
    }
