"""The pages of the trace store, and the same content as JSON for tests and scripts."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.local.traces import text
from deploy.local.traces.spans import Span
from deploy.local.traces.store import Filter, TraceStore, summarise
from deploy.local.traces.waterfall import ticks, waterfall

_HERE = Path(__file__).parent
_COLOURS = "0123456789ab"  # the classes .c0 to .cb of traces.css
_DEFAULT_LIMIT = 100
_MAX_LIMIT = 1000

# Spans carry what users sent; nothing of it may run. Bars get their places from style attributes.
_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; style-src-attr 'unsafe-inline'; script-src 'self'; "
        b"connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]


def make_app(store: TraceStore) -> Starlette:
    """The web application over ``store``."""
    pages = _Pages(store)
    return Starlette(
        routes=[
            Route("/", lambda request: RedirectResponse("/traces")),
            Route("/healthz", lambda request: PlainTextResponse("ok\n")),
            Route("/traces", pages.list_traces),
            Route("/traces/{trace_id}", pages.show_trace),
            Route("/api/traces", pages.api_list_traces),
            Route("/api/traces/{trace_id}", pages.api_show_trace),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
        ],
        middleware=[Middleware(_SafeHeaders)],
        exception_handlers={404: pages.not_found},
    )


class _Pages:
    def __init__(self, store: TraceStore) -> None:
        self._store = store
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "duration": text.duration,
            "mark": text.mark,
            "moment": text.moment,
            "short_name": text.short_name,
        }

    async def list_traces(self, request: Request) -> Response:
        wanted, limit = _filter(request), _limit(request)
        traces = self._store.find(wanted, limit)
        return self._page(
            "list.html",
            traces=traces,
            wanted=wanted,
            limit=limit,
            is_filtered=wanted != Filter(),
            services=sorted(self._store.services),
            span_count=self._store.span_count,
            longest_ns=max((trace.duration_ns for trace in traces), default=0) or 1,
        )

    async def show_trace(self, request: Request) -> Response:
        spans = self._store.trace(request.path_params["trace_id"])
        if not spans:
            raise HTTPException(404, "This trace is not here: not arrived yet, or given up for newer ones.")
        trace = summarise(spans)
        return self._page(
            "trace.html",
            trace=trace,
            rows=waterfall(spans),
            ticks=ticks(trace.duration_ns),
            shares=Counter(span.service for span in spans).items(),
            here={span.span_id: span for span in spans},
            place=lambda time_ns: min(max((time_ns - trace.start_ns) / max(1, trace.duration_ns), 0.0), 1.0),
        )

    async def api_list_traces(self, request: Request) -> Response:
        found = self._store.find(_filter(request), _limit(request))
        return JSONResponse({"traces": [asdict(trace) for trace in found]})

    async def api_show_trace(self, request: Request) -> Response:
        trace_id = request.path_params["trace_id"]
        spans = self._store.trace(trace_id)
        if not spans:
            raise HTTPException(404, "no such trace")
        return JSONResponse({"trace_id": trace_id, "spans": [_span_json(span) for span in spans]})

    async def not_found(self, request: Request, error: Exception) -> Response:
        message = error.detail if isinstance(error, HTTPException) else "Not found"
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": message}, status_code=404)
        return self._page("missing.html", status_code=404, message=message)

    def _page(self, template: str, *, status_code: int = 200, **values: object) -> HTMLResponse:
        # A service keeps its colour on every page for as long as the store runs.
        colours = {service: _COLOURS[place % len(_COLOURS)] for place, service in enumerate(self._store.services)}
        html = self._templates.get_template(template).render(colours=colours, **values)
        return HTMLResponse(html, status_code=status_code)


class _SafeHeaders:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


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
    return min(max(int(given), 1), _MAX_LIMIT) if given.isascii() and given.isdecimal() else _DEFAULT_LIMIT
