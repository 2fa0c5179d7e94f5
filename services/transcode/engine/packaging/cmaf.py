"""Writes CMAF: initialisation segments and media segments of fragmented MP4, for one track each.

Boxes are those of ISO/IEC 14496-12 (and -14 for `esds`, -15 for `avcC` and `hvcC`), put together by hand because timing
must be exact: `tfdt` counts from the track's start over all segments, and what a decoder needs before the
first frame can be shown (reorder delay of video, priming of audio) is carried by an edit list.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from services.transcode.engine.codecs.configuration import CodecConfiguration

_TRACK_ID = 1
_UNITY_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_BT709, _NOT_FULL_RANGE = 1, 0

_SYNC_SAMPLE_FLAGS = 0x02000000  # depends on no other sample
_NON_SYNC_SAMPLE_FLAGS = 0x01010000  # depends on others, is no sync sample
_TFHD_DEFAULT_BASE_IS_MOOF = 0x020000
_TRUN_DATA_OFFSET, _TRUN_DURATION, _TRUN_SIZE, _TRUN_FLAGS, _TRUN_OFFSETS = 0x1, 0x100, 0x200, 0x400, 0x800


@dataclass(frozen=True, slots=True)
class Sample:
    """One coded frame. `composition_offset` is presentation minus decode time, never negative; in ticks."""

    data: bytes
    duration: int
    composition_offset: int
    is_sync: bool


class CmafSegments:
    """Makes segments of CMAF."""

    suffix = ".m4s"

    def segment(
        self, number: int, decode_ticks: int, samples: Sequence[Sample], *, keyframe_apart: bool
    ) -> tuple[bytes, int]:
        """One segment, and the length of its first chunk where that holds the key frame alone, or 0.

        Args:
            number: counts the track's segments from 0.
            decode_ticks: decode time of the first sample, from the track's start.
            samples: in decode order; at least one.
            keyframe_apart: whether the first sample shall be a playable part of its own.
        """
        groups = [samples[:1], samples[1:]] if keyframe_apart else [samples]
        chunks = []
        for sequence_number, group in enumerate(groups, start=number * len(groups) + 1):
            if group:
                chunks.append(chunk(sequence_number, decode_ticks, group))
                decode_ticks += sum(sample.duration for sample in group)
        return b"".join(chunks), len(chunks[0]) if keyframe_apart else 0


def video_init(
    width_px: int, height_px: int, configuration: CodecConfiguration, timescale: int, delay_ticks: int
) -> bytes:
    """The initialisation segment of a track of pictures: square pixels, BT.709, limited range.

    Args:
        width_px: coded and displayed.
        height_px: likewise.
        configuration: the codec's.
        timescale: ticks a second.
        delay_ticks: decode times are counted from 0; the first frame is shown this much later.
    """
    entry = struct.pack(">6xH16xHHIIIH32sHh", 1, width_px, height_px, 0x480000, 0x480000, 0, 1, b"", 0x18, -1)
    entry += _box(configuration.box, configuration.record)
    entry += _box(b"colr", b"nclx", struct.pack(">HHHB", _BT709, _BT709, _BT709, _NOT_FULL_RANGE << 7))
    entry += _box(b"pasp", struct.pack(">II", 1, 1))
    header = _full_box(b"vmhd", 0, 1, bytes(8))
    track_header = _track_header(width_px=width_px, height_px=height_px, volume=0)
    media = _media(b"vide", header, _box(configuration.sample_entry, entry), timescale, "und")
    return _init(track_header, media, timescale, delay_ticks, configuration.brands)


def audio_init(
    audio_specific_config: bytes,
    *,
    channels: int,
    sample_rate_hz: int,
    bitrate_bps: int,
    priming_ticks: int,
    language: str,
) -> bytes:
    """The initialisation segment of an AAC track. Its timescale is the sample rate.

    Args:
        audio_specific_config: the encoder's extradata (ISO/IEC 14496-3).
        channels: 1 or 2.
        sample_rate_hz: below 65,536.
        bitrate_bps: nominal.
        priming_ticks: samples at the start that are decoded but not heard.
        language: three letters of ISO 639-2.
    """
    entry = struct.pack(">6xH8xHHHHI", 1, channels, 16, 0, 0, sample_rate_hz << 16)
    entry += _full_box(b"esds", 0, 0, _es_descriptor(audio_specific_config, bitrate_bps))
    header = _full_box(b"smhd", 0, 0, bytes(4))
    track_header = _track_header(width_px=0, height_px=0, volume=0x100)
    media = _media(b"soun", header, _box(b"mp4a", entry), sample_rate_hz, language)
    return _init(track_header, media, sample_rate_hz, priming_ticks)


def chunk(sequence_number: int, decode_ticks: int, samples: Sequence[Sample]) -> bytes:
    """One CMAF chunk: `moof` and `mdat`.

    Args:
        sequence_number: counts the track's chunks from 1.
        decode_ticks: decode time of the first sample, from the track's start.
        samples: in decode order; at least one.
    """
    flags = _TRUN_DATA_OFFSET | _TRUN_DURATION | _TRUN_SIZE | _TRUN_FLAGS | _TRUN_OFFSETS
    rows = b"".join(
        struct.pack(
            ">IIII",
            sample.duration,
            len(sample.data),
            _SYNC_SAMPLE_FLAGS if sample.is_sync else _NON_SYNC_SAMPLE_FLAGS,
            sample.composition_offset,
        )
        for sample in samples
    )
    fixed = _full_box(b"tfhd", 0, _TFHD_DEFAULT_BASE_IS_MOOF, struct.pack(">I", _TRACK_ID))
    fixed += _full_box(b"tfdt", 1, 0, struct.pack(">Q", decode_ticks))
    sequence = _full_box(b"mfhd", 0, 0, struct.pack(">I", sequence_number))
    # moof, traf and trun have headers of 8, 8 and 12 bytes; trun adds its count and the offset itself.
    moof_bytes = 8 + len(sequence) + 8 + len(fixed) + 12 + 8 + len(rows)
    run = _full_box(b"trun", 0, flags, struct.pack(">II", len(samples), moof_bytes + 8), rows)
    moof = _box(b"moof", sequence, _box(b"traf", fixed, run))
    return moof + _box(b"mdat", *(sample.data for sample in samples))


def _init(track_header: bytes, media: bytes, timescale: int, start_ticks: int, brands: Sequence[bytes] = ()) -> bytes:
    # One edit that plays the whole track from `start_ticks` on; 0 as its duration means "all of it" in
    # fragmented files (14496-12, 8.6.6).
    edit = struct.pack(">IQqHH", 1, 0, start_ticks, 1, 0)
    track = _box(b"trak", track_header, _box(b"edts", _full_box(b"elst", 1, 0, edit)), media)
    movie_header = struct.pack(">IIIIIH10x", 0, 0, timescale, 0, 0x10000, 0x100)
    movie_header += _UNITY_MATRIX + bytes(24) + struct.pack(">I", _TRACK_ID + 1)
    defaults = _full_box(b"trex", 0, 0, struct.pack(">IIIII", _TRACK_ID, 1, 0, 0, 0))
    file_type = _box(b"ftyp", b"cmfc", struct.pack(">I", 0), b"iso6", b"cmfc", b"mp41", *brands)
    return file_type + _box(b"moov", _full_box(b"mvhd", 0, 0, movie_header), track, _box(b"mvex", defaults))


def _track_header(*, width_px: int, height_px: int, volume: int) -> bytes:
    enabled_in_movie_and_preview = 7
    body = struct.pack(">IIIII8xhhH2x", 0, 0, _TRACK_ID, 0, 0, 0, 0, volume)
    body += _UNITY_MATRIX + struct.pack(">II", width_px << 16, height_px << 16)
    return _full_box(b"tkhd", 0, enabled_in_movie_and_preview, body)


def _media(handler: bytes, header: bytes, entry: bytes, timescale: int, language: str) -> bytes:
    packed_language = 0
    for letter in language:
        packed_language = packed_language << 5 | (ord(letter) - 0x60)
    media_header = _full_box(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, timescale, 0, packed_language, 0))
    handler_box = _full_box(b"hdlr", 0, 0, bytes(4), handler, bytes(12), b"Millrace\x00")
    in_this_file = _full_box(b"url ", 0, 1)
    data_info = _box(b"dinf", _full_box(b"dref", 0, 0, struct.pack(">I", 1), in_this_file))
    table = _box(
        b"stbl",
        _full_box(b"stsd", 0, 0, struct.pack(">I", 1), entry),
        # The sample tables are empty: samples are described by the fragments.
        _full_box(b"stts", 0, 0, bytes(4)),
        _full_box(b"stsc", 0, 0, bytes(4)),
        _full_box(b"stsz", 0, 0, bytes(8)),
        _full_box(b"stco", 0, 0, bytes(4)),
    )
    return _box(b"mdia", media_header, handler_box, _box(b"minf", header, data_info, table))


def _es_descriptor(audio_specific_config: bytes, bitrate_bps: int) -> bytes:
    aac, audio_stream, no_buffer = 0x40, 0x15, bytes(3)
    decoder = bytes([aac, audio_stream]) + no_buffer + struct.pack(">II", bitrate_bps, bitrate_bps)
    decoder += _descriptor(5, audio_specific_config)
    return _descriptor(3, struct.pack(">HB", 0, 0) + _descriptor(4, decoder) + _descriptor(6, b"\x02"))


def _descriptor(tag: int, body: bytes) -> bytes:
    # Lengths below 128 take one byte; nothing here is longer (14496-1, 8.3.3).
    return bytes([tag, len(body)]) + body


def _box(kind: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def _full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)
