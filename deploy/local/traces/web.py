"""The pages of the trace store, and the same content as JSON for tests."""

from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from deploy.local.traces.spans import Span
from deploy.local.traces.store import Filter, TraceStore

_DEFAULT_LIMIT = 100
_MAX_LIMIT = 1000


def make_app(store: TraceStore) -> Starlette:
    """The web application over ``store``."""

    async def api_traces(request: Request) -> JSONResponse:
        return JSONResponse({"traces": [asdict(one) for one in store.find(_filter(request), _limit(request))]})

    async def api_trace(request: Request) -> JSONResponse:
        trace_id = request.path_params["trace_id"]
        if not (spans := store.trace(trace_id)):
            raise HTTPException(404, "no such trace")
        return JSONResponse({"trace_id": trace_id, "spans": [_span_json(span) for span in spans]})

    async def healthz(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/api/traces", api_traces),
            Route("/api/traces/{trace_id}", api_trace),
        ]
    )


def _span_json(span: Span) -> dict[str, Any]:
    return asdict(span) | {"duration_ns": span.duration_ns}


def _filter(request: Request) -> Filter:
    query = request.query_params
    return Filter(
        service=query.get("service", "").strip(),
        media_id=query.get("media_id", "").strip(),
        text=query.get("q", "").strip(),
        errors_only=query.get("errors", "") in ("1", "on", "true"),
    )


def _limit(request: Request) -> int:
    given = request.query_params.get("limit", "")
    return min(max(int(given), 1), _MAX_LIMIT) if given.isdecimal() else _DEFAULT_LIMIT
