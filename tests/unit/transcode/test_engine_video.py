"""Whole encodes in real children, checked by an independent reader (libav's demuxer and decoders)."""

import base64
import hashlib
import io
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from services.transcode.engine.outcome import TrackOutcome
from services.transcode.engine.run import probe
from services.transcode.plan import Fleet, Output, plan
from services.transcode.source import ContainerFormat, RejectedSource, RejectionReason, SourceInfo
from services.transcode.specs import AudioSpec, ChunkSpec
from tests.unit.transcode import sources
from tests.unit.transcode.sources import LIMITS, SMALL_LADDER, BytesSource, Result

NTSC = Fraction(30_000, 1001)


@pytest.fixture(scope="module")
async def whole(sample: bytes) -> tuple[SourceInfo, dict[str, Result]]:
    return await sources.run_plan(sample, SMALL_LADDER)


async def encode(data: bytes) -> tuple[ChunkSpec, Result]:
    """The largest rendition of a clip without sound."""
    source, results = await sources.run_plan(data, SMALL_LADDER)
    assert source.video is not None
    spec = plan(source, output=Output(SMALL_LADDER), fleet=Fleet(1))[0]
    assert isinstance(spec, ChunkSpec)
    return spec, results[spec.renditions[0].label]


def test_every_rendition_shows_every_frame_of_the_source_once_in_order(
    whole: tuple[SourceInfo, dict[str, Result]],
) -> None:
    _, results = whole
    assert list(results) == ["180p", "90p", "audio", "poster"]
    for label, size_px in {"180p": (320, 180), "90p": (160, 90)}.items():
        frames = sources.decoded(results[label].file)
        assert [sources.frame_number(frame) for frame in frames] == list(range(125))
        assert sources.frame_times(frames) == sources.constant_times(125, Fraction(25))
        assert {(frame.width, frame.height) for frame in frames} == {size_px}
        assert (results[label].track.width_px, results[label].track.height_px) == size_px
        assert results[label].track.codecs.startswith("avc1.6400")


def test_segments_have_the_same_borders_in_every_track(
    whole: tuple[SourceInfo, dict[str, Result]],
) -> None:
    _, results = whole

    def ends(track: TrackOutcome) -> list[Fraction]:
        return [Fraction(t, track.timescale) for t in accumulate(s.duration_ticks for s in track.segments)]

    assert ends(results["180p"].track) == ends(results["90p"].track) == [4, 5]
    for sound, picture in zip(ends(results["audio"].track), [4, 5], strict=True):
        assert abs(sound - picture) <= Fraction(512, 48_000)
    assert results["audio"].track.duration_s == results["180p"].track.duration_s == 5


def test_each_segment_plays_alone_and_begins_with_a_keyframe_chunk(
    whole: tuple[SourceInfo, dict[str, Result]],
) -> None:
    result = whole[1]["90p"]
    init = result.shelf.artifacts[result.track.init_name].data
    start = 0
    for segment in result.track.segments:
        artifact = result.shelf.artifacts[segment.name]
        assert artifact.content_type == "video/mp4"
        assert artifact.sha256 == hashlib.sha256(artifact.data).hexdigest()
        assert len(artifact.data) == segment.size_bytes
        frames = sources.decoded(init + artifact.data)
        assert [sources.frame_number(frame) for frame in frames] == [*range(start, start + segment.frame_count)]
        assert sources.frame_times(frames)[0] == Fraction(start, 25)
        (keyframe,) = sources.decoded(init + artifact.data[: segment.keyframe_size_bytes])
        assert sources.frame_number(keyframe) == start
        start += segment.frame_count


