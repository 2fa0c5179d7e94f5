"""Where an attempt's artifacts go: a folder of its own below the media's delivery prefix.

`<delivery_prefix>/<label>/a<attempt>/<name>`: two attempts never share a key, so a worker that was overtaken cannot
touch what its successor wrote. Within an attempt each key is written once.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

from services.runtime.errors import AlreadyExists, NotFound, Unavailable
from services.transcode.engine.errors import EngineCrashed
from services.transcode.engine.outcome import Artifact, ChunkOutcome, Outcome, TrackOutcome
from services.transcode.patience import Patience
from services.transcode.tasks import Stored, Task

_IN_FLIGHT: Final = 4
"""Artifacts on their way to storage at once. Low steps encode faster than a request to storage takes; four hide that
latency and hold some 10 MB."""


class ArtifactStore(Protocol):
    """Object storage, as far as writing artifacts goes."""

    async def put(self, bucket: str, key: str, data: bytes, *, content_type: str, sha256: bytes) -> None:
        """Writes an object that is never to change.

        Raises:
            AlreadyExists: the key is taken.
            Unavailable: storage does not answer.
        """
        ...

    async def get(self, bucket: str, key: str) -> bytes:
        """A whole object.

        Raises:
            NotFound: there is none.
            Unavailable: storage does not answer.
        """
        ...


def folder_of(task: Task, attempt: int) -> str:
    """Key prefix, without trailing slash, of everything this attempt writes."""
    return f"{task.delivery_prefix}/{task.label}/a{attempt}"


class ArtifactFolder:
    """Stores one attempt's artifacts, a few at a time, and remembers what lies where."""

    def __init__(
        self,
        store: ArtifactStore,
        bucket: str,
        folder: str,
        group: asyncio.TaskGroup,
        *,
        on_life: Callable[[], None],
        patience: Patience,
    ) -> None:
        """Makes an empty folder.

        Args:
            store: object storage.
            bucket: the delivery bucket.
            folder: see `folder_of`.
            group: runs the uploads; the first that fails ends it, and with it the attempt.
            on_life: told of each artifact that was stored, and while one is on its way (`Patience.bear`): so a lease is
                held as long as an upload may take, and no longer.
            patience: how long an artifact is offered while storage does not answer.
        """
        self._store = store
        self._bucket = bucket
        self._folder = folder
        self._group = group
        self._on_life = on_life
        self._patience = patience
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._running: set[asyncio.Task[None]] = set()
        self._stored: dict[str, Stored] = {}

    async def add(self, artifact: Artifact) -> None:
        """Begins to store an artifact; waits while too many are on their way."""
        await self._slots.acquire()
        upload = self._group.create_task(self._upload(artifact))
        self._running.add(upload)
        upload.add_done_callback(self._running.discard)
        upload.add_done_callback(lambda _: self._slots.release())

    async def stored(self, outcome: Outcome) -> dict[str, Stored]:
        """Waits for all uploads; returns the artifacts that an outcome names, by name.

        Raises:
            EngineCrashed: the outcome names an artifact that never came, or with another size.
        """
        if self._running:
            await asyncio.wait(self._running)
        named = dict(_named(outcome))
        for name, size_bytes in named.items():
            found = self._stored.get(name)
            if found is None or size_bytes not in {None, found.size_bytes}:
                raise EngineCrashed("the outcome does not match the artifacts", name)
        return {name: self._stored[name] for name in named}

    @property
    def size_bytes(self) -> int:
        """Bytes stored so far."""
        return sum(item.size_bytes for item in self._stored.values())

    async def _upload(self, artifact: Artifact) -> None:
        key = f"{self._folder}/{artifact.name}"
        sha256 = bytes.fromhex(artifact.sha256)
        # Its neighbours share its line.
        size_bytes = _IN_FLIGHT * len(artifact.data)
        await self._patience.bear(partial(self._put, key, artifact, sha256), self._on_life, size_bytes=size_bytes)
        self._stored[artifact.name] = Stored(key, len(artifact.data), sha256)
        self._on_life()

    async def _put(self, key: str, artifact: Artifact, sha256: bytes) -> None:
        content_type = artifact.content_type
        try:
            await self._store.put(self._bucket, key, artifact.data, content_type=content_type, sha256=sha256)
        except AlreadyExists:
            # A PUT whose reply was lost is repeated, here or by the client below us, and then meets its own object.
            if await self._found(key) != artifact.data:
                raise

    async def _found(self, key: str) -> bytes:
        try:
            return await self._store.get(self._bucket, key)
        except NotFound as error:
            # One that was given up goes on below us, and its repeat conflicts with it until it ends, well or not.
            raise Unavailable(f"storage: another PUT has {key} in hand", reason="STORAGE_UNAVAILABLE") from error


def _named(outcome: Outcome) -> Iterator[tuple[str, int | None]]:
    """The artifacts that an outcome names, with their size where it says one."""
    match outcome:
        case ChunkOutcome():
            for piece in outcome.pieces:
                yield from _named(piece.track)
        case TrackOutcome():
            if outcome.init_name:
                yield outcome.init_name, None
            yield from ((segment.name, segment.size_bytes) for segment in outcome.segments)
        case _:
            yield from ((image.name, image.size_bytes) for image in outcome.images)
