"""Frames as a viewer sees them: scaled, turned upright, in the colours of BT.709."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from services.transcode.engine.video.filters import FilterChain
from services.transcode.engine.video.tonemap import hald, is_hdr
from services.transcode.source import UNTAGGED_BT709_HEIGHT_PX, WIDEST_SAMPLES

if TYPE_CHECKING:
    from av.sidedata.sidedata import SideData

_KNOWN_MATRICES = frozenset({1, 4, 5, 6, 7, 9})
"""Of ISO/IEC 23091-2: those that swscale has. A picture tagged with another is taken for untagged: so it mostly is."""

_TURNS = {90: "transpose=clock", 180: "hflip,vflip", 270: "transpose=cclock"}
_MIRROR = "hflip"
_MATRIX = struct.Struct("=9i")  # as libav hands it on: in the machine's byte order


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a stored picture becomes the one that is shown: mirrored left to right first, then turned clockwise."""

    mirrored: bool
    rotation_degrees: int

    @property
    def swaps_sides(self) -> bool:
        """Whether width becomes height."""
        return self.rotation_degrees % 180 != 0

    @property
    def filters(self) -> str:
        """The libavfilter chain that does it; empty where nothing is to be done."""
        steps = [_MIRROR] if self.mirrored else []
        return ",".join([*steps, *([_TURNS[self.rotation_degrees]] if self.rotation_degrees else [])])


def orientation(frame: VideoFrame) -> Orientation:
    """By the display matrix of ISO/IEC 14496-12 (6.2.2); odd angles go to the nearest quarter turn."""
    matrix = cast("SideData | None", frame.side_data.get("DISPLAYMATRIX"))
    if matrix is None or len(packed := bytes(matrix)) != _MATRIX.size:
        return Orientation(mirrored=False, rotation_degrees=0)
    a, b, _, c, d, *_ = _MATRIX.unpack(packed)
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return Orientation(mirrored, round(math.degrees(math.atan2(b, a)) / 90) % 4 * 90)


def display_size(
    coded_width_px: int, coded_height_px: int, sample_aspect_ratio: Fraction, shown: Orientation
) -> tuple[int, int]:
    """Width and height in square pixels, upright; at least 2 each. A ratio that no picture has is none."""
    is_meant = Fraction(1, WIDEST_SAMPLES) <= sample_aspect_ratio <= WIDEST_SAMPLES
    width_px = max(2, round(coded_width_px * (sample_aspect_ratio if is_meant else 1)))
    height_px = max(2, coded_height_px)
    return (height_px, width_px) if shown.swaps_sides else (width_px, height_px)


class Scaler:
    """Brings frames to one size as 8-bit 4:2:0 in BT.709, upright. Keeps its tables between frames."""

    def __init__(self, width_px: int, height_px: int) -> None:
        self._width_px = width_px
        self._height_px = height_px
        self._reformatter = VideoReformatter()
        self._tones: _ToneMapper | None = None
        self._shown: tuple[int, Orientation] | None = None
        self._turns: dict[str, FilterChain] = {}

    def scale(self, frame: VideoFrame) -> VideoFrame:
        """The frame at the target size. May be the frame itself where nothing has to be done."""
        shown = self._orientation(frame)
        width_px, height_px = self._width_px, self._height_px
        if shown.swaps_sides:
            width_px, height_px = height_px, width_px
        scaled = (self._toned if is_hdr(frame) else self._reformatted)(frame, width_px, height_px)
        if not shown.filters:
            return scaled
        # Turned when small, not when large: fewer pixels to move.
        if shown.filters not in self._turns:
            self._turns[shown.filters] = FilterChain(shown.filters, scaled, Fraction(1, 1))
        turn = self._turns[shown.filters]
        turn.push(scaled)
        return next(turn.pull())

    def _orientation(self, frame: VideoFrame) -> Orientation:
        """Asks for the matrix, which is one for a whole track, only when the angle is another: PyAV ties a frame whose
        side data was asked for to itself, and it stays in memory until the garbage collector comes by.
        """
        if self._shown is None or self._shown[0] != frame.rotation:
            self._shown = frame.rotation, orientation(frame)
        return self._shown[1]

    def _reformatted(self, frame: VideoFrame, width_px: int, height_px: int) -> VideoFrame:
        return self._reformatter.reformat(
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

    def _toned(self, frame: VideoFrame, width_px: int, height_px: int) -> VideoFrame:
        if self._tones is None or not self._tones.takes(frame):
            self._tones = _ToneMapper(frame, width_px, height_px)
        return self._tones.mapped(frame)


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


def _source_matrix(frame: VideoFrame) -> Colorspace | None:
    if frame.format.is_rgb or frame.colorspace in _KNOWN_MATRICES:
        return None  # as tagged
    return Colorspace.ITU709 if frame.height >= UNTAGGED_BT709_HEIGHT_PX else Colorspace.ITU601


def _source_range(frame: VideoFrame) -> ColorRange | None:
    if frame.color_range != ColorRange.UNSPECIFIED or frame.format.name.startswith("yuvj"):
        return None
    return None if frame.format.is_rgb else ColorRange.MPEG


class _ToneMapper:
    """Scales HDR frames that all look like the first one and maps their colours to SDR; see `tonemap`."""

    def __init__(self, like: VideoFrame, width_px: int, height_px: int) -> None:
        self._look = _look(like)
        graph = Graph()
        graph.threads = 1
        self._graph = graph
        clock = Fraction(1, 1000)
        self._frames = graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=clock)
        table = hald(int(like.color_trc))
        colours = graph.add_buffer(width=table.width, height=table.height, format=table.format, time_base=clock)
        full_range = "pc" if like.color_range == ColorRange.JPEG else "tv"
        scaled = graph.add(
            "scale", f"{width_px}:{height_px}:flags=bicubic:in_color_matrix=bt2020:in_range={full_range}:out_range=pc"
        )
        deep = graph.add("format", table.format.name)
        mapped = graph.add("haldclut", "interp=tetrahedral:clut=first")
        to_709 = graph.add("scale", "out_color_matrix=bt709:out_range=tv")
        shallow = graph.add("format", "yuv420p")
        self._sink = graph.add("buffersink")
        for one, other in ((self._frames, scaled), (scaled, deep), (deep, mapped)):
            one.link_to(other)
        colours.link_to(mapped, 0, 1)
        for one, other in ((mapped, to_709), (to_709, shallow), (shallow, self._sink)):
            one.link_to(other)
        graph.configure()
        colours.push(table)
        colours.push(None)
        self._count = 0

    def takes(self, frame: VideoFrame) -> bool:
        """Whether a frame looks like the first one."""
        return _look(frame) == self._look

    def mapped(self, frame: VideoFrame) -> VideoFrame:
        """A frame at the target size."""
        times = frame.pts, frame.time_base
        frame.pts, frame.time_base = self._count, Fraction(1, 1000)
        self._count += 1
        self._frames.push(frame)
        frame.pts, frame.time_base = times
        mapped = self._sink.pull()
        assert isinstance(mapped, VideoFrame)
        return mapped


def _look(frame: VideoFrame) -> tuple[int, int, str, int, int]:
    return frame.width, frame.height, frame.format.name, int(frame.color_trc), int(frame.color_range)
