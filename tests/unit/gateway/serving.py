"""Small real HTTP servers for tests."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import Receive, Scope, Send

from gateway.app import Server


class JsonApp:
    """Answers everything with one JSON document, or with the bytes that are put in its place, and counts."""

    def __init__(self, document: object) -> None:
        self.document = document
        self.body: bytes | None = None
        self.request_count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.request_count += 1
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.body or json.dumps(self.document).encode()})


@asynccontextmanager
async def served(config: uvicorn.Config) -> AsyncIterator[str]:
    """Serves on a free port as long as the block lasts; yields the base URL."""
    server = Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listener]))
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True