def test_the_flash_and_the_beep_stay_together(whole: tuple[SourceInfo, dict[str, Result]]) -> None:
    _, results = whole
    frames = sources.decoded(results["180p"].file)
    lit = [bool(sources.luma(frame)[:18, :18].mean() > 128) for frame in frames]
    flashes_s = [n / 25 for n in range(125) if lit[n] and not (n and lit[n - 1])]
    sound, start_s = sources.samples(results["audio"].file)
    assert start_s == 0
    loud = np.abs(sound).max(axis=0) > 0.2
    onsets = np.flatnonzero(loud)
    beeps_s = [onsets[0] / 48_000, *(onsets[1:][np.diff(onsets) > 24_000] / 48_000)]
    assert flashes_s == [0, 1, 2, 3, 4]
    assert beeps_s == pytest.approx(flashes_s, abs=0.040)
    # What we add ourselves is far less: no more than the encoder's pre-echo.
    assert beeps_s == pytest.approx(flashes_s, abs=0.012)


def test_progress_rises_to_the_end_and_stages_say_what_was_done(
    whole: tuple[SourceInfo, dict[str, Result]],
) -> None:
    result = whole[1]["180p"]
    assert result.progress == sorted(result.progress)
    assert all(0 <= fraction <= 1 for fraction in result.progress)
    stages = {stage.name: stage for stage in result.stages}
    assert {"child start", "open", "encode", "flush", "child"} <= set(stages)
    assert all(stage.start_unix_ns <= stage.end_unix_ns for stage in result.stages)
    assert stages["encode"].attributes["frames"] == 125
    assert int(stages["child"].attributes["max_rss_bytes"]) > 10_000_000


def test_the_poster_is_the_picture_half_a_second_in(whole: tuple[SourceInfo, dict[str, Result]]) -> None:
    result = whole[1]["poster"]
    assert [(i.size_px, i.width_px, i.height_px, i.content_type) for i in result.images.images] == [
        (*size, f"image/{kind}")
        for size in ((1200, 320, 180), (600, 320, 180), (150, 150, 84))
        for kind in ("jpeg", "webp")
    ]
    assert all(result.shelf.artifacts[i.name].content_type == i.content_type for i in result.images.images)
    assert base64.b64decode(result.images.thumbhash)


async def test_a_poster_has_the_colours_of_its_video_where_nothing_says_which_they_are() -> None:
    """Players take large video for BT.709; so is a picture that needs no scaling."""

    def red(_: int, picture: NDArray[np.uint8]) -> None:
        picture[:] = (200, 60, 40)

    data = sources.clip(sources.constant_times(5, Fraction(25)), rate=Fraction(25), size_px=(1_200, 720), paint=red)
    _, results = await sources.run_plan(data, SMALL_LADDER[1:])
    poster = results["poster"]
    image = Image.open(io.BytesIO(poster.shelf.artifacts[poster.images.images[0].name].data))
    assert image.size == (1_200, 720)
    frame = sources.decoded(results["90p"].file)[0]
    of_video = frame.to_ndarray(format="rgb24", src_colorspace="itu709")[45, 80].tolist()
    assert image.convert("RGB").getpixel((600, 360)) == pytest.approx(of_video, abs=5)


async def test_bit_rates_are_those_of_the_bytes(whole: tuple[SourceInfo, dict[str, Result]]) -> None:
    for label in ("180p", "90p", "audio"):
        track = whole[1][label].track
        total_bytes = sum(segment.size_bytes for segment in track.segments)
        assert track.average_bps == round(8 * total_bytes / track.duration_s)
        assert track.peak_bps >= track.average_bps * 0.95


async def test_the_same_task_gives_the_same_bytes(sample: bytes) -> None:
    source = await probe(BytesSource(sample), LIMITS)
    video, audio = sources.specs_of(source, SMALL_LADDER[1:])
    for spec in (video, audio):
        first, second = [await sources.run(spec, sample) for _ in range(2)]
        assert first.shelf == second.shelf
        assert first.outcome == second.outcome


