import json
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transcode.formats import Codec, ImageFormat, Packaging
from services.transcode.ladder import ladder_of
from services.transcode.plan import Fleet, Output, output_frame_rate, plan
from services.transcode.source import (
    AudioStreamInfo,
    ColourInfo,
    ContainerFormat,
    ImageInfo,
    MediaKind,
    RejectionReason,
    SourceInfo,
    VideoStreamInfo,
    from_jsonable,
    to_jsonable,
)
from services.transcode.specs import AudioSpec, ChunkSpec, ImageSpec, PosterSpec, TaskSpec, spec_from_json, spec_to_json

NTSC = Fraction(30_000, 1001)

VIDEO = VideoStreamInfo(
    stream_index=0,
    codec="h264",
    pix_fmt="yuv420p",
    coded_width_px=1920,
    coded_height_px=1080,
    display_width_px=1920,
    display_height_px=1080,
    rotation_degrees=0,
    sample_aspect_ratio=Fraction(1),
    frame_rate=Fraction(30),
    frame_count=360,
    start_s=Fraction(0),
    interlaced=False,
    colour=ColourInfo(primaries=1, transfer=1, matrix=1, full_range=False),
    random_access=True,
    key_frame_interval_s=Fraction(2),
    h264=None,
)
SOURCE = SourceInfo(
    kind=MediaKind.VIDEO,
    container=ContainerFormat.MP4,
    size_bytes=20_000_000,
    duration_s=Fraction(12),
    video=VIDEO,
    audio=(AudioStreamInfo(stream_index=1, codec="aac", channels=6, sample_rate_hz=44_100, language="eng"),),
    image=None,
)
PHOTO = SourceInfo(
    kind=MediaKind.IMAGE,
    container=ContainerFormat.JPEG,
    size_bytes=3_000_000,
    duration_s=Fraction(0),
    video=None,
    audio=(),
    image=ImageInfo(width_px=3000, height_px=4000, orientation=6, has_alpha=False, is_animated=False),
)

rates = st.one_of(
    st.sampled_from([Fraction(24_000, 1001), NTSC, Fraction(60_000, 1001), Fraction(25), Fraction(120)]),
    st.fractions(min_value=Fraction(1, 10), max_value=1000, max_denominator=100_000),
)


def at_rate(rate: Fraction, seconds: Fraction) -> SourceInfo:
    return replace(SOURCE, duration_s=seconds, video=replace(VIDEO, frame_rate=rate, frame_count=None))


def chunks_of(specs: tuple[TaskSpec, ...]) -> list[ChunkSpec]:
    return [spec for spec in specs if isinstance(spec, ChunkSpec)]


def test_a_video_gets_its_ladder_then_audio_then_a_poster() -> None:
    specs = plan(SOURCE, fleet=Fleet(1))
    assert [spec.label for spec in specs] == ["video-001", "audio", "poster"]
    chunk, audio, poster = specs
    assert isinstance(chunk, ChunkSpec)
    assert [rendition.label for rendition in chunk.renditions] == ["1080p", "720p", "480p", "360p"]
    assert isinstance(audio, AudioSpec)
    assert (audio.channels, audio.bitrate_bps, audio.sample_rate_hz) == (2, 128_000, 48_000)
    assert isinstance(poster, PosterSpec)
    assert poster.at_s == 1
    assert all(spec.cost > 0 for spec in specs)


def test_a_silent_video_gets_no_audio() -> None:
    assert "audio" not in [spec.label for spec in plan(replace(SOURCE, audio=()))]


def test_every_language_gets_a_track_of_its_own_up_to_a_limit() -> None:
    languages = ["eng", "fra", None, *["deu"] * 20]
    tracks = tuple(AudioStreamInfo(1 + n, "aac", 2, 48_000, language) for n, language in enumerate(languages))
    found = [spec for spec in plan(replace(SOURCE, audio=tracks)) if isinstance(spec, AudioSpec)]
    assert [(spec.label, spec.stream_index, spec.language) for spec in found[:3]] == [
        ("audio", 1, "eng"),
        ("audio-2", 2, "fra"),
        ("audio-3", 3, None),
    ]
    assert len(found) == 8


def test_an_image_is_one_task() -> None:
    (spec,) = plan(PHOTO)
    assert isinstance(spec, ImageSpec)
    assert spec.sizes_px == (1200, 600, 150)
    assert spec.formats == (ImageFormat.JPEG, ImageFormat.WEBP)
    everything = tuple(ImageFormat)
    output = Output(image_formats=everything)
    assert [one.formats for one in plan(PHOTO, output=output) if isinstance(one, ImageSpec)] == [everything]
    poster = plan(SOURCE, output=output)[-1]
    assert isinstance(poster, PosterSpec)
    assert poster.formats == everything


