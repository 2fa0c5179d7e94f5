"""The plan: which tasks turn an original into its renditions. Pure: `SourceInfo` in, task specs out.

A task of video is a stretch of time times some renditions: whoever works it decodes that stretch once, scales in a
cascade and encodes all of them. Long videos are cut into stretches that the fleet works side by side; where there are
fewer stretches than workers, their renditions are shared out too.

A spec says everything its task needs, in numbers that do not depend on who runs it. All renditions of
one video share one timeline: constant frame rate, frame 0 at the source's first picture, segment borders
at the same frames. Borders are counted in frames, not seconds, so that 29.97 and 23.976 have exact ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby, pairwise
from math import ceil
from typing import Any

from services.transcode.ladder import (
    AUDIO_BITRATE_PER_CHANNEL_BPS,
    AUDIO_MAX_CHANNELS,
    AUDIO_MAX_TRACKS,
    AUDIO_SAMPLE_RATE_HZ,
    ENCODE_COST,
    GOP_S,
    GOPS_PER_SEGMENT,
    HIGH_FRAME_RATE_FACTOR,
    IMAGE_FORMATS,
    IMAGE_SIZES_PX,
    LADDER,
    MAX_FRAME_RATE,
    SOFTWARE,
    Codec,
    ImageFormat,
    Packaging,
    Step,
    fitting_steps,
)
from services.transcode.pass_through import grid_for
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
class LoudnessTarget:
    """How loud sound is to be, by EBU R 128.

    Attributes:
        integrated_lufs: of a whole track, as it is heard.
        true_peak_ceiling_dbtp: no peak is lifted above it, also where the target is then missed.
    """

    integrated_lufs: float
    true_peak_ceiling_dbtp: float


@dataclass(frozen=True, slots=True)
class Output:
    """What originals shall become.

    Attributes:
        ladder: the steps to choose from; those of a video's first codec first.
        packaging: of all segments.
        pass_through: whether packets of an original may be published.
        loudness: of every track of sound; None leaves each as it is.
        image_formats: what stills are written as.
    """

    ladder: tuple[Step, ...] = LADDER
    packaging: Packaging = Packaging.CMAF
    pass_through: bool = True
    loudness: LoudnessTarget | None = None
    image_formats: tuple[ImageFormat, ...] = IMAGE_FORMATS


DEFAULT_OUTPUT = Output()


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who will work: how many tasks of video all workers together have in hand at once."""

    video_slots: int = 2


@dataclass(frozen=True, slots=True)
class RenditionSpec:
    """One video rendition: square pixels, both sides even. Caps are those of its step.

    `encoder` is libav's name for the encoder: pieces of one rendition fit each other only if all are of the same one.
    """

    label: str
    width_px: int
    height_px: int
    crf: int
    maxrate_bps: int
    bufsize_bits: int
    codec: Codec = Codec.H264
    encoder: str = SOFTWARE[Codec.H264]


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """Encode frames [first_frame, end_frame) of the timeline in every rendition, all of one codec, as segments.

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
    packaging: Packaging = Packaging.CMAF


@dataclass(frozen=True, slots=True)
class PassThroughSpec:
    """Publish the original's own packets as `rendition`, which they already are by what the probe found.

    Where they turn out to be something else, the rendition is encoded after all.
    """

    label: str
    stream_index: int
    rendition: RenditionSpec
    timeline: Timeline
    cost: int


@dataclass(frozen=True, slots=True)
class AudioSpec:
    """Encode one audio track: AAC-LC, exactly as long as the video's timeline, cut at its borders.

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
    cost: int
    packaging: Packaging = Packaging.CMAF
    loudness: LoudnessTarget | None = None


