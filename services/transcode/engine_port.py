"""The engine as the use cases see it; `services.transcode.engine.run` is the real one."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import Artifact, Outcome, Stage
from services.transcode.source import SourceInfo
from services.transcode.specs import TaskSpec


class ByteSource(Protocol):
    """The original, as the engine reads it. Errors that `read` raises end the job and pass through."""

    @property
    def size_bytes(self) -> int:
        """The original's size."""
        ...

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length), cut at the original's end. Has its own deadline and retries."""
        ...


class Engine(Protocol):
    """Decodes and encodes in children of its own.

    Both raise RejectedSource (the original can never be processed), EngineCrashed and EngineTimeout (another attempt
    may fare better), and pass through what the source and the sink raise. Cancelling ends the child.
    """

    async def probe(self, source: ByteSource, limits: Limits, *, on_stage: Callable[[Stage], None] = ...) -> SourceInfo:
        """Finds out what an original is."""
        ...

    async def execute(
        self,
        spec: TaskSpec,
        source: ByteSource,
        limits: Limits,
        *,
        sink: Callable[[Artifact], Awaitable[None]],
        on_progress: Callable[[float], None] = ...,
        on_stage: Callable[[Stage], None] = ...,
    ) -> Outcome:
        """Runs one task; every artifact has passed through `sink` when it returns."""
        ...
