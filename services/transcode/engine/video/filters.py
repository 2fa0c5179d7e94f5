"""Libavfilter for frames that come one by one."""

from collections.abc import Iterator
from fractions import Fraction

import av.error
from av.filter import Graph
from av.video.frame import VideoFrame


class FilterChain:
    """A linear libavfilter graph for frames that all look like the first one."""

    def __init__(self, filters: str, like: VideoFrame, time_base: Fraction) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        nodes = [self._graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=time_base)]
        for text in filters.split(","):
            name, _, arguments = text.partition("=")
            nodes.append(self._graph.add(name, arguments or None))
        nodes.append(self._graph.add("buffersink"))
        self._graph.link_nodes(*nodes).configure()

    def push(self, frame: VideoFrame | None) -> None:
        """Puts a frame in; None ends the stream."""
        self._graph.vpush(frame)

    def pull(self) -> Iterator[VideoFrame]:
        """All frames that are ready."""
        while True:
            try:
                yield self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
