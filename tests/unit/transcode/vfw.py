"""Matroska as it was made of AVI: tracks of Video for Windows, which say when pictures are decoded."""

import io
import struct
from fractions import Fraction

import av


def as_matroska(avi: bytes, rate: Fraction, fourcc: bytes) -> bytes:
    """The one track of an AVI, by Matroska's codec mapping V_MS/VFW/FOURCC. No muxer in PyAV writes that."""
    with av.open(io.BytesIO(avi), "r") as container:
        stream = container.streams.video[0]
        width_px, height_px = stream.width, stream.height
        header = stream.codec_context.extradata or b""
        packets = [(packet.is_keyframe, bytes(packet)) for packet in container.demux(stream) if packet.size]
    clusters: list[bytes] = []
    begins_ms = 0
    for number, (is_key, data) in enumerate(packets):
        at_ms = round(number * 1_000 / rate)
        if is_key:
            begins_ms = at_ms
            clusters.append(_number("e7", begins_ms))
        block = b"\x81" + struct.pack(">hB", at_ms - begins_ms, 0x80 if is_key else 0)
        clusters[-1] += _element("a3", block, data)
    bitmap_header = struct.pack("<IiiHH4sIiiII", 40, width_px, height_px, 1, 24, fourcc, 0, 0, 0, 0, 0)
    track = _element(
        "ae",
        *(_number("d7", 1), _number("73c5", 1), _number("83", 1)),
        *(_element("86", b"V_MS/VFW/FOURCC"), _element("63a2", bitmap_header, header)),
        *(_number("23e383", round(10**9 / rate)), _element("e0", _number("b0", width_px), _number("ba", height_px))),
    )
    return _element("1a45dfa3", _element("4282", b"matroska"), _number("4287", 4), _number("4285", 2)) + _element(
        "18538067",
        _element("1549a966", _number("2ad7b1", 1_000_000)),
        _element("1654ae6b", track),
        *(_element("1f43b675", cluster) for cluster in clusters),
    )


def _element(identifier: str, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes.fromhex(identifier) + struct.pack(">Q", 1 << 56 | len(body)) + body


def _number(identifier: str, value: int) -> bytes:
    return _element(identifier, struct.pack(">Q", value))
