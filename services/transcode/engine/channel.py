"""The child's end of the wire: the source to read from, and where results go."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

from services.transcode.engine.wire import Frame, FrameType, WireError, encode, read_frame_from

_PROGRESS_EVERY_S = 0.2
"""Often enough for a smooth bar; a hundredth of the shortest stall limit that makes sense."""


class Reporter(Protocol):
    """What a job in the child may say while it runs."""

    def artifact(self, name: str, content_type: str, data: bytes) -> None:
        """Hands over a finished file; blocks while the parent is behind."""
        ...

    def progress(self, fraction: float) -> None:
        """Says how much is done, 0 to 1. Cheap: call it for every frame."""
        ...

    def stage(self, name: str, start_unix_ns: int, attributes: Mapping[str, str | int | float]) -> None:
        """Reports a stretch of work that began at `start_unix_ns` and ends now."""
        ...


@contextmanager
def stage(reporter: Reporter, name: str) -> Iterator[dict[str, str | int | float]]:
    """Times a stretch of work; what is put into the yielded dict becomes its attributes."""
    attributes: dict[str, str | int | float] = {}
    start_unix_ns = time.time_ns()
    yield attributes
    reporter.stage(name, start_unix_ns, attributes)


class Channel:
    """`Reporter` and range reader over the inherited socket. Blocking, single-threaded."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._progress_due_s = 0.0

    def receive(self) -> Frame:
        """The parent's next frame.

        Raises:
            WireError: there is none; the parent has gone.
        """
        frame = read_frame_from(self._incoming)
        if frame is None:
            raise WireError("the parent has gone")
        return frame

    def send(self, frame_type: FrameType, head: Mapping[str, Any], body: bytes = b"") -> None:
        """Sends one frame; blocks until the kernel has taken it."""
        self._outgoing.write(encode(Frame(frame_type, head, body)))
        if body:
            self._outgoing.write(body)
        self._outgoing.flush()

    def read_source(self, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length) of the source, cut at its end; the range begins before the end."""
        self.send(FrameType.READ, {"offset": offset, "length": length})
        frame = self.receive()
        if frame.type is not FrameType.DATA or len(frame.body) > length:
            raise WireError("the parent answered a read with something else")
        return frame.body

    def artifact(self, name: str, content_type: str, data: bytes) -> None:
        """See `Reporter`."""
        self.send(FrameType.ARTIFACT, {"name": name, "content_type": content_type}, data)

    def progress(self, fraction: float) -> None:
        """See `Reporter`."""
        now_s = time.monotonic()
        if now_s >= self._progress_due_s:
            self._progress_due_s = now_s + _PROGRESS_EVERY_S
            self.send(FrameType.PROGRESS, {"fraction": round(min(1.0, fraction), 4)})

    def stage(self, name: str, start_unix_ns: int, attributes: Mapping[str, str | int | float]) -> None:
        """See `Reporter`."""
        self.send(
            FrameType.STAGE,
            {
                "name": name,
                "start_unix_ns": start_unix_ns,
                "end_unix_ns": time.time_ns(),
                "attributes": dict(attributes),
            },
        )
