"""An original that already is its largest rendition: its packets are published, unless they are something else."""

import io
from collections.abc import Callable
from fractions import Fraction

import av
import pytest

from services.transcode.engine.run import probe
from services.transcode.ladder import Step
from services.transcode.plan import Fleet, Output, plan
from services.transcode.specs import ChunkSpec, PassThroughSpec, TaskSpec
from tests.unit.transcode import sources
from tests.unit.transcode.numbered import number_of, numbered_clip
from tests.unit.transcode.sources import LIMITS, BytesSource

RATE = Fraction(25)
LADDER = tuple(Step(f"{side}p", side, 21, 800_000, 1_200_000) for side in (96, 48))
TAGGED = "colorprim=bt709:transfer=bt709:colormatrix=bt709"
CLOSED = f"{TAGGED}:scenecut=0"


def fit(count: int = 501, gop_frames: int = 50, x264: str = CLOSED, container: str = "mp4") -> bytes:
    return numbered_clip(sources.constant_times(count, RATE), RATE, container, gop_frames=gop_frames, x264=x264)


async def planned(data: bytes, *, pass_through: bool = True) -> tuple[TaskSpec, ...]:
    source = await probe(BytesSource(data), LIMITS)
    return plan(source, output=Output(LADDER, pass_through=pass_through), fleet=Fleet(2))


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("reordering", ["bframes=0", "bframes=3:b-pyramid=2", "bframes=3:b-adapt=0:b-pyramid=0"])
async def test_its_packets_are_published_beside_renditions_with_the_same_borders(
    container: str, reordering: str
) -> None:
    count = 501
    data = fit(count, x264=f"{CLOSED}:{reordering}", container=container)
    _, results = await sources.run_plan(data, LADDER, Fleet(2))
    passed, encoded = results["96p"], results["48p"]
    assert [stage.name for stage in passed.stages if stage.name in ("write", "encode after all")] == ["write"]
    for track in (passed, encoded):
        frames = sources.decoded(track.file)
        assert sources.frame_times(frames) == sources.constant_times(count, RATE)
        assert track.track.frame_count == count
    frames = sources.decoded(passed.file)
    assert [number_of(sources.luma(frame)) for frame in frames] == list(range(count))
    durations = [
        [Fraction(segment.duration_ticks, track.track.timescale) for segment in track.track.segments]
        for track in (passed, encoded)
    ]
    assert durations[0] == durations[1] == [Fraction(4)] * 5 + [Fraction(1, 25)]
    assert passed.progress == sorted(passed.progress)
    assert passed.track.codecs.startswith("avc1.")


async def test_the_pictures_are_those_of_the_original_to_the_bit() -> None:
    data = fit()
    _, results = await sources.run_plan(data, LADDER)
    pairs = zip(sources.decoded(data), sources.decoded(results["96p"].file), strict=True)
    assert all(bytes(one.planes[0]) == bytes(other.planes[0]) for one, other in pairs)


async def test_each_segment_begins_with_a_picture_that_can_be_shown_alone() -> None:
    data = fit()
    _, results = await sources.run_plan(data, LADDER)
    passed = results["96p"]
    init = passed.shelf.artifacts[passed.track.init_name].data
    for segment in passed.track.segments:
        alone = passed.shelf.artifacts[segment.name].data[: segment.keyframe_size_bytes]
        assert len(sources.decoded(init + alone)) == 1


async def test_nothing_but_pictures_is_taken_over() -> None:
    """The encoder's own name, for one, is in its first sample."""
    data = fit(60)
    assert b"x264 - core" in data
    _, results = await sources.run_plan(data, LADDER)
    assert b"x264 - core" not in results["96p"].file


@pytest.mark.parametrize(
    ("x264", "gop_frames"),
    [
        (TAGGED + ":scenecut=0", 200),  # 8 s between key frames
        ("scenecut=0", 50),  # in whatever colours
        (f"{CLOSED}:open-gop=1", 50),  # pictures before a key frame that need the one before it
        (f"{CLOSED}:bitrate=20000:qp=0", 50),  # more bits than the step allows, and lossless
    ],
)
async def test_what_is_not_as_the_step_shall_be_is_encoded(x264: str, gop_frames: int) -> None:
    data = fit(301, gop_frames, x264)
    _, results = await sources.run_plan(data, LADDER)
    track = results["96p"]
    assert [number_of(sources.luma(frame)) for frame in sources.decoded(track.file)] == list(range(301))
    assert "write" not in [stage.name for stage in track.stages]


