"""Frames as a viewer sees them: interlacing undone, scaled, turned upright, in the colours of BT.709."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import av.error
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

_UNSPECIFIED = 2  # ISO/IEC 23091-2, matrix coefficients
_HD_HEIGHT_PX = 720
"""Untagged video is BT.601 below and BT.709 from here on, as players assume."""

_TURNS = {90: "transpose=clock", 180: "hflip,vflip", 270: "transpose=cclock"}


def rotation_degrees(frame: VideoFrame) -> int:
    """How far the frame is to be turned clockwise for display: 0, 90, 180 or 270."""
    # libav counts counter-clockwise; odd angles go to the nearest quarter turn.
    return round(-frame.rotation / 90) % 4 * 90


def display_size(
    coded_width_px: int, coded_height_px: int, sample_aspect_ratio: Fraction, rotation: int
) -> tuple[int, int]:
    """Width and height in square pixels after rotation; at least 2 each."""
    width_px = max(2, round(coded_width_px * sample_aspect_ratio))
    height_px = max(2, coded_height_px)
    return (height_px, width_px) if rotation % 180 else (width_px, height_px)


class Scaler:
    """Brings frames to one size as 8-bit 4:2:0, upright. Keeps its tables between frames."""

    def __init__(self, width_px: int, height_px: int) -> None:
        self._width_px = width_px
        self._height_px = height_px
        self._reformatter = VideoReformatter()
        self._turn: _FilterChain | None = None

    def scale(self, frame: VideoFrame) -> VideoFrame:
        """The frame at the target size. May be the frame itself where nothing has to be done."""
        rotation = rotation_degrees(frame)
        width_px, height_px = self._width_px, self._height_px
        if rotation % 180:
            width_px, height_px = height_px, width_px
        scaled = self._reformatter.reformat(
            frame,
            width_px,
            height_px,
            "yuv420p",
            src_colorspace=_source_matrix(frame),
            dst_colorspace=Colorspace.ITU709,
            src_color_range=_source_range(frame),
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        if not rotation:
            return scaled
        # Turned when small, not when large: fewer pixels to move.
        if self._turn is None:
            self._turn = _FilterChain(_TURNS[rotation], scaled, Fraction(1, 1))
        self._turn.push(scaled)
        return next(self._turn.pull())


class Cascade:
    """Brings frames to several sizes, each from the one before: a small picture is not made of all of a large one."""

    def __init__(self, sizes_px: Sequence[tuple[int, int]]) -> None:
        """Prepares the sizes, as width and height of the upright picture, from the largest down."""
        (width_px, height_px), *smaller = sizes_px
        self._first = Scaler(width_px, height_px)
        self._smaller = [(width_px, height_px, VideoReformatter()) for width_px, height_px in smaller]

    def scaled(self, frame: VideoFrame) -> list[VideoFrame]:
        """The frame in every size; the first may be the frame itself."""
        pictures = [self._first.scale(frame)]
        for width_px, height_px, reformatter in self._smaller:
            pictures.append(
                reformatter.reformat(
                    pictures[-1], width_px, height_px, "yuv420p", interpolation=Interpolation.BICUBIC, threads=1
                )
            )
        return pictures


def deinterlaced(frames: Iterable[VideoFrame], time_base: Fraction) -> Iterator[VideoFrame]:
    """Joins the fields of interlaced frames: one frame out for each one in, times kept."""
    chain: _FilterChain | None = None
    for frame in frames:
        chain = chain or _FilterChain("bwdif=mode=send_frame:deint=interlaced", frame, time_base)
        chain.push(frame)
        yield from chain.pull()
    if chain is not None:
        chain.push(None)
        yield from chain.pull()


def _source_matrix(frame: VideoFrame) -> Colorspace | None:
    if frame.colorspace != _UNSPECIFIED:
        return None  # as tagged
    return Colorspace.ITU709 if frame.height >= _HD_HEIGHT_PX else Colorspace.ITU601


def _source_range(frame: VideoFrame) -> ColorRange | None:
    if frame.color_range != ColorRange.UNSPECIFIED or frame.format.name.startswith("yuvj"):
        return None
    return None if frame.format.is_rgb else ColorRange.MPEG


class _FilterChain:
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
