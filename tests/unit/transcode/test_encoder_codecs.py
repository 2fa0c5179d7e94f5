"""Each codec's encoder and packaging against libav's own: its muxer's configuration records, its decoders' pictures."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.transcode.engine.codecs import av1
from services.transcode.engine.codecs.annexb import nal_units
from services.transcode.engine.video import processor
from services.transcode.engine.video.encoder import VideoEncoder
from services.transcode.engine.video.encoder_settings import settings_for
from services.transcode.formats import Codec
from services.transcode.specs import RenditionSpec, Timeline

ENCODERS = {Codec.H264: "libx264", Codec.HEVC: "libx265", Codec.AV1: "libsvtav1"}
EVERY_CODEC = pytest.mark.parametrize("codec", list(Codec))


def spec_of(codec: Codec, width_px: int = 192, height_px: int = 96, maxrate_bps: int = 800_000) -> RenditionSpec:
    return RenditionSpec(
        "96p", width_px, height_px, 24, maxrate_bps, maxrate_bps * 3 // 2, codec=codec, encoder=ENCODERS[codec]
    )


def timeline_of(count: int, rate: Fraction = Fraction(25), gop_frames: int = 50) -> Timeline:
    return Timeline(rate, count, gop_frames, 2 * gop_frames, Fraction(0))


def pictures(count: int, seed: int, width_px: int = 192, height_px: int = 96) -> Iterator[VideoFrame]:
    """Noise that drifts over a ramp, with a cut every nine pictures: whatever an encoder adapts to, it sees."""
    random = np.random.default_rng(seed)
    for number in range(count):
        if number % 9 == 0:
            noise = random.integers(0, 120, (height_px * 3 // 2, width_px), dtype=np.uint8)
        yield VideoFrame.from_ndarray(np.roll(noise, number * 3, axis=1) + np.uint8(seed % 64), format="yuv420p")


def litter(junk: int) -> None:
    """Leaves the heap full of one value."""
    blocks = [np.full(size, junk, np.uint8) for size in (1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20) for _ in range(8)]
    del blocks


@dataclass(frozen=True)
class Encode:
    """What came out, in decode order."""

    encoder: VideoEncoder
    slots: list[int]
    keys: list[int]
    packets: list[bytes]
    samples: list[bytes]


def encoded(spec: RenditionSpec, timeline: Timeline, count: int, seed: int, first: int = 0) -> Encode:
    encoder = VideoEncoder(spec, timeline, threads=1)
    packets = []
    for slot, picture in enumerate(pictures(count, seed, spec.width_px, spec.height_px), start=first):
        packets += encoder.encode(picture, slot)
    packets += encoder.flush()
    return Encode(
        encoder,
        [cast(int, packet.pts) for packet in packets],
        [cast(int, packet.pts) for packet in packets if packet.is_keyframe],
        [bytes(packet) for packet in packets],
        [encoder.to_sample(packet) for packet in packets],
    )


@EVERY_CODEC
def test_the_same_pictures_give_the_same_bytes(codec: Codec) -> None:
    first, second = (encoded(spec_of(codec), timeline_of(120), 120, seed=1) for _ in range(2))
    assert first.samples == second.samples


@pytest.mark.parametrize("size_px", [(854, 480), (480, 854), (368, 640), (160, 90)])
def test_nor_do_they_depend_on_what_memory_held_before(size_px: tuple[int, int]) -> None:
    """Sizes whose rows of macroblocks fill no vector of AVX-512."""
    spec = spec_of(Codec.H264, *size_px)
    found = set[bytes]()
    for junk in (0x00, 0x35, 0xFF):
        litter(junk)
        found.add(b"".join(encoded(spec, timeline_of(40), 40, seed=1).samples))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("flags", "held_to"),
    [
        ("fpu sse2 avx avx2 avx512f avx512bw", "avx2,fma3,bmi2,lzcnt"),
        ("fpu sse2 avx avx2", None),
        (None, None),
    ],
)
def test_x264_leaves_avx_512_alone(tmp_path: Path, flags: str | None, held_to: str | None) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbogomips\t: 1\n")
    assert processor.x264_asm(cpuinfo) == held_to


@EVERY_CODEC
@pytest.mark.parametrize("count", [1, 2, 3, 49, 51, 120])
def test_every_picture_comes_out_once_with_key_frames_on_the_grid(codec: Codec, count: int) -> None:
    out = encoded(spec_of(codec), timeline_of(500), count, seed=count, first=100)
    assert sorted(out.slots) == list(range(100, 100 + count))
    assert out.keys == list(range(100, 100 + count, 50))
    ahead = [decoded - slot for decoded, slot in enumerate(out.slots, start=100)]
    assert max(ahead) <= out.encoder.reorder_frames


@EVERY_CODEC
def test_the_configuration_is_that_of_the_spec_whatever_the_content(codec: Codec) -> None:
    """So one initialisation segment serves all chunks."""
    outs = [encoded(spec_of(codec), timeline_of(500), count, seed) for count, seed in ((3, 1), (120, 2), (70, 3))]
    assert len({out.encoder.configuration for out in outs}) == 1


@EVERY_CODEC
@pytest.mark.parametrize("size_px", [(192, 96), (1280, 720), (1920, 1080)])
@pytest.mark.parametrize("rate", [Fraction(30_000, 1001), Fraction(60)], ids=str)
def test_the_record_is_the_one_that_libavs_muxer_writes(codec: Codec, size_px: tuple[int, int], rate: Fraction) -> None:
    spec, timeline = spec_of(codec, *size_px, maxrate_bps=4_000_000), timeline_of(500, rate, 60)
    out = encoded(spec, timeline, 3, seed=1)
    configuration = out.encoder.configuration
    ours, theirs = configuration.record, muxed_record(spec, timeline, configuration.box)
    if codec is Codec.HEVC:
        # Theirs says more of what may be decoded in parallel, of the frame rate, and of how complete its lists are.
        assert ours[:13] == theirs[:13]
        assert ours[16:19] == theirs[16:19]
        assert ours[21:22] == theirs[21:22]
        assert parameter_sets(ours) == parameter_sets(theirs)
    elif codec is Codec.AV1:
        # Theirs is of what SVT-AV1 says before it begins; the frames, and decoders with them, go by ours.
        assert ours[:4] == theirs[:4]
        assert ours[4:] in out.packets[0]
    else:
        assert ours == theirs


def muxed_record(spec: RenditionSpec, timeline: Timeline, box: bytes) -> bytes:
    """The configuration record of a file that libav's muxer wrote."""
    settings = settings_for(spec, timeline)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(settings.encoder, rate=timeline.frame_rate, options=dict(settings.options))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = spec.width_px, spec.height_px, "yuv420p"
        stream.codec_context.color_range = 1
        for name in ("color_primaries", "color_trc", "colorspace"):
            setattr(stream.codec_context, name, 1)
        stream.codec_context.sample_aspect_ratio = Fraction(1)
        for picture in pictures(3, 1, spec.width_px, spec.height_px):
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    data = file.getvalue()
    at = data.index(box) - 4
    return data[at + 8 : at + int.from_bytes(data[at : at + 4], "big")]


