"""The plan: which tasks turn an original into its renditions. Pure: `SourceInfo` in, task specs out.

A task of video is a stretch of time times some renditions: whoever works it decodes that stretch once, scales in a
cascade and encodes all of them. Long videos are cut into stretches that the fleet works side by side; where there are
fewer stretches than workers, their renditions are shared out too.

A spec says everything its task needs, in numbers that do not depend on who runs it. All renditions of
one video share one timeline: constant frame rate, frame 0 at the source's first picture, segment borders
at the same frames. Borders are counted in frames, not seconds, so that 29.97 and 23.976 have exact ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any

from services.transcode.ladder import (
    AUDIO_BITRATE_PER_CHANNEL_BPS,
    AUDIO_MAX_CHANNELS,
    AUDIO_MAX_TRACKS,
    AUDIO_SAMPLE_RATE_HZ,
    GOP_S,
    GOPS_PER_SEGMENT,
    HIGH_FRAME_RATE_FACTOR,
    IMAGE_SIZES_PX,
    LADDER,
    MAX_FRAME_RATE,
    Step,
    fitting_steps,
)
from services.transcode.source import (
    RejectedSource,
    RejectionReason,
    SourceInfo,
    VideoStreamInfo,
    from_jsonable,
    to_jsonable,
)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The one clock of all renditions of a video.

    Attributes:
        frame_rate: frames per second, constant, at most 60.
        frame_count: how many frames the probe expects; the encode says how many there were.
        gop_frames: an IDR frame every so many frames.
        segment_frames: a segment's length; a multiple of `gop_frames`. Only the last segment is shorter.
        origin_s: the moment on the source's clock that frame 0 shows.
    """

    frame_rate: Fraction
    frame_count: int
    gop_frames: int
    segment_frames: int
    origin_s: Fraction

    @property
    def duration_s(self) -> Fraction:
        """Length of the whole timeline."""
        return self.frame_count / self.frame_rate

    @property
    def segment_count(self) -> int:
        """Number of segments, the short last one included."""
        return max(1, ceil(self.frame_count / self.segment_frames))


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who will work: how many tasks of video all workers together have in hand at once."""

    video_slots: int = 2


@dataclass(frozen=True, slots=True)
class RenditionSpec:
    """One video rendition: H.264, square pixels, both sides even. Caps are those of its step."""

    label: str
    width_px: int
    height_px: int
    crf: int
    maxrate_bps: int
    bufsize_bits: int


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """Encode frames [first_frame, end_frame) of the timeline in every rendition, as CMAF segments.

    Chunks begin at borders of segments, and end there or with the timeline. `random_access` says that the source's
    pictures can be found by their time; where it is false, there is one chunk, the whole video.
    """

    label: str
    stream_index: int
    renditions: tuple[RenditionSpec, ...]
    deinterlace: bool
    random_access: bool
    timeline: Timeline
    first_frame: int
    end_frame: int
    cost: int


@dataclass(frozen=True, slots=True)
class LoudnessTarget:
    """How loud sound is to be, by EBU R 128.

    Attributes:
        integrated_lufs: of a whole track, as it is heard.
        true_peak_ceiling_dbtp: no peak is lifted above it, also where the target is then missed.
    """

    integrated_lufs: float
    true_peak_ceiling_dbtp: float


@dataclass(frozen=True, slots=True)
class AudioSpec:
    """Encode one audio track: AAC-LC in CMAF, exactly as long as the video's timeline, cut at its borders.

    Gaps and a missing end are filled with silence; what lies outside the timeline is dropped. With `loudness`
    None, sound is as loud as it came.
    """

    label: str
    stream_index: int
    bitrate_bps: int
    sample_rate_hz: int
    channels: int
    language: str | None
    timeline: Timeline
    loudness: LoudnessTarget | None
    cost: int


@dataclass(frozen=True, slots=True)
class PosterSpec:
    """Take one picture of a video, `at_s` after its first, and scale it so that the longer side is each
    of the sizes.

    Never scaled up: a source smaller than a size keeps its own size under that size's name.
    """

    label: str
    stream_index: int
    at_s: Fraction
    origin_s: Fraction
    sizes_px: tuple[int, ...]
    cost: int


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Scale an image so that its longer side is each of the sizes. Never scaled up, as in `PosterSpec`."""

    label: str
    sizes_px: tuple[int, ...]
    cost: int


TaskSpec = ChunkSpec | AudioSpec | PosterSpec | ImageSpec
"""One task. `label` names it within its media and in object keys; `cost` weighs it in the media's
progress."""

_SPEC_TYPES: Mapping[str, type[TaskSpec]] = {
    "chunk": ChunkSpec,
    "audio": AudioSpec,
    "poster": PosterSpec,
    "image": ImageSpec,
}

_COMMON_RATES = tuple(
    Fraction(n, d)
    for n, d in (
        (24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1),
        (48, 1), (50, 1), (60000, 1001), (60, 1), (120, 1), (240, 1),
    )
)  # fmt: skip

