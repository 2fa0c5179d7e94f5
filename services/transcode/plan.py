"""The plan: which tasks turn an original into its renditions. Pure: `SourceInfo` in, task specs out.

A task of video is a stretch of time times some renditions (`cutting`): whoever works it decodes that stretch once,
scales in a cascade and encodes all of them. Where the original already is its largest rendition (`pass_through`), a
task of its own publishes that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby, pairwise

from services.transcode.cutting import ROUNDS, chunk_borders, chunk_count, frame_cost, shared_out
from services.transcode.formats import Codec, ImageFormat, Packaging
from services.transcode.ladder import (
    AUDIO_BITRATE_PER_CHANNEL_BPS,
    AUDIO_MAX_CHANNELS,
    AUDIO_MAX_TRACKS,
    AUDIO_SAMPLE_RATE_HZ,
    GOP_S,
    GOPS_PER_SEGMENT,
    HIGH_FRAME_RATE_FACTOR,
    IMAGE_FORMATS,
    IMAGE_SIZES_PX,
    LADDER,
    MAX_FRAME_RATE,
    Step,
    fitting_steps,
)
from services.transcode.pass_through import grid_for
from services.transcode.source import (
    RejectedSource,
    RejectionReason,
    SourceInfo,
    VideoStreamInfo,
)
from services.transcode.specs import (
    AudioSpec,
    ChunkSpec,
    ImageSpec,
    LoudnessTarget,
    PassThroughSpec,
    PosterSpec,
    RenditionSpec,
    TaskSpec,
    Timeline,
)


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


_COMMON_RATES = tuple(
    Fraction(n, d)
    for n, d in (
        (24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1),
        (48, 1), (50, 1), (60000, 1001), (60, 1), (120, 1), (240, 1),
    )
)  # fmt: skip


_MIN_FRAME_RATE = Fraction(1)
"""Slower sources (slide shows) repeat frames: below one frame a second no GOP would fit a segment."""


_STILL_MAX_FRAME_RATE = Fraction(102, 100)
"""Of `MAX_FRAME_RATE`, what is not halved. Phones that film at a variable rate end up a little beside 60: one frame in
fifty is not missed, every other one is.
"""


_POSTER_AT_MOST_S = Fraction(1)
"""Early enough to be quick to reach, late enough to be past most fades from black."""


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
    if MAX_FRAME_RATE < rate <= MAX_FRAME_RATE * _STILL_MAX_FRAME_RATE:
        return Fraction(MAX_FRAME_RATE)
    while rate > MAX_FRAME_RATE:
        rate /= 2
    return max(rate, _MIN_FRAME_RATE)


def gop_frames(frame_rate: Fraction) -> int:
    """Frames between two IDR frames: the whole number nearest to 2 s."""
    return max(1, round(GOP_S * frame_rate))


def _timeline(video: VideoStreamInfo, duration_s: Fraction) -> Timeline:
    frame_rate = output_frame_rate(video.frame_rate)
    gop = gop_frames(frame_rate)
    return Timeline(
        frame_rate=frame_rate,
        frame_count=_expected_frame_count(video, duration_s, frame_rate),
        gop_frames=gop,
        segment_frames=gop * GOPS_PER_SEGMENT,
        origin_s=video.start_s,
        still_frames=round(video.still_s * frame_rate),
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
    # Players take the one that takes most for the best. But below the smallest step's cap nobody is kept out, and key
    # frames, which ours have more of, may need it.
    enough_bps = max(video.h264.average_bps, renditions[-1].maxrate_bps)
    smaller = tuple(_no_dearer(rendition, enough_bps) for rendition in renditions[1:])
    return (_pass_through_spec(video, timeline, largest), *_specs(source, timeline, smaller, output, fleet))


def _is_worthwhile(passing: Sequence[TaskSpec], fleet: Fleet) -> bool:
    """Whether one worker is through with the packets before the others are through with the rest.

    A large fleet encodes a video in less time than one core takes to look at it.
    """
    return passing[0].cost * fleet.video_slots <= ROUNDS * sum(spec.cost for spec in passing)


def _no_dearer(rendition: RenditionSpec, enough_bps: int) -> RenditionSpec:
    """A rendition that shall not take more bits than a larger one does."""
    bufsize_bits = min(rendition.bufsize_bits, enough_bps * 3 // 2)
    return replace(rendition, maxrate_bps=min(rendition.maxrate_bps, enough_bps), bufsize_bits=bufsize_bits)


def _pass_through_spec(video: VideoStreamInfo, timeline: Timeline, rendition: RenditionSpec) -> PassThroughSpec:
    return PassThroughSpec(
        label="video-pass-through",
        stream_index=video.stream_index,
        rendition=rendition,
        timeline=timeline,
        # Every frame is decoded once, to see that it can be.
        cost=timeline.frame_count * frame_cost(video, ()),
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
    count = chunk_count(video, timeline, by_codec[0], fleet.video_slots)
    chunks = tuple(pairwise(chunk_borders(timeline, count)))
    shares = fleet.video_slots // count
    return tuple(
        ChunkSpec(
            label=_chunk_label(number, group, groups),
            stream_index=video.stream_index,
            renditions=group,
            random_access=video.random_access,
            timeline=timeline,
            first_frame=first_frame,
            end_frame=end_frame,
            cost=(end_frame - first_frame) * frame_cost(video, group),
            packaging=packaging,
        )
        for of_codec in by_codec
        for groups in (shared_out(of_codec, shares),)
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


def _chunk_label(number: int, group: tuple[RenditionSpec, ...], groups: tuple[tuple[RenditionSpec, ...], ...]) -> str:
    name, first = f"video-{number:03}", group[0]
    if len(groups) > 1:
        return f"{name}-{first.label}"
    return name if first.codec is Codec.H264 else f"{name}-{first.codec}"


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
