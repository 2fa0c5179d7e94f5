"""What a video of some shape would become: the plan, without an upload."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from services.runtime.errors import InvalidArgument
from services.transcode.engine.limits import Limits
from services.transcode.plan import DEFAULT_OUTPUT, Fleet, Output, plan
from services.transcode.planner import cost_shares
from services.transcode.source import (
    AudioStreamInfo,
    ColourInfo,
    ContainerFormat,
    MediaKind,
    SourceInfo,
    VideoStreamInfo,
)
from services.transcode.specs import AudioSpec, ChunkSpec, TaskSpec

_MAX_SOURCE_FRAME_RATE = 1_000
_SHORTEST_SIDE_PX = 2
"""Smaller has no 4:2:0 chroma."""
_UNSPECIFIED_COLOUR = ColourInfo(primaries=2, transfer=2, matrix=2, full_range=None)


@dataclass(frozen=True, slots=True)
class Shape:
    """A video that might come: as displayed, frames a second, seconds."""

    width_px: int
    height_px: int
    frame_rate: Fraction
    duration_s: Fraction
    has_audio: bool


@dataclass(frozen=True, slots=True)
class PlannedRendition:
    """One rendition of the plan; sizes are 0 for sound and stills, `max_bps` for stills."""

    label: str
    width_px: int
    height_px: int
    max_bps: int
    cost_share: float


def preview(
    shape: Shape, limits: Limits, *, fleet: Fleet, output: Output = DEFAULT_OUTPUT
) -> tuple[PlannedRendition, ...]:
    """What a shape would become, in plan order.

    Args:
        shape: of the video.
        limits: that it is held against.
        fleet: who would work.
        output: what is wished.

    Raises:
        InvalidArgument: `details["field"]` is out of bounds.
    """
    _check(shape, limits)
    specs = plan(_source(shape), output=output, fleet=fleet)
    renditions: dict[str, PlannedRendition] = {}
    for spec, share in zip(specs, cost_shares(specs), strict=True):
        for rendition in _renditions(spec, share):
            before = renditions.get(rendition.label)
            share_before = before.cost_share if before else 0.0
            renditions[rendition.label] = replace(rendition, cost_share=share_before + rendition.cost_share)
    return tuple(renditions.values())


def _check(shape: Shape, limits: Limits) -> None:
    if min(shape.width_px, shape.height_px) < _SHORTEST_SIDE_PX:
        raise _out_of_bounds("width_px" if shape.width_px < _SHORTEST_SIDE_PX else "height_px")
    if shape.width_px * shape.height_px > limits.max_frame_pixels:
        raise _out_of_bounds("width_px")
    if not 0 < shape.frame_rate <= _MAX_SOURCE_FRAME_RATE:
        raise _out_of_bounds("frame_rate")
    if not 0 < shape.duration_s <= limits.max_duration_s:
        raise _out_of_bounds("duration_secs")


def _out_of_bounds(field: str) -> InvalidArgument:
    return InvalidArgument(f"{field} is out of bounds", reason="OUT_OF_BOUNDS", details={"field": field})


def _source(shape: Shape) -> SourceInfo:
    video = VideoStreamInfo(
        stream_index=0,
        codec="h264",
        pix_fmt="yuv420p",
        coded_width_px=shape.width_px,
        coded_height_px=shape.height_px,
        display_width_px=shape.width_px,
        display_height_px=shape.height_px,
        rotation_degrees=0,
        sample_aspect_ratio=Fraction(1),
        frame_rate=shape.frame_rate,
        frame_count=None,
        start_s=Fraction(0),
        interlaced=False,
        colour=_UNSPECIFIED_COLOUR,
        random_access=True,
        key_frame_interval_s=Fraction(1),
        h264=None,
    )
    sound = AudioStreamInfo(stream_index=1, codec="aac", channels=2, sample_rate_hz=48_000, language=None)
    return SourceInfo(
        kind=MediaKind.VIDEO,
        container=ContainerFormat.MP4,
        size_bytes=0,
        duration_s=shape.duration_s,
        video=video,
        audio=(sound,) if shape.has_audio else (),
        image=None,
    )


def _renditions(spec: TaskSpec, cost_share: float) -> Iterator[PlannedRendition]:
    match spec:
        case ChunkSpec():
            pixels = sum(one.width_px * one.height_px for one in spec.renditions)
            for one in spec.renditions:
                share = cost_share * one.width_px * one.height_px / pixels
                yield PlannedRendition(one.label, one.width_px, one.height_px, one.maxrate_bps, share)
        case AudioSpec():
            yield PlannedRendition(spec.label, 0, 0, spec.bitrate_bps, cost_share)
        case _:
            yield PlannedRendition(spec.label, 0, 0, 0, cost_share)