def test_a_spec_of_before_there_were_formats_makes_jpeg() -> None:
    (spec,) = plan(PHOTO)
    older = spec_to_json(spec)
    del older["formats"]
    read = spec_from_json(older)
    assert isinstance(read, ImageSpec)
    assert read.formats == (ImageFormat.JPEG,)


@given(rates, st.fractions(min_value=Fraction(1, 5), max_value=4000, max_denominator=1000))
def test_all_renditions_share_borders_and_segments_last_2_to_6_s(rate: Fraction, seconds: Fraction) -> None:
    specs = plan(at_rate(rate, seconds))
    timelines = {spec.timeline for spec in specs if isinstance(spec, ChunkSpec | AudioSpec)}
    (timeline,) = timelines
    assert timeline.frame_rate <= 60
    assert timeline.segment_frames % timeline.gop_frames == 0
    assert 2 <= timeline.segment_frames / timeline.frame_rate <= 6
    full = timeline.segment_frames * (timeline.segment_count - 1)
    assert full < timeline.frame_count <= full + timeline.segment_frames


@given(
    rates,
    st.fractions(min_value=Fraction(1, 5), max_value=4000, max_denominator=1000),
    st.integers(min_value=1, max_value=400),
    st.booleans(),
)
def test_every_frame_of_every_rendition_is_in_one_chunk(
    rate: Fraction, seconds: Fraction, video_slots: int, random_access: bool
) -> None:
    video = replace(VIDEO, frame_rate=rate, frame_count=None, random_access=random_access)
    source = replace(SOURCE, duration_s=seconds, video=video)
    chunks = chunks_of(plan(source, fleet=Fleet(video_slots)))
    timeline = chunks[0].timeline
    for label in ("1080p", "720p", "480p", "360p"):
        mine = [chunk for chunk in chunks if label in [one.label for one in chunk.renditions]]
        assert [chunk.first_frame for chunk in mine] == [0, *(chunk.end_frame for chunk in mine[:-1])]
        assert mine[-1].end_frame == timeline.frame_count
        assert all(chunk.first_frame % timeline.segment_frames == 0 for chunk in mine)
        shortest_s = 8 if len(mine) > video_slots else timeline.segment_frames / timeline.frame_rate
        lasting_s = [(chunk.end_frame - chunk.first_frame) / timeline.frame_rate for chunk in mine[:-1]]
        assert all(shortest_s <= length_s <= 32 for length_s in lasting_s)
        lengths = [-(-(chunk.end_frame - chunk.first_frame) // timeline.segment_frames) for chunk in mine]
        assert max(lengths) - min(lengths) <= 1
    assert len({chunk.label for chunk in chunks}) == len(chunks)
    if not random_access:
        assert {chunk.first_frame for chunk in chunks} == {0}


def test_a_source_with_few_key_frames_is_cut_into_few_chunks() -> None:
    video = replace(VIDEO, frame_count=None, key_frame_interval_s=Fraction(3_600))
    source = replace(SOURCE, duration_s=Fraction(3_600), video=video)
    chunks = chunks_of(plan(source, fleet=Fleet(100)))
    assert len({chunk.first_frame for chunk in chunks}) == 2


def test_frames_that_were_dropped_leave_the_video_as_long_as_it_was() -> None:
    source = replace(SOURCE, duration_s=Fraction(20), video=replace(VIDEO, frame_count=597))
    assert chunks_of(plan(source))[0].timeline.frame_count == 600


@pytest.mark.parametrize(
    ("seconds", "video_slots", "labels"),
    [
        (5, 1, ["video-001"]),
        (5, 2, ["video-001-1080p", "video-001-720p"]),
        (4, 4, ["video-001-1080p", "video-001-720p", "video-001-480p", "video-001-360p"]),
        (5, 4, ["video-001-1080p", "video-001-720p", "video-002-1080p", "video-002-720p"]),
        (5, 100, [f"video-{number:03}-{side}p" for number in (1, 2) for side in (1080, 720, 480, 360)]),
        (12, 2, ["video-001", "video-002"]),
        (12, 4, ["video-001", "video-002", "video-003"]),
        (16, 4, ["video-001", "video-002", "video-003", "video-004"]),
        (20, 2, ["video-001", "video-002"]),
        (60, 2, ["video-001", "video-002", "video-003", "video-004"]),
    ],
)
def test_a_short_video_is_shared_out_by_renditions_too(seconds: int, video_slots: int, labels: list[str]) -> None:
    chunks = chunks_of(plan(at_rate(Fraction(30), Fraction(seconds)), fleet=Fleet(video_slots)))
    assert [chunk.label for chunk in chunks] == labels


@pytest.mark.parametrize(
    ("seconds", "video_slots", "labels"),
    [
        (
            20,
            2,
            ["video-001", "video-002", "video-001-hevc", "video-002-hevc", "video-001-av1", "video-002-av1"],
        ),
        (
            5,
            2,
            [f"video-001-{side}{codec}" for codec in ("", "-hevc", "-av1") for side in ("1080p", "720p")],
        ),
    ],
)
def test_each_codec_has_tasks_of_its_own_h264_first(seconds: int, video_slots: int, labels: list[str]) -> None:
    source = at_rate(Fraction(30), Fraction(seconds))
    specs = plan(source, output=Output(ladder_of(list(Codec))), fleet=Fleet(video_slots))
    chunks = chunks_of(specs)
    assert [chunk.label for chunk in chunks] == labels
    assert len({spec.label for spec in specs}) == len(specs)
    for chunk in chunks:
        assert len({(one.codec, one.encoder) for one in chunk.renditions}) == 1
    costs = [sum(chunk.cost for chunk in chunks if chunk.renditions[0].codec is codec) for codec in Codec]
    assert costs[0] < costs[2] < costs[1], "the encoders' processor time"


def test_packaging_is_that_of_every_track() -> None:
    for packaging in Packaging:
        specs = plan(SOURCE, output=Output(packaging=packaging))
        assert {spec.packaging for spec in specs if isinstance(spec, ChunkSpec | AudioSpec)} == {packaging}


def test_a_task_that_was_queued_before_there_were_codecs_is_still_understood() -> None:
    spec = plan(SOURCE, fleet=Fleet(1))[0]
    older = spec_to_json(spec)
    del older["packaging"]
    for rendition in older["renditions"]:
        del rendition["codec"], rendition["encoder"]
    assert spec_from_json(older) == spec
    del older["cost"]
    with pytest.raises(ValueError, match="JSON form"):
        spec_from_json(older)


@given(rates)
def test_the_plan_survives_json(rate: Fraction) -> None:
    for source in (at_rate(rate, Fraction(77, 3)), PHOTO):
        for spec in plan(source):
            assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec
        assert from_jsonable(SourceInfo, json.loads(json.dumps(to_jsonable(source)))) == source


@pytest.mark.parametrize(
    "rate", ["1/0", "nonsense", "30", "1e999999999", "9" * 5_000 + "/1", 30, 1.5, float("inf"), None]
)
def test_what_is_no_fraction_is_refused(rate: object) -> None:
    data = to_jsonable(SOURCE)
    data["video"]["frame_rate"] = rate
    with pytest.raises(ValueError, match="JSON form of SourceInfo"):
        from_jsonable(SourceInfo, data)


@pytest.mark.parametrize("data", [{}, {"kind": "video"}, {"kind": "opera"}, {"kind": "image", "label": 7}])
def test_what_is_no_spec_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"kind of task|JSON form"):
        spec_from_json(data)


@pytest.mark.parametrize(
    ("source_rate", "expected"),
    [
        (Fraction(30), Fraction(30)),
        (Fraction(2997, 100), NTSC),
        (Fraction("29.97002"), NTSC),
        (Fraction(24), Fraction(24)),
        (Fraction("23.976"), Fraction(24_000, 1001)),
        (Fraction(120_000, 1001), Fraction(60_000, 1001)),
        (Fraction(120), Fraction(60)),
        (Fraction(240), Fraction(60)),
        (Fraction(90), Fraction(45)),
        (Fraction(1, 2), Fraction(1)),
    ],
)
def test_frame_rates(source_rate: Fraction, expected: Fraction) -> None:
    assert output_frame_rate(source_rate) == expected


@pytest.mark.parametrize(
    ("rate", "count", "expected"),
    [(Fraction(30), 359, 359), (Fraction(60), 720, 720), (Fraction(120), 1440, 720), (Fraction(30), 90, 360)],
)
def test_the_frame_count_is_the_sources_unless_the_clock_contradicts(rate: Fraction, count: int, expected: int) -> None:
    source = replace(SOURCE, video=replace(VIDEO, frame_rate=rate, frame_count=count))
    assert chunks_of(plan(source))[0].timeline.frame_count == expected


def test_high_frame_rates_get_more_bits() -> None:
    slow = chunks_of(plan(SOURCE))[0].renditions[0]
    fast = chunks_of(plan(at_rate(Fraction(60), Fraction(12))))[0].renditions[0]
    assert fast.maxrate_bps == slow.maxrate_bps * 3 // 2


def test_every_reason_tells_the_owner_what_to_do() -> None:
    assert all(reason.advice.endswith(".") for reason in RejectionReason)
