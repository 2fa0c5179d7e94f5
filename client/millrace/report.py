"""What the command says: media and errors as text for people and as JSON for programs. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.filesize import decimal

from millrace.board import printable
from millrace.errors import (
    AlreadyUploading,
    FileUnusable,
    LimitReached,
    MediaFailed,
    MillraceError,
    NetworkError,
    NotAuthenticated,
    ProblemError,
    QuotaExceeded,
    ServiceFault,
    StateUnusable,
    StorageRefused,
    UnexpectedAnswer,
)
from millrace.models import Media

_KINDS: tuple[tuple[type[MillraceError], str], ...] = (
    (FileUnusable, "file"),
    (AlreadyUploading, "busy"),
    (StateUnusable, "state"),
    (NotAuthenticated, "authentication"),
    (MediaFailed, "failed"),
    (ServiceFault, "service"),
    (QuotaExceeded, "quota"),
    (LimitReached, "limit"),
    (ProblemError, "refused"),
    (StorageRefused, "refused"),
    (NetworkError, "network"),
    (UnexpectedAnswer, "service"),
)


def details(media: Media) -> str:
    """A media in a few lines, every address on its own."""
    return "\n".join([f"{printable(media.filename)}  {media.status}  {media.media_id}", *_facts(media)])


def row(media: Media) -> str:
    """A media in one line of fixed columns."""
    created = media.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
    name = printable(media.filename)
    return f"{media.media_id}  {media.status:<10}  {media.type:<5}  {decimal(media.size_bytes):>9}  {created}  {name}"


def sentence(error: MillraceError) -> str:
    """An error in one line, with what to do about it where that is known, and its trace."""
    text = " ".join(printable(" ".join(str(error).split())).split())
    match error:
        case NotAuthenticated():
            text = f"not authenticated: {text} (set MILLRACE_TOKEN, --token or --token-file)"
        case StateUnusable():
            text = f"cannot remember the upload: {text} (see --state-dir and --no-state)"
        case ServiceFault():
            text = f"the service does not work: {text} (HTTP {error.status})"
        case MediaFailed():
            text = f"failed: {text} ({error.reason})"
        case ProblemError():
            text = f"refused: {text}{_fields_of(error)}"
    return f"{text} [trace {error.trace_id}]" if isinstance(error, ProblemError) and error.trace_id else text


def _fields_of(problem: ProblemError) -> str:
    """What is wrong with each field, where the gateway says it (its problems carry `errors`)."""
    errors = problem.extra.get("errors")
    found = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    return "".join(
        f" {printable(str(error.get('pointer')))}: {printable(str(error.get('message')))}." for error in found
    )


def word_for(error: MillraceError) -> str:
    """An error's kind in a word: file, busy, state, authentication, quota, limit, refused, failed, service, network."""
    return next((word for kind, word in _KINDS if isinstance(error, kind)), "error")


def outcome_json(outcome: Media | MillraceError) -> dict[str, Any]:
    """What came of a file: `{"ok": true, "media": {…}}` or `{"ok": false, "error": {…}}`.

    `media` is the gateway's own object; `error` has `kind` (see `word_for`), `message`, and for a problem also
    `type`, `status` and `trace_id`, for a failed media `reason` and `media`.
    """
    if isinstance(outcome, Media):
        return {"ok": True, "media": outcome.document}
    error: dict[str, Any] = {"kind": word_for(outcome), "message": str(outcome)}
    if isinstance(outcome, ProblemError):
        error |= {"type": outcome.type, "status": outcome.status, "trace_id": outcome.trace_id}
    if isinstance(outcome, MediaFailed):
        error |= {"reason": outcome.reason, "media": outcome.media.document}
    return {"ok": False, "error": error}


def json_line(value: Mapping[str, Any]) -> str:
    """A JSON object in one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _facts(media: Media) -> Iterator[str]:
    if media.failure:
        yield f"  reason     {printable(media.failure.message)} ({media.failure.reason})"
    if media.watch_url:
        yield f"  watch      {media.watch_url}"
    if media.playback:
        if media.playback.manifest_url:
            levels = ", ".join(rendition.resolution for rendition in media.playback.renditions)
            yield f"  playlist   {media.playback.manifest_url}" + (f" ({levels})" if levels else "")
        for still in media.playback.thumbnails:
            yield f"  {f'{still.size_px} px':<10} {still.url}"
    if media.trace_url:
        yield f"  trace      {media.trace_url}"