def parameter_sets(record: bytes) -> list[bytes]:
    """The parameter sets of an `hvcC`."""
    found, at = [], 23
    for _ in range(record[22]):
        count, at = int.from_bytes(record[at + 1 : at + 3], "big"), at + 3
        for _ in range(count):
            size = int.from_bytes(record[at : at + 2], "big")
            found.append(record[at + 2 : at + 2 + size])
            at += 2 + size
    return sorted(found)


def test_nothing_in_the_samples_of_hevc_repeats_the_parameter_sets() -> None:
    out = encoded(spec_of(Codec.HEVC), timeline_of(120), 120, seed=1)
    kinds = {unit[0] >> 1 & 0x3F for packet in out.packets for unit in nal_units(packet)}
    assert kinds <= {0, 1, 19, 20}, "slices, and IDR pictures without any that are shown before them"


def test_samples_of_av1_have_no_delimiters_and_every_key_frame_the_same_header() -> None:
    out = encoded(spec_of(Codec.AV1), timeline_of(120), 120, seed=1)
    delimiter, sequence_header = 2, 1
    kinds = [[obu.type for obu in av1.obus(sample)] for sample in out.samples]
    assert not any(delimiter in of_one for of_one in kinds)
    assert [number for number, of_one in enumerate(kinds) if sequence_header in of_one] == out.keys
    assert {av1.sequence_header(out.samples[key]) for key in out.keys} == {out.encoder.configuration.record[4:]}


@pytest.mark.parametrize("damaged", [b"\x08", b"\x0a\x05\x00", b"\x0a" + b"\xff" * 9])
def test_what_is_no_obu_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"OBU|number"):
        list(av1.obus(damaged))


@pytest.mark.parametrize("size_px", [(640, 360), (1920, 1080)])
@EVERY_CODEC
def test_codecs_names_profile_and_level(codec: Codec, size_px: tuple[int, int]) -> None:
    spec = spec_of(codec, *size_px, maxrate_bps=4_000_000)
    names = {
        (Codec.H264, 360): "avc1.64001e",
        (Codec.H264, 1080): "avc1.640028",
        (Codec.HEVC, 360): "hvc1.1.6.L90.90",
        (Codec.HEVC, 1080): "hvc1.1.6.L120.90",
        (Codec.AV1, 360): "av01.0.01M.08",
        (Codec.AV1, 1080): "av01.0.08M.08",
    }
    out = encoded(spec, timeline_of(60, Fraction(30), 60), 1, seed=1)
    assert out.encoder.configuration.codecs == names[codec, size_px[1]]
