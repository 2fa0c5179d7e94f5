"""Presigned PUTs to object storage: one try of one part, and what its answer means.

No token, no trace header: a presigned URL carries all that storage needs, and storage learns nothing more.
"""

import contextlib
import re

import httpx

from millrace.backoff import Backoff
from millrace.errors import StorageRefused
from millrace.models import PresignedPart
from millrace.parts import PartBody
from millrace.sendfile import SendfileTransport
from millrace.wire import LIMITS, TRANSIENT, http_client, reason_of, retry_after_s, tls

# Writing has no progress for as long as the link is full, reading none until storage has written the part down.
_TIMEOUT = httpx.Timeout(120.0, connect=10.0, write=60.0)
_CODE = re.compile(r"<Code>([^<]{1,100})</Code>")

# S3 says these with a status that would otherwise be final.
_TRANSIENT_CODES = frozenset(
    {"RequestTimeout", "RequestTimeTooSkewed", "IncompleteBody", "SlowDown", "ConditionalRequestConflict"}
)


class Transient(Exception):
    """This try failed; another one may succeed, no earlier than `wait_s` from now."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class UrlRefused(Exception):
    """Storage does not accept the URL: most likely it expired, and a fresh one will do."""


class Damaged(Exception):
    """The bytes that arrived are not those of the checksum: read, or carried, wrongly."""


class AlreadyThere(Exception):
    """Storage holds the object, and takes it once only: an earlier try succeeded, though its answer was lost."""


class Storage:
    """Object storage as presigned URLs reach it."""

    def __init__(self, *, backoff: Backoff, transport: httpx.AsyncBaseTransport | None = None) -> None:
        in_the_clear = SendfileTransport(httpx.AsyncHTTPTransport(verify=tls(), limits=LIMITS))
        self._http = http_client(transport, timeout=_TIMEOUT, in_the_clear=in_the_clear)
        self.backoff = backoff

    async def put(self, part: PresignedPart, body: PartBody) -> str:
        """Sends one part, once.

        Args:
            part: presigned; its length and its headers are sent exactly so, since the signature binds them.
            body: its bytes; closed in any case.

        Returns:
            The part's entity tag, without quotes.

        Raises:
            Transient: worth another try.
            UrlRefused: worth another try with another URL.
            Damaged: worth another look at the bytes.
            AlreadyThere: done, by an earlier try.
            StorageRefused: not worth another try.
        """
        headers = {**part.headers, "Content-Length": str(part.size_bytes)}
        request = self._http.build_request("PUT", part.url, content=body, headers=headers)
        request.stream = body  # httpx wraps what it is given, but SendfileTransport looks for the file
        try:
            async with contextlib.aclosing(body):
                response = await self._http.send(request)
        except httpx.TransportError as error:
            raise Transient(reason_of(error)) from error
        if response.is_success:
            return _etag_of(response)
        raise _refusal(response)

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._http.aclose()


def _etag_of(response: httpx.Response) -> str:
    if etag := response.headers.get("etag", "").strip('"'):
        return str(etag)
    raise StorageRefused("object storage took a part but gave it no ETag", status=response.status_code, code="")


def _refusal(response: httpx.Response) -> Exception:
    found = _CODE.search(response.text)
    code = found[1] if found else ""
    words = f"{response.status_code} {code}".rstrip()
    if response.status_code in TRANSIENT or response.status_code >= 500 or code in _TRANSIENT_CODES:
        return Transient(words, retry_after_s(response))
    if response.status_code == 403:
        return UrlRefused(words)
    if response.status_code == 412:
        return AlreadyThere(words)
    if code == "BadDigest":
        return Damaged(words)
    return StorageRefused(
        f"object storage refused a part: {response.status_code} {code or response.reason_phrase}",
        status=response.status_code,
        code=code,
    )