_MIN_FRAME_RATE = Fraction(1)
"""Slower sources (slide shows) repeat frames: below one frame a second no GOP would fit a segment."""

_POSTER_AT_MOST_S = Fraction(1)
"""Early enough to be quick to reach, late enough to be past most fades from black."""


_SHORTEST_CHUNK_S = 8
"""Below, decoding up to a chunk's first frame and the encoder's start weigh more than what is gained."""

_LONGEST_CHUNK_S = 32
"""Above, a worker that dies loses more than half a minute of a core, and the last chunks keep the fleet waiting."""

_ROUNDS = 2
"""Chunks a worker gets: with fewer, a slow one holds the others up at the end; with more, borders only cost."""


def plan(
    source: SourceInfo,
    *,
    ladder: tuple[Step, ...] = LADDER,
    fleet: Fleet = Fleet(),
    loudness: LoudnessTarget | None = None,
) -> tuple[TaskSpec, ...]:
    """Decides the tasks for one original, by what its bytes are: nobody's claim counts.

    Video: `ChunkSpec`s in order of time, of each stretch the largest renditions first; an `AudioSpec` for each track of
    sound; a `PosterSpec`. Image: one `ImageSpec`.

    Args:
        source: what the probe found.
        ladder: the steps to choose from.
        fleet: who will work.
        loudness: of every track of sound; None leaves each as it is.

    Raises:
        RejectedSource: NO_VIDEO_TRACK.
    """
    if source.image is not None:
        pixels = source.image.width_px * source.image.height_px
        return (ImageSpec(label="image", sizes_px=IMAGE_SIZES_PX, cost=pixels),)
    if source.video is None:
        raise RejectedSource(RejectionReason.NO_VIDEO_TRACK, "the file has no picture")
    timeline = _timeline(source.video, source.duration_s)
    return (
        *_chunk_specs(source.video, timeline, ladder, fleet),
        *_audio_specs(source, timeline, loudness),
        _poster_spec(source.video, timeline),
    )


def output_frame_rate(source_rate: Fraction) -> Fraction:
    """The constant rate of the renditions: the source's, snapped, halved until it is at most 60.

    Containers with coarse clocks report 29.97 as 2997/100 or 30000/1001 as 29.969…: a rate within 0.03 %
    of a common one is that one (24 and 23.976 differ by 0.1 %).
    """
    rate = min(_COMMON_RATES, key=lambda common: abs(common - source_rate))
    if abs(rate - source_rate) > rate * Fraction(3, 10_000):
        rate = source_rate.limit_denominator(1001)
    while rate > MAX_FRAME_RATE:
        rate /= 2
    return max(rate, _MIN_FRAME_RATE)


def gop_frames(frame_rate: Fraction) -> int:
    """Frames between two IDR frames: the whole number nearest to 2 s."""
    return max(1, round(GOP_S * frame_rate))


def spec_to_json(spec: TaskSpec) -> dict[str, Any]:
    """The JSON-able form of a spec, as the database and the child's pipe carry it, tagged by `kind`."""
    kind = next(name for name, spec_type in _SPEC_TYPES.items() if type(spec) is spec_type)
    return {"kind": kind, **to_jsonable(spec)}


def spec_from_json(data: Mapping[str, Any]) -> TaskSpec:
    """The inverse of `spec_to_json`.

    Raises:
        ValueError: the data is not a spec.
    """
    spec_type = _SPEC_TYPES.get(data.get("kind", ""))
    if spec_type is None:
        msg = f"unknown kind of task: {data.get('kind')!r}"
        raise ValueError(msg)
    return from_jsonable(spec_type, data)


def _timeline(video: VideoStreamInfo, duration_s: Fraction) -> Timeline:
    frame_rate = output_frame_rate(video.frame_rate)
    gop = gop_frames(frame_rate)
    return Timeline(
        frame_rate=frame_rate,
        frame_count=_expected_frame_count(video, duration_s, frame_rate),
        gop_frames=gop,
        segment_frames=gop * GOPS_PER_SEGMENT,
        origin_s=video.start_s,
    )


def _expected_frame_count(video: VideoStreamInfo, duration_s: Fraction, frame_rate: Fraction) -> int:
    by_clock = max(1, round(duration_s * frame_rate))
    if video.frame_count is None:
        return by_clock
    ratio = video.frame_rate / frame_rate
    by_count = max(1, round(video.frame_count / ratio))
    # Frames take their slots by the clock: where some were dropped, or come at a variable rate, it is right. Only what
    # rounding did is undone, so that a source of constant rate keeps its count.
    return by_count if abs(by_count - by_clock) <= 1 else by_clock


