"""MPEG-TS: by the packet, by a reader of our own; and as a whole, made by children, by libav's demuxer and decoders."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.transcode.engine.codecs.annexb import nal_units
from services.transcode.engine.packaging.cmaf import Sample
from services.transcode.engine.packaging.mpegts import TsSegments
from services.transcode.formats import Packaging
from services.transcode.ladder import Step
from services.transcode.plan import Fleet
from tests.unit.transcode import sources
from tests.unit.transcode.numbered import number_of, numbered_clip

TRACK_PID = 0x100
CLOCK_HZ = 90_000
START_S = 10

sizes = st.lists(st.integers(30, 3_000), min_size=1, max_size=60)


def packets(data: bytes) -> list[bytes]:
    assert len(data) % 188 == 0
    cut = [data[at : at + 188] for at in range(0, len(data), 188)]
    assert {packet[0] for packet in cut} == {0x47}
    return cut


def pid(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


def payload(packet: bytes) -> bytes:
    has_adaptation = packet[3] & 0x20
    return packet[5 + packet[4] :] if has_adaptation else packet[4:]


def elementary(data: bytes) -> list[bytes]:
    """What the track's PES packets carry."""
    found: list[bytes] = []
    for packet in packets(data):
        if pid(packet) == TRACK_PID:
            if packet[1] & 0x40:
                found.append(b"")
            found[-1] += payload(packet)
    return [pes[9 + pes[8] :] for pes in found]


def clock(packet: bytes) -> Fraction | None:
    """The program clock reference of a packet, in seconds."""
    if not packet[3] & 0x20 or not packet[4] or not packet[5] & 0x10:
        return None
    value = int.from_bytes(packet[6:12], "big")
    return Fraction((value >> 15) * 300 + (value & 0x1FF), 300 * CLOCK_HZ)


@settings(deadline=None)
@given(st.lists(sizes, min_size=1, max_size=4), st.sampled_from(["h264", "aac"]))
def test_segments_made_apart_are_one_stream(all_sizes: list[list[int]], kind: str) -> None:
    """Counters of every PID go on, the clock never runs back, and what went in comes out."""
    ticks, stream, sent = 0, b"", b""
    for number, of_one in enumerate(all_sizes):
        samples = [Sample(bytes([size % 251]) * size, 1_001, 0, is_sync=n == 0) for n, size in enumerate(of_one)]
        # A writer of its own, as another worker would have.
        segments = TsSegments(kind, 30_000, 0)
        data, leading_bytes = segments.segment(number, ticks, samples, keyframe_apart=kind == "h264")
        if kind == "h264":
            assert elementary(data[:leading_bytes]) == [samples[0].data]
        assert [pid(packet) for packet in packets(data)][:3] == [0, 0x1000, TRACK_PID]
        stream += data
        sent += b"".join(sample.data for sample in samples)
        ticks += 1_001 * len(of_one)
    assert b"".join(elementary(stream)) == sent
    for one in (0, 0x1000, TRACK_PID):
        counters = [packet[3] & 0xF for packet in packets(stream) if pid(packet) == one]
        assert counters == [n % 16 for n in range(len(counters))]
    times = [time for packet in packets(stream) if (time := clock(packet)) is not None]
    assert times == sorted(times)
    assert len(times) == len(elementary(stream))


@settings(deadline=None)
@given(st.integers(0, 4 * 3600 * 60), st.sampled_from([Fraction(24_000, 1001), Fraction(30_000, 1001), Fraction(60)]))
def test_times_are_exact_to_half_a_tick_however_late(frame: int, rate: Fraction) -> None:
    segments = TsSegments("h264", rate.numerator, 0)
    sample = Sample(bytes(100), rate.denominator, 0, is_sync=True)
    data, _ = segments.segment(0, frame * rate.denominator, [sample], keyframe_apart=True)
    pes = payload(packets(data)[2])
    coded = int.from_bytes(pes[9:14], "big")
    time = (coded >> 33 & 7) << 30 | (coded >> 17 & 0x7FFF) << 15 | coded >> 1 & 0x7FFF
    exact = (START_S + frame / rate) * CLOCK_HZ
    assert abs(time - exact % (1 << 33)) <= Fraction(1, 2)


LADDER = (Step("96p", 96, 21, 800_000, 1_200_000),)


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30_000, 1001)], ids=str)
async def test_every_frame_is_shown_once_in_order_across_chunks(rate: Fraction) -> None:
    data = numbered_clip(sources.constant_times(501, rate), rate)
    _, results = await sources.run_plan(data, LADDER, Fleet(2), Packaging.TS)
    result = results["96p"]
    assert result.track.init_name == ""
    assert {artifact.content_type for artifact in result.shelf.artifacts.values()} == {"video/mp2t"}
    with av.open(io.BytesIO(result.file), "r", format="mpegts") as container:
        coded = [packet for packet in container.demux(video=0) if packet.size]
    assert not any(packet.is_corrupt for packet in coded), "no counter breaks off"
    with av.open(io.BytesIO(result.file), "r", format="mpegts") as container:
        frames = list(container.decode(video=0))
    assert [number_of(sources.luma(frame)) for frame in frames] == list(range(501))
    expected = [START_S + time for time in sources.constant_times(501, rate)]
    assert all(
        abs(at - want) <= Fraction(1, CLOCK_HZ) for at, want in zip(sources.frame_times(frames), expected, strict=True)
    )


async def test_each_segment_begins_a_stream_and_so_does_its_key_frame() -> None:
    data = numbered_clip(sources.constant_times(250, Fraction(25)), Fraction(25))
    _, results = await sources.run_plan(data, LADDER, Fleet(1), Packaging.TS)
    result, start = results["96p"], 0
    for segment in result.track.segments:
        artifact = result.shelf.artifacts[segment.name].data
        assert len(sources.decoded(artifact)) == segment.frame_count
        (alone,) = sources.decoded(artifact[: segment.keyframe_size_bytes])
        assert number_of(sources.luma(alone)) == start
        units = [[unit[0] & 0x1F for unit in nal_units(frame)] for frame in elementary(artifact)]
        delimiter, sps, pps, idr = 9, 7, 8, 5
        assert all(unit[0] == delimiter for unit in units)
        for number, unit in enumerate(units):
            assert (idr in unit) == (sps in unit) == (pps in unit) == (number % 50 == 0)
        start += segment.frame_count


async def test_the_flash_and_the_beep_stay_together(sample: bytes) -> None:
    _, results = await sources.run_plan(sample, sources.SMALL_LADDER[:1], packaging=Packaging.TS)
    frames = sources.decoded(results["180p"].file)
    times = sources.frame_times(frames)
    lit = [bool(sources.luma(frame)[:18, :18].mean() > 128) for frame in frames]
    flashes_s = [times[n] for n in range(125) if lit[n] and not (n and lit[n - 1])]
    sound, start_s = sources.samples(results["audio"].file)
    assert times[0] - start_s == pytest.approx(1_024 / 48_000, abs=1e-4), "priming comes before the first picture"
    onsets = np.flatnonzero(np.abs(sound).max(axis=0) > 0.2)
    beeps_s = float(start_s) + np.array([onsets[0], *onsets[1:][np.diff(onsets) > 24_000]]) / 48_000
    assert [float(time) for time in flashes_s] == [10, 11, 12, 13, 14]
    assert [float(time) for time in beeps_s] == pytest.approx([10, 11, 12, 13, 14], abs=0.012)
