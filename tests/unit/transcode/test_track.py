import struct
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from services.transcode.engine.codecs import h264
from services.transcode.engine.packaging import cmaf
from services.transcode.engine.packaging.cmaf import Sample
from services.transcode.engine.sound.audio import segment_ends
from services.transcode.plan import gop_frames
from services.transcode.specs import Timeline

timelines = st.builds(
    lambda rate, count: Timeline(rate, count, gop_frames(rate), 2 * gop_frames(rate), Fraction(0)),
    st.sampled_from(
        [Fraction(24_000, 1001), Fraction(25), Fraction(30_000, 1001), Fraction(30), Fraction(60), Fraction(1)]
    ),
    st.integers(1, 20_000),
)


@given(timelines)
def test_audio_is_cut_where_video_is_to_half_a_frame(timeline: Timeline) -> None:
    ends = segment_ends(timeline, 48_000)
    assert len(ends) == timeline.segment_count
    assert ends == sorted(set(ends))
    for number, end in enumerate(ends[:-1], start=1):
        border_s = number * timeline.segment_frames / timeline.frame_rate
        heard_s = Fraction((end - 1) * 1024, 48_000)
        assert abs(heard_s - border_s) <= Fraction(512, 48_000)
    heard_s = Fraction((ends[-1] - 1) * 1024, 48_000)
    assert 0 <= heard_s - Fraction(round(timeline.duration_s * 48_000), 48_000) < Fraction(1024, 48_000)


def boxes(data: bytes) -> list[tuple[str, bytes]]:
    found = []
    while data:
        size, kind = struct.unpack(">I4s", data[:8])
        assert 8 <= size <= len(data)
        found.append((kind.decode(), data[8:size]))
        data = data[size:]
    return found


def child(data: bytes, *path: str) -> bytes:
    for kind in path:
        data = dict(boxes(data))[kind]
    return data


def test_a_chunk_points_at_its_own_data() -> None:
    samples = [Sample(b"abc", 512, 1024, is_sync=True), Sample(b"defgh", 512, 0, is_sync=False)]
    chunk = cmaf.chunk(7, 1 << 40, samples)
    assert [kind for kind, _ in boxes(chunk)] == ["moof", "mdat"]
    moof = child(chunk, "moof")
    assert struct.unpack(">II", child(moof, "mfhd")) == (0, 7)
    assert struct.unpack(">IQ", child(moof, "traf", "tfdt")) == (1 << 24, 1 << 40)
    flags, count, offset = struct.unpack(">III", child(moof, "traf", "trun")[:12])
    assert (flags, count) == (0xF01, 2)
    assert chunk[offset:] == b"abcdefgh"
    assert struct.unpack(">8I", child(moof, "traf", "trun")[12:]) == (
        *(512, 3, 0x02000000, 1024),
        *(512, 5, 0x01010000, 0),
    )


def test_the_initialisation_segments_carry_the_delay_as_an_edit() -> None:
    video = cmaf.video_init(640, 360, h264.configuration(b"\x01\x64\x00\x1f\xff"), 15_360, 1024)
    audio = cmaf.audio_init(
        b"\x11\x90", channels=2, sample_rate_hz=48_000, bitrate_bps=128_000, priming_ticks=1024, language="eng"
    )
    for init, timescale in ((video, 15_360), (audio, 48_000)):
        assert [kind for kind, _ in boxes(init)] == ["ftyp", "moov"]
        track = child(init, "moov", "trak")
        edits, duration, start, rate, _ = struct.unpack(">IQqHH", child(track, "edts", "elst")[4:])
        assert (edits, duration, start, rate) == (1, 0, 1024, 1)
        assert struct.unpack(">I", child(track, "mdia", "mdhd")[12:16]) == (timescale,)
        assert child(init, "moov", "mvex", "trex")