@pytest.mark.parametrize(
    ("rate", "count"), [(NTSC, 135), (Fraction(24_000, 1001), 50), (Fraction(60), 125), (Fraction(25), 1)]
)
async def test_constant_rates_keep_their_frames(rate: Fraction, count: int) -> None:
    spec, result = await encode(sources.clip(sources.constant_times(count, rate), rate=rate))
    assert spec.timeline.frame_rate == rate
    assert spec.timeline.frame_count == result.track.frame_count == count
    frames = sources.decoded(result.file)
    assert len(frames) == count
    assert result.track.duration_s == count / rate


@pytest.mark.parametrize("container", ["matroska", "mpegts", "avi"])
async def test_other_containers_keep_their_frames(container: str) -> None:
    codec = "mpeg4" if container == "avi" else "libx264"
    data = sources.clip(sources.constant_times(60, Fraction(25)), rate=Fraction(25), container=container, codec=codec)
    spec, result = await encode(data)
    assert spec.timeline.frame_count == result.track.frame_count == 60
    assert len(sources.decoded(result.file)) == 60


async def test_a_fragmented_mp4_keeps_its_frames() -> None:
    data = sources.clip(sources.constant_times(60, Fraction(30)), options={"movflags": "frag_keyframe+empty_moov"})
    spec, result = await encode(data)
    assert spec.timeline.frame_count == result.track.frame_count == 60


async def test_120_frames_a_second_are_halved() -> None:
    spec, result = await encode(sources.clip(sources.constant_times(240, Fraction(120)), rate=Fraction(120)))
    assert spec.timeline.frame_rate == 60
    assert result.track.frame_count == 120


async def test_a_variable_rate_is_put_on_a_constant_one() -> None:
    # A frame every 1/30 s for a second, one that stays for a second, and again every 1/30 s.
    times = [Fraction(n, 30) for n in range(30)] + [Fraction(60 + n, 30) for n in range(30)]
    spec, result = await encode(sources.clip(times))
    assert result.track.duration_s == pytest.approx(3, abs=0.07)
    frames = sources.decoded(result.file)
    assert sources.frame_times(frames) == sources.constant_times(len(frames), spec.timeline.frame_rate)


def mark_upper_left(_number: int, picture: NDArray[np.uint8]) -> None:
    picture[:] = 40
    picture[:24, :24] = 230


def lightest_corner(frame: VideoFrame) -> str:
    picture = sources.luma(frame)
    corners = {
        "upper left": picture[:20, :20],
        "upper right": picture[:20, -20:],
        "lower left": picture[-20:, :20],
        "lower right": picture[-20:, -20:],
    }
    return max(corners, key=lambda name: float(corners[name].mean()))


@pytest.mark.parametrize(
    # set_display_rotation counts counter-clockwise, as libav does; a phone held upright writes -90.
    ("counter_clockwise", "corner"),
    [(0, "upper left"), (-90, "upper right"), (180, "lower right"), (90, "lower left")],
)
async def test_rotation_is_applied(counter_clockwise: int, corner: str) -> None:
    data = sources.clip(sources.constant_times(10, Fraction(25)), rotation=counter_clockwise, paint=mark_upper_left)
    source, results = await sources.run_plan(data, SMALL_LADDER[1:])
    assert source.video is not None
    assert source.video.rotation_degrees == -counter_clockwise % 360
    turned = counter_clockwise % 180 != 0
    frame = sources.decoded(results["90p"].file)[0]
    assert (frame.width, frame.height) == ((90, 160) if turned else (160, 90))
    assert lightest_corner(frame) == corner
    poster = results["poster"].images.images[0]
    assert (poster.width_px, poster.height_px) == (frame.width, frame.height)


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((-1, 0, 0, 1), "upper right"),  # as selfies are stored: left and right change places
        ((1, 0, 0, -1), "lower left"),
        ((0, 1, 1, 0), "upper left"),  # transposed
        ((0, -1, -1, 0), "lower right"),
    ],
)
async def test_mirrored_pictures_are_shown_as_meant(matrix: tuple[int, int, int, int], corner: str) -> None:
    upright = sources.clip(sources.constant_times(10, Fraction(25)), paint=mark_upper_left)
    _, results = await sources.run_plan(sources.with_matrix(upright, *matrix), SMALL_LADDER[1:])
    frame = sources.decoded(results["90p"].file)[0]
    assert (frame.width, frame.height) == ((90, 160) if matrix[0] == 0 else (160, 90))
    assert lightest_corner(frame) == corner


