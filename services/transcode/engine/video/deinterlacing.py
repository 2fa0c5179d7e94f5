"""Joins the fields of interlaced frames, wherever in a video there are some: broadcasts change with what they show."""

from collections.abc import Iterable, Iterator
from fractions import Fraction

from av.video.frame import VideoFrame

from services.transcode.engine.video.filters import FilterChain

_FILTER = "bwdif=mode=send_frame:deint=interlaced"
"""Passes progressive frames on as they are."""


def deinterlaced(frames: Iterable[VideoFrame], time_base: Fraction) -> Iterator[VideoFrame]:
    """One frame out for each one in, times kept; up to the first interlaced one, the frames themselves.

    A missing line is made of the frames before and after. So what begins with any frame goes on with the same pictures
    as what began before it, from the second frame on.

    Args:
        frames: in order of presentation; sizes and formats may change.
        time_base: of those that tell none.
    """
    before: VideoFrame | None = None
    fields: _Fields | None = None
    for frame in frames:
        if fields is not None and not fields.takes(frame):
            yield from fields.rest()
            fields = before = None
        if fields is None and frame.interlaced_frame:
            fields = _Fields(frame, before, frame.time_base or time_base)
        if fields is None:
            yield frame
            before = frame
        else:
            yield from fields.joined(frame)
    if fields is not None:
        yield from fields.rest()


class _Fields:
    """The filter for frames of one size and format."""

    def __init__(self, like: VideoFrame, before: VideoFrame | None, time_base: Fraction) -> None:
        """Begins with a frame; the one before, if it is alike, has been shown and is looked at only."""
        self._look = _look(like)
        self._chain = FilterChain(_FILTER, like, time_base)
        self._leaves_out = before is not None and self.takes(before)
        if self._leaves_out:
            self._chain.push(before)

    def takes(self, frame: VideoFrame) -> bool:
        """Whether a frame looks like the first one."""
        return _look(frame) == self._look

    def joined(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Takes a frame; gives the one before it, if there is one."""
        self._chain.push(frame)
        yield from self._ready()

    def rest(self) -> Iterator[VideoFrame]:
        """Ends it: the last frame."""
        self._chain.push(None)
        yield from self._ready()

    def _ready(self) -> Iterator[VideoFrame]:
        for frame in self._chain.pull():
            if self._leaves_out:
                self._leaves_out = False
            else:
                yield frame


def _look(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
