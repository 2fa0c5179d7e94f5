"""The edge over HTTP: whatever is fetched through it, it holds from then on."""

import asyncio
from collections.abc import Iterator, Sequence
from urllib.parse import quote

import httpx
import structlog

from services.manifest.warming import Warmth

_log = structlog.get_logger(__name__)


class HttpEdge:
    """Implements the port `Edge`: GETs objects as a viewer would and throws the bytes away.

    GET and not HEAD: not every CDN fills its cache on a HEAD.
    """

    def __init__(self, client: httpx.AsyncClient, edge_url: str, *, concurrency: int, budget_s: float) -> None:
        """An edge at an address.

        Args:
            client: its timeouts bound a single request.
            edge_url: `http(s)://host:port`; keys follow after a slash.
            concurrency: requests at once.
            budget_s: after this long warming ends, done or not.
        """
        self._client = client
        self._edge_url = edge_url.rstrip("/")
        self._concurrency = concurrency
        self._budget_s = budget_s

    async def warm(self, keys: Sequence[str]) -> Warmth:
        """Makes the edge fetch objects, first ones first; what fails is counted and logged."""
        waiting = iter(keys)
        warmed: set[str] = set()
        try:
            async with asyncio.timeout(self._budget_s), asyncio.TaskGroup() as group:
                for _ in range(min(self._concurrency, len(keys))):
                    group.create_task(self._fetch_all(waiting, warmed))
        except TimeoutError:
            _log.warning("warming_ran_out_of_time", budget_s=self._budget_s)
        return Warmth(len(warmed), len(keys) - len(warmed))

    async def _fetch_all(self, waiting: Iterator[str], warmed: set[str]) -> None:
        for key in waiting:
            if await self._fetch(key):
                warmed.add(key)

    async def _fetch(self, key: str) -> bool:
        try:
            async with self._client.stream("GET", f"{self._edge_url}/{quote(key)}") as answer:
                async for _ in answer.aiter_raw():
                    pass  # an edge keeps only what was fetched to the end
                answer.raise_for_status()
        except Exception as error:  # whatever it is: warming is a favour to the first viewer, and fails nothing
            _log.warning("not_warmed", key=key, error=repr(error))
            return False
        return True