async def test_interlaced_frames_are_joined_one_for_one() -> None:
    def paint_fields(number: int, picture: NDArray[np.uint8]) -> None:
        # Something that moves between the fields: progressive treatment would show combs.
        picture[:] = 40
        picture[0::2, 4 * number : 4 * number + 20] = 230
        picture[1::2, 4 * number + 2 : 4 * number + 22] = 230

    rate = Fraction(25)
    data = sources.clip(
        sources.constant_times(25, rate), rate=rate, size_px=(160, 96), interlaced=True, paint=paint_fields
    )
    _, result = await encode(data)
    frames = sources.decoded(result.file)
    assert sources.frame_times(frames) == sources.constant_times(25, rate)

    def combing(frame: VideoFrame) -> float:
        picture = sources.luma(frame).astype(int)
        return float(np.abs(picture[1:] - picture[:-1]).mean())

    assert combing(frames[12]) < 0.5 * combing(sources.decoded(data)[12])


async def test_pixels_become_square() -> None:
    data = sources.clip(
        sources.constant_times(10, Fraction(25)), size_px=(144, 116), sample_aspect_ratio=Fraction(16, 11)
    )
    source, results = await sources.run_plan(data)
    assert source.video is not None
    assert (source.video.display_width_px, source.video.display_height_px) == (209, 116)
    frame = sources.decoded(results["116p"].file)[0]
    assert (frame.width, frame.height) == (208, 116)


async def test_sources_smaller_than_the_ladder_keep_their_size() -> None:
    _, results = await sources.run_plan(
        sources.clip(sources.constant_times(5, Fraction(25)), rate=Fraction(25), size_px=(50, 38))
    )
    assert (results["38p"].track.width_px, results["38p"].track.height_px) == (50, 38)


async def test_a_probe_tells_streams_apart(sample: bytes) -> None:
    source = await probe(BytesSource(sample), LIMITS)
    assert source.container is ContainerFormat.MP4
    assert source.duration_s == 5
    assert source.video is not None
    assert source.video.codec == "h264"
    assert (source.video.frame_rate, source.video.frame_count) == (Fraction(25), 125)
    assert source.video.colour.matrix == 1
    (sound,) = source.audio
    assert (sound.codec, sound.channels, sound.sample_rate_hz) == ("aac", 2, 48_000)


async def test_sound_shorter_than_the_picture_is_filled_with_silence() -> None:
    data = sources.clip(sources.constant_times(75, Fraction(25)), rate=Fraction(25), with_audio=True)
    source = await probe(BytesSource(data), LIMITS)
    _, audio = sources.specs_of(source)
    assert isinstance(audio, AudioSpec)
    result = await sources.run(audio, data)
    assert result.track.duration_s == 3
    sound, _ = sources.samples(result.file)
    assert sound.shape[1] >= 3 * 48_000


async def test_the_source_is_read_in_large_blocks(sample: bytes) -> None:
    source = BytesSource(sample)
    await probe(source, LIMITS)
    assert source.reads == [(0, len(sample))]


async def test_a_file_cut_off_at_the_end_is_refused_at_once(sample: bytes) -> None:
    with pytest.raises(RejectedSource) as rejection:
        await probe(BytesSource(sample[: len(sample) * 2 // 3]), LIMITS)
    assert rejection.value.reason is RejectionReason.TRUNCATED


async def test_a_rate_that_the_header_only_claims_is_not_believed() -> None:
    data = sources.clip(sources.constant_times(60, Fraction(25)), rate=Fraction(30), container="matroska")
    spec, result = await encode(data)
    assert spec.timeline.frame_rate == 25
    assert result.track.frame_count == 60
