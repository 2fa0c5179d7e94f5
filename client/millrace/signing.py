"""The part URLs of one upload: signed a window at a time, and afresh when they expire."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from millrace.api import Client
from millrace.errors import UnexpectedAnswer
from millrace.models import PresignedPart, SignedParts

WINDOW_PARTS = 100
"""Parts signed by one call."""

_MARGIN = timedelta(seconds=30)
"""A URL that ends sooner than this is signed afresh: storage checks it when the request arrives."""


class PartUrls:
    """Hands out a valid URL for each part that is still to be sent, asking the gateway when it has none."""

    def __init__(
        self, client: Client, media_id: str, pending: Iterable[int], first: SignedParts, *, traceparent: str
    ) -> None:
        """Begins with the window that came with the upload.

        Args:
            client: where more are asked for.
            media_id: of the upload.
            pending: numbers of the parts still to be sent, ascending.
            first: URLs that are already there.
            traceparent: of the upload.
        """
        self._client = client
        self._media_id = media_id
        self._pending = dict.fromkeys(pending)
        self._traceparent = traceparent
        self._windows: dict[int, tuple[PresignedPart, datetime]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._take(first)

    async def url_of(self, part_number: int) -> str:
        """A URL that will do for a while.

        Raises:
            ProblemError: the upload is no longer open, for instance.
            NetworkError: the gateway cannot be reached.
        """
        async with self._one_at_a_time:  # four parts that find the window used up sign one new window, not four
            if not self._is_fresh(part_number):
                self._take(
                    await self._client.sign_parts(
                        self._media_id, self._next_window(part_number), traceparent=self._traceparent
                    )
                )
            if part_number not in self._windows:
                raise UnexpectedAnswer(f"the gateway signed other parts than number {part_number}")
            return self._windows[part_number][0].url

    def refuse(self, part_number: int, url: str) -> None:
        """Says that storage did not accept a URL: all that were signed with it are as old, and are dropped."""
        known = self._windows.get(part_number)
        if known and known[0].url == url:
            self._windows = {number: one for number, one in self._windows.items() if one[1] != known[1]}

    def done(self, part_number: int) -> None:
        """Says that a part is stored and needs no URL any more."""
        self._pending.pop(part_number, None)
        self._windows.pop(part_number, None)

    def _take(self, signed: SignedParts) -> None:
        self._windows.update({part.part_number: (part, signed.expires_at) for part in signed.parts})

    def _is_fresh(self, part_number: int) -> bool:
        known = self._windows.get(part_number)
        return known is not None and known[1] - datetime.now(UTC) > _MARGIN

    def _next_window(self, part_number: int) -> list[int]:
        """This part and the pending ones after it that have no good URL either."""
        others = (number for number in self._pending if number > part_number and not self._is_fresh(number))
        return [part_number, *(number for number, _ in zip(others, range(WINDOW_PARTS - 1), strict=False))]