async def test_it_is_not_done_where_nobody_wants_it() -> None:
    data = fit(101)
    assert any(isinstance(spec, PassThroughSpec) for spec in await planned(data))
    assert not any(isinstance(spec, PassThroughSpec) for spec in await planned(data, pass_through=False))


async def test_groups_of_three_seconds_make_segments_of_three_seconds() -> None:
    specs = await planned(fit(401, 75))
    assert {spec.timeline.segment_frames for spec in specs if isinstance(spec, ChunkSpec | PassThroughSpec)} == {75}


async def _instead(data: bytes) -> sources.Result:
    """What comes of a task whose plan was made for something else."""
    (spec,) = [spec for spec in await planned(fit()) if isinstance(spec, PassThroughSpec)]
    return await sources.run(spec, data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(fit(gop_frames=60), id="another grid"),
        pytest.param(fit(x264=f"{CLOSED}:open-gop=1:bframes=3:b-adapt=0"), id="open groups"),
        pytest.param(fit(500), id="a frame too few"),
        pytest.param(fit(502), id="a frame too many"),
    ],
)
async def test_packets_that_turn_out_otherwise_are_encoded_after_all(data: bytes) -> None:
    result = await _instead(data)
    assert "encode after all" in [stage.name for stage in result.stages]
    track = sources.joined([result])["96p"]
    numbers = [number_of(sources.luma(frame)) for frame in sources.decoded(track.file)]
    assert numbers[:499] == list(range(499))
    assert len(numbers) == 501


def _remuxed(data: bytes, number: int, change: Callable[[bytes, bytes], bytes]) -> bytes:
    """The same file with one packet changed: `change` is given the packet and the sequence parameter set."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data), "r") as source, av.open(buffer, "w", format="mp4") as output:
        track = source.streams.video[0]
        record = track.codec_context.extradata or b""
        sps = record[8 : 8 + int.from_bytes(record[6:8])]
        copy = output.add_stream_from_template(track)
        for index, packet in enumerate(packet for packet in source.demux(track) if packet.size):
            payload = change(bytes(packet), sps) if index == number else bytes(packet)
            changed = av.Packet(payload)
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.is_keyframe, changed.stream = packet.is_keyframe, copy
            output.mux(changed)
    return buffer.getvalue()


def _with_another_sps(packet: bytes, sps: bytes) -> bytes:
    unit = sps[:3] + bytes([sps[3] + 1]) + sps[4:]
    return len(unit).to_bytes(4) + unit + packet


def _broken_off(packet: bytes, _: bytes) -> bytes:
    return packet[: len(packet) // 2]


@pytest.mark.parametrize("change", [_with_another_sps, _broken_off])
@pytest.mark.parametrize("number", [150, 163])
async def test_what_only_the_packets_tell_is_seen_before_anything_is_published(
    change: Callable[[bytes, bytes], bytes], number: int
) -> None:
    result = await _instead(_remuxed(fit(), number, change))
    assert "encode after all" in [stage.name for stage in result.stages]
    assert len(sources.decoded(sources.joined([result])["96p"].file)) == 501
    assert result.progress == sorted(result.progress)


async def test_the_level_is_what_the_parameter_set_says_and_not_what_the_container_says() -> None:
    data = bytearray(fit(101, x264=f"{CLOSED}:level=5.2"))
    level = data.index(b"avcC") + 4 + 3
    assert data[level] == 52
    data[level] = 30
    assert not any(isinstance(spec, PassThroughSpec) for spec in await planned(bytes(data)))


async def test_a_damaged_picture_is_not_handed_on() -> None:
    data = bytearray(fit())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 400] = bytes(byte ^ 0x5A for byte in data[middle : middle + 400])
    result = await _instead(bytes(data))
    assert "encode after all" in [stage.name for stage in result.stages]
    assert len(sources.decoded(sources.joined([result])["96p"].file)) == 501