@dataclass(frozen=True, slots=True)
class PosterSpec:
    """Take one picture of a video, `at_s` after its first, and scale it so that the longer side is each
    of the sizes, in each of the formats.

    Never scaled up: a source smaller than a size keeps its own size under that size's name.
    """

    label: str
    stream_index: int
    at_s: Fraction
    origin_s: Fraction
    sizes_px: tuple[int, ...]
    cost: int
    formats: tuple[ImageFormat, ...] = (ImageFormat.JPEG,)


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Scale an image so that its longer side is each of the sizes, in each format. Never up, as in `PosterSpec`."""

    label: str
    sizes_px: tuple[int, ...]
    cost: int
    formats: tuple[ImageFormat, ...] = (ImageFormat.JPEG,)


TaskSpec = ChunkSpec | PassThroughSpec | AudioSpec | PosterSpec | ImageSpec
"""One task. `label` names it within its media and in object keys; `cost` weighs it in the media's
progress."""

_SPEC_TYPES: Mapping[str, type[TaskSpec]] = {
    "chunk": ChunkSpec,
    "pass_through": PassThroughSpec,
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


def plan(source: SourceInfo, *, output: Output = DEFAULT_OUTPUT, fleet: Fleet = Fleet()) -> tuple[TaskSpec, ...]:
    """Decides the tasks for one original, by what its bytes are: nobody's claim counts.

    Video: a `PassThroughSpec`, where the original already is its largest rendition; `ChunkSpec`s codec by codec, of
    each in order of time, of each stretch the largest renditions first; an `AudioSpec` for each track of sound; a
    `PosterSpec`. Image: one `ImageSpec`.

    Args:
        source: what the probe found.
        output: what is wished.
        fleet: who will work.

    Raises:
        RejectedSource: NO_VIDEO_TRACK.
    """
    if source.image is not None:
        pixels = source.image.width_px * source.image.height_px
        return (ImageSpec(label="image", sizes_px=IMAGE_SIZES_PX, cost=pixels, formats=output.image_formats),)
    if source.video is None:
        raise RejectedSource(RejectionReason.NO_VIDEO_TRACK, "the file has no picture")
    timeline = _timeline(source.video, source.duration_s)
    renditions = _rendition_specs(source.video, timeline, output.ladder)
    if output.pass_through and output.packaging is Packaging.CMAF:
        passing = _passing_specs(source, timeline, renditions, output, fleet)
        if passing and _is_worthwhile(passing, fleet):
            return passing
    return _specs(source, timeline, renditions, output, fleet)


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


def chunk_borders(timeline: Timeline, chunks: int) -> tuple[int, ...]:
    """The first frame of each chunk and the end of the last: whole segments, as evenly as they go."""
    firsts = (number * timeline.segment_count // chunks * timeline.segment_frames for number in range(chunks))
    return (*firsts, timeline.frame_count)


def _chunk_count(
    video: VideoStreamInfo, timeline: Timeline, renditions: tuple[RenditionSpec, ...], video_slots: int
) -> int:
    """Into how many chunks to cut: some rounds for each worker, neither short nor long.

    Whoever works a chunk decodes from the key frame before it: chunks that were much shorter than the source's groups of
    pictures would have most of it decoded over and over.
    """
    if not video.random_access:
        return 1
    segment_s = timeline.segment_frames / timeline.frame_rate
    segments = timeline.segment_count
    fewest = ceil(segments / int(_LONGEST_CHUNK_S / segment_s))
    shortest_s = max(Fraction(_SHORTEST_CHUNK_S), video.key_frame_interval_s / 2)
    most = max(1, segments // ceil(shortest_s / segment_s))
    if most < video_slots and video.key_frame_interval_s <= 2 * segment_s:
        return _count_of_few(video, timeline, renditions, video_slots)
    return min(max(video_slots * _ROUNDS, fewest), most)


def _count_of_few(
    video: VideoStreamInfo, timeline: Timeline, renditions: tuple[RenditionSpec, ...], video_slots: int
) -> int:
    """The number of chunks of a video so short that workers idle: it is soon done, and with little work.

    Cut short, it has chunks of unequal length; shared out by renditions, it is decoded over and over.
    """

    def effort(chunks: int) -> Fraction:
        groups = _shared_out(renditions, video_slots // chunks)
        costs = [_frame_cost(video, group) for group in groups]
        longest = max(end - first for first, end in pairwise(chunk_borders(timeline, chunks)))
        rounds = ceil(chunks * len(groups) / video_slots)
        return rounds * longest * max(costs) + Fraction(timeline.frame_count * sum(costs), video_slots)

    return min(range(1, min(video_slots, timeline.segment_count) + 1), key=effort)


def _specs(
    source: SourceInfo, timeline: Timeline, renditions: tuple[RenditionSpec, ...], output: Output, fleet: Fleet
) -> tuple[TaskSpec, ...]:
    """Tasks that encode these renditions, all sound, and a poster."""
    assert source.video is not None
    return (
        *_chunk_specs(source.video, timeline, renditions, fleet, output.packaging),
        *_audio_specs(source, timeline, output),
        _poster_spec(source.video, timeline, output.image_formats),
    )


def _passing_specs(
    source: SourceInfo, timeline: Timeline, renditions: tuple[RenditionSpec, ...], output: Output, fleet: Fleet
) -> tuple[TaskSpec, ...]:
    """The plan that publishes the original's packets; empty where they are not what its largest rendition shall be."""
    video, largest = source.video, renditions[0]
    if video is None or video.h264 is None or largest.codec is not Codec.H264:
        return ()
    grid = grid_for(
        video,
        timeline.frame_rate,
        width_px=largest.width_px,
        height_px=largest.height_px,
        maxrate_bps=largest.maxrate_bps,
        bufsize_bits=largest.bufsize_bits,
    )
    if grid is None or video.frame_count != timeline.frame_count:
        return ()
    timeline = replace(timeline, gop_frames=grid.gop_frames, segment_frames=grid.segment_frames)
    smaller = tuple(_no_dearer(rendition, video.h264.peak_bps) for rendition in renditions[1:])
    return (_pass_through_spec(video, timeline, largest), *_specs(source, timeline, smaller, output, fleet))