def chunk_borders(timeline: Timeline, fleet: Fleet, key_frame_interval_s: Fraction) -> tuple[int, ...]:
    """The first frame of each chunk and the end of the last: some rounds for each worker, neither short nor long.

    Args:
        timeline: of the video.
        fleet: who will work.
        key_frame_interval_s: the longest stretch of the source without one. Whoever works a chunk decodes from the key
            frame before it, so chunks that were much shorter would have most of the source decoded over and over.
    """
    segment_s = timeline.segment_frames / timeline.frame_rate
    segments = timeline.segment_count
    fewest = ceil(segments / int(_LONGEST_CHUNK_S / segment_s))
    shortest_s = max(Fraction(_SHORTEST_CHUNK_S), key_frame_interval_s / 2)
    most = max(1, segments // ceil(shortest_s / segment_s))
    chunks = min(max(fleet.video_slots * _ROUNDS, fewest), most)
    firsts = (number * segments // chunks * timeline.segment_frames for number in range(chunks))
    return (*firsts, timeline.frame_count)


def _chunk_specs(
    video: VideoStreamInfo, timeline: Timeline, ladder: tuple[Step, ...], fleet: Fleet
) -> tuple[ChunkSpec, ...]:
    renditions = _rendition_specs(video, timeline, ladder)
    borders: tuple[int, ...] = (0, timeline.frame_count)
    if video.random_access:
        borders = chunk_borders(timeline, fleet, video.key_frame_interval_s)
    chunks = tuple(pairwise(borders))
    groups = _shared_out(renditions, fleet.video_slots // len(chunks))
    return tuple(
        ChunkSpec(
            label=_chunk_label(number, group, groups),
            stream_index=video.stream_index,
            renditions=group,
            deinterlace=video.interlaced,
            random_access=video.random_access,
            timeline=timeline,
            first_frame=first_frame,
            end_frame=end_frame,
            cost=(end_frame - first_frame) * _frame_cost(video, group),
        )
        for number, (first_frame, end_frame) in enumerate(chunks, start=1)
        for group in groups
    )


def _rendition_specs(video: VideoStreamInfo, timeline: Timeline, ladder: tuple[Step, ...]) -> tuple[RenditionSpec, ...]:
    caps_factor = HIGH_FRAME_RATE_FACTOR if timeline.frame_rate > 30 else Fraction(1)
    return tuple(
        RenditionSpec(
            label=step.label,
            width_px=width_px,
            height_px=height_px,
            crf=step.crf,
            maxrate_bps=int(step.maxrate_bps * caps_factor),
            bufsize_bits=int(step.bufsize_bits * caps_factor),
        )
        for step, width_px, height_px in fitting_steps(video.display_width_px, video.display_height_px, ladder)
    )


def _shared_out(renditions: tuple[RenditionSpec, ...], shares: int) -> tuple[tuple[RenditionSpec, ...], ...]:
    """Renditions in up to so many groups, each of neighbours: the largest alone first, since it costs most."""
    alone = max(0, min(shares, len(renditions)) - 1)
    return (*((rendition,) for rendition in renditions[:alone]), renditions[alone:])


def _chunk_label(number: int, group: tuple[RenditionSpec, ...], groups: tuple[tuple[RenditionSpec, ...], ...]) -> str:
    name = f"video-{number:03}"
    return name if len(groups) == 1 else f"{name}-{group[0].label}"


def _frame_cost(video: VideoStreamInfo, group: tuple[RenditionSpec, ...]) -> int:
    # Measured shares: decoding a pixel costs about three tenths of encoding one.
    decoded_px = video.coded_width_px * video.coded_height_px * 3 // 10
    return decoded_px + sum(rendition.width_px * rendition.height_px for rendition in group)


def _audio_specs(source: SourceInfo, timeline: Timeline, loudness: LoudnessTarget | None) -> tuple[AudioSpec, ...]:
    return tuple(
        AudioSpec(
            label="audio" if number == 1 else f"audio-{number}",
            stream_index=track.stream_index,
            bitrate_bps=(channels := max(1, min(track.channels, AUDIO_MAX_CHANNELS))) * AUDIO_BITRATE_PER_CHANNEL_BPS,
            sample_rate_hz=AUDIO_SAMPLE_RATE_HZ,
            channels=channels,
            language=track.language,
            timeline=timeline,
            loudness=loudness,
            # A second of stereo AAC takes about as long as half a megapixel of video; half as long again where it is
            # decoded twice.
            cost=max(1, round(timeline.duration_s * (750_000 if loudness else 500_000))),
        )
        for number, track in enumerate(source.audio[:AUDIO_MAX_TRACKS], start=1)
    )


def _poster_spec(video: VideoStreamInfo, timeline: Timeline) -> PosterSpec:
    source_px = video.coded_width_px * video.coded_height_px
    return PosterSpec(
        label="poster",
        stream_index=video.stream_index,
        at_s=min(_POSTER_AT_MOST_S, timeline.duration_s / 10),
        origin_s=timeline.origin_s,
        sizes_px=IMAGE_SIZES_PX,
        # About a second of decoding leads to the picture.
        cost=source_px * 3 // 10 * max(1, round(timeline.frame_rate)),
    )
