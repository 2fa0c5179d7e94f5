"""The pages: landing, upload, watch, API reference. Plain files; what they show comes from the API."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse

WEB: Final = Path(__file__).resolve().parent.parent / "web"
STATIC: Final = WEB / "static"

_HEADERS: Final = {"Cache-Control": "no-cache"}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def landing() -> FileResponse:
    """What runs here."""
    return _page("index.html")


@router.get("/upload")
async def upload() -> FileResponse:
    """Files go in here; the page asks the API for everything, and sends the bytes to object storage itself."""
    return _page("upload.html")


@router.get("/watch/{media_id}")
async def watch(media_id: str) -> FileResponse:
    """Progress, then playback; the page itself asks the API, with its user's token."""
    return _page("watch.html")


@router.get("/docs")
async def reference() -> FileResponse:
    """The API reference, drawn from /openapi.json without anybody else's servers."""
    return _page("docs.html")


def _page(name: str) -> FileResponse:
    return FileResponse(WEB / "pages" / name, media_type="text/html; charset=utf-8", headers=dict(_HEADERS))