def _is_worthwhile(passing: Sequence[TaskSpec], fleet: Fleet) -> bool:
    """Whether one worker is through with the packets before the others are through with the rest.

    A large fleet encodes a video in less time than one core takes to look at it.
    """
    return passing[0].cost * fleet.video_slots <= _ROUNDS * sum(spec.cost for spec in passing)


def _no_dearer(rendition: RenditionSpec, peak_bps: int) -> RenditionSpec:
    """A rendition that is smaller than one of this bit rate, and shall not take more."""
    bufsize_bits = min(rendition.bufsize_bits, peak_bps * 3 // 2)
    return replace(rendition, maxrate_bps=min(rendition.maxrate_bps, peak_bps), bufsize_bits=bufsize_bits)


def _pass_through_spec(video: VideoStreamInfo, timeline: Timeline, rendition: RenditionSpec) -> PassThroughSpec:
    return PassThroughSpec(
        label="video-pass-through",
        stream_index=video.stream_index,
        rendition=rendition,
        timeline=timeline,
        # Every frame is decoded once, to see that it can be.
        cost=timeline.frame_count * _frame_cost(video, ()),
    )


def _chunk_specs(
    video: VideoStreamInfo,
    timeline: Timeline,
    renditions: tuple[RenditionSpec, ...],
    fleet: Fleet,
    packaging: Packaging,
) -> tuple[ChunkSpec, ...]:
    if not renditions:
        return ()
    # A codec has tasks of its own: slow ones keep those of a quick one no longer than they must.
    by_codec = [tuple(group) for _, group in groupby(renditions, key=lambda rendition: rendition.codec)]
    count = _chunk_count(video, timeline, by_codec[0], fleet.video_slots)
    chunks = tuple(pairwise(chunk_borders(timeline, count)))
    shares = fleet.video_slots // count
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
            packaging=packaging,
        )
        for of_codec in by_codec
        for groups in (_shared_out(of_codec, shares),)
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
            codec=step.codec,
            encoder=step.encoder,
        )
        for step, width_px, height_px in fitting_steps(video.display_width_px, video.display_height_px, ladder)
    )


def _shared_out(renditions: tuple[RenditionSpec, ...], shares: int) -> tuple[tuple[RenditionSpec, ...], ...]:
    """Renditions in up to so many groups, each of neighbours: the largest alone first, since it costs most."""
    alone = max(0, min(shares, len(renditions)) - 1)
    return (*((rendition,) for rendition in renditions[:alone]), renditions[alone:])


def _chunk_label(number: int, group: tuple[RenditionSpec, ...], groups: tuple[tuple[RenditionSpec, ...], ...]) -> str:
    name, first = f"video-{number:03}", group[0]
    if len(groups) > 1:
        return f"{name}-{first.label}"
    return name if first.codec is Codec.H264 else f"{name}-{first.codec}"


def _frame_cost(video: VideoStreamInfo, group: tuple[RenditionSpec, ...]) -> int:
    # Measured shares: decoding a pixel costs about three tenths of encoding one.
    decoded_px = video.coded_width_px * video.coded_height_px * 3 // 10
    encoded_px = sum(one.width_px * one.height_px * ENCODE_COST[one.codec] for one in group)
    return decoded_px + encoded_px


def _audio_specs(source: SourceInfo, timeline: Timeline, output: Output) -> tuple[AudioSpec, ...]:
    return tuple(
        AudioSpec(
            label="audio" if number == 1 else f"audio-{number}",
            stream_index=track.stream_index,
            bitrate_bps=(channels := max(1, min(track.channels, AUDIO_MAX_CHANNELS))) * AUDIO_BITRATE_PER_CHANNEL_BPS,
            sample_rate_hz=AUDIO_SAMPLE_RATE_HZ,
            channels=channels,
            language=track.language,
            timeline=timeline,
            # A second of stereo AAC takes about as long as half a megapixel of video; half as long again where it is
            # decoded twice.
            cost=max(1, round(timeline.duration_s * (750_000 if output.loudness else 500_000))),
            packaging=output.packaging,
            loudness=output.loudness,
        )
        for number, track in enumerate(source.audio[:AUDIO_MAX_TRACKS], start=1)
    )


def _poster_spec(video: VideoStreamInfo, timeline: Timeline, formats: tuple[ImageFormat, ...]) -> PosterSpec:
    source_px = video.coded_width_px * video.coded_height_px
    return PosterSpec(
        label="poster",
        stream_index=video.stream_index,
        at_s=min(_POSTER_AT_MOST_S, timeline.duration_s / 10),
        origin_s=timeline.origin_s,
        sizes_px=IMAGE_SIZES_PX,
        # About a second of decoding leads to the picture.
        cost=source_px * 3 // 10 * max(1, round(timeline.frame_rate)),
        formats=formats,
    )
