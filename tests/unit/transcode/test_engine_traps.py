"""Files made to do harm: each ends in a verdict, in bounded time, and nobody is called on the way."""

import asyncio
import socket
import struct
import time
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest

from services.transcode.engine.errors import EngineFailed
from services.transcode.engine.run import probe
from services.transcode.plan import plan
from services.transcode.source import RejectedSource, RejectionReason
from tests.unit.transcode import sources
from tests.unit.transcode.sources import LIMITS, BytesSource

WITHIN_S = 30.0
"""Far below the wall clock of a probe; most take a fraction of a second."""

LARGE = bytes(1 << 28)
"""Zeros, which are packed into a thousandth."""

Reason = RejectionReason
NOT_TAKEN = frozenset({Reason.UNSUPPORTED_FORMAT, Reason.NOT_MEDIA})
BROKEN = frozenset({Reason.CORRUPT, Reason.TRUNCATED, Reason.NO_VIDEO_TRACK})


@dataclass(frozen=True)
class Trap:
    """Bytes, and the reasons for which they may be refused.

    Attributes:
        make: the bytes; told where a listener waits for whoever follows a reference.
        may_pass: whether it may also be taken for what it looks like.
        may_fail: whether it may also end its child, for want of memory.
    """

    name: str
    make: Callable[[str], bytes]
    reasons: frozenset[RejectionReason]
    may_pass: bool = False
    may_fail: bool = False

    def __str__(self) -> str:
        return self.name


def text(template: str) -> Callable[[str], bytes]:
    return lambda address: template.replace("ADDRESS", address).encode()


def box(kind: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width_px: int, height_px: int, *more: bytes, rows: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows or bytes(64)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + body + chunk(b"IEND", b"")


def clip() -> bytes:
    return sources.clip(sources.constant_times(10, Fraction(25)), rate=Fraction(25))


def transport_stream() -> bytes:
    return sources.clip(sources.constant_times(10, Fraction(25)), rate=Fraction(25), container="mpegts")


def reference_movie(address: str) -> bytes:
    """A QuickTime movie that is nothing but the address of another one."""
    url = f"http://{address}/movie.mov\0".encode()
    reference = box(b"rdrf", struct.pack(">I4sI", 0, b"url ", len(url)), url)
    return box(b"ftyp", b"qt  ", bytes(4)) + box(b"moov", box(b"rmra", box(b"rmda", reference)))


def elsewhere(address: str) -> bytes:
    """An MP4 whose samples are said to lie at a URL."""
    data = clip()
    url = f"http://{address}/samples.mp4\0".encode()
    old = box(b"dref", bytes(4), struct.pack(">I", 1), box(b"url ", struct.pack(">I", 1)))
    assert old in data
    new = box(b"dref", bytes(4), struct.pack(">I", 1), box(b"url ", bytes(4), url))
    grown = len(new) - len(old)
    at = data.index(old)
    data = data[:at] + new + data[at + len(old) :]
    for kind in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        begin = data.rindex(kind, 0, at) - 4
        size = struct.unpack(">I", data[begin : begin + 4])[0] + grown
        data = data[:begin] + struct.pack(">I", size) + data[begin + 4 :]
    return data


def crowded(_: str) -> bytes:
    """Ten thousand tracks."""
    data = clip()
    begin = data.index(b"trak") - 4
    size = struct.unpack(">I", data[begin : begin + 4])[0]
    track = data[begin : begin + size]
    moov = data.index(b"moov") - 4
    more = track * 10_000
    moov_size = struct.unpack(">I", data[moov : moov + 4])[0] + len(more)
    return data[:moov] + struct.pack(">I", moov_size) + data[moov + 4 : begin] + more + data[begin:]


def endless_samples(_: str) -> bytes:
    """An index of 2³² - 1 samples in a hundred bytes."""
    data = bytearray(clip())
    at = data.index(b"stsz") + 8
    data[at : at + 8] = struct.pack(">II", 1, 0xFFFF_FFFF)
    return bytes(data)


def jpeg_of(width_px: int, height_px: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height_px, width_px, 3) + bytes([1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9"


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://ADDRESS/a.ts\n#EXTINF:4,\nfile:///etc/passwd\n"

TRAPS = [
    Trap("playlist", text(PLAYLIST), NOT_TAKEN),
    Trap("playlist behind a mark", text("\ufeff \n" + PLAYLIST), NOT_TAKEN),
    Trap("playlist in capitals", text(PLAYLIST.upper()), NOT_TAKEN),
    Trap("concat script", text("ffconcat version 1.0\nfile http://ADDRESS/a.mp4\nfile /etc/passwd\n"), NOT_TAKEN),
    Trap("bare concat script", text("file '/etc/passwd'\nfile 'http://ADDRESS/a.mp4'\n"), NOT_TAKEN),
    Trap("session description", text("v=0\no=- 0 0 IN IP4 ADDRESS\nm=video 9 RTP/AVP 96\n"), NOT_TAKEN),
    Trap("DASH manifest", text("<MPD><BaseURL>http://ADDRESS/</BaseURL></MPD>"), NOT_TAKEN),
    Trap("XML with an entity", text('<?xml version="1.0"?><!DOCTYPE a SYSTEM "http://ADDRESS/a.dtd"><a/>'), NOT_TAKEN),
    Trap("SVG", text('<svg xmlns="http://www.w3.org/2000/svg"><image href="http://ADDRESS/a.png"/></svg>'), NOT_TAKEN),
    Trap("web page", text('<html><img src="http://ADDRESS/a.png"></html>'), NOT_TAKEN),
    Trap("archive", lambda _: b"PK\x03\x04" + bytes(10_000), NOT_TAKEN),
    Trap("reference movie", reference_movie, BROKEN),
    Trap("samples elsewhere", elsewhere, BROKEN, may_pass=True),
    Trap(
        "playlist in a transport stream",
        lambda at: transport_stream() + PLAYLIST.replace("ADDRESS", at).encode(),
        BROKEN,
        may_pass=True,
    ),
    Trap("playlist after a sync byte", lambda at: b"G" + PLAYLIST.replace("ADDRESS", at).encode(), NOT_TAKEN | BROKEN),
    Trap(
        "playlist named a movie",
        lambda at: box(b"ftyp", b"isom", bytes(4)) + PLAYLIST.replace("ADDRESS", at).encode(),
        BROKEN,
    ),
    Trap("ten thousand tracks", crowded, frozenset({Reason.TOO_MANY_STREAMS}), may_fail=True),
    Trap(
        "endless samples", endless_samples, BROKEN | {Reason.TOO_LONG, Reason.TOO_LARGE}, may_pass=True, may_fail=True
    ),
    Trap("PNG of 4 gigapixels", lambda _: png(65_535, 65_535), frozenset({Reason.TOO_LARGE})),
    Trap("PNG of no pixels", lambda _: png(0, 0), frozenset({Reason.CORRUPT, Reason.TOO_LARGE})),
    Trap("JPEG of 4 gigapixels", lambda _: jpeg_of(65_535, 65_535), frozenset({Reason.TOO_LARGE, Reason.CORRUPT})),
    Trap(
        "GIF of 4 gigapixels",
        lambda _: b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b";",
        frozenset({Reason.TOO_LARGE, Reason.CORRUPT}),
    ),
    Trap(
        "PNG with much text",
        lambda _: png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(LARGE)), rows=bytes(25 * 8)),
        frozenset({Reason.CORRUPT, Reason.TOO_LARGE}),
        may_pass=True,
    ),
    Trap(
        "PNG with a large profile",
        lambda _: png(8, 8, chunk(b"iCCP", b"a\0\0" + zlib.compress(LARGE)), rows=bytes(25 * 8)),
        frozenset({Reason.CORRUPT, Reason.TOO_LARGE}),
        may_pass=True,
    ),
    Trap(
        "PNG whose rows unpack to far more",
        lambda _: png(8, 8, rows=LARGE),
        frozenset({Reason.CORRUPT}),
        may_pass=True,
    ),
    Trap(
        "picture and archive in one",
        lambda _: png(8, 8, rows=bytes(25 * 8)) + b"PK\x03\x04" + bytes(1_000),
        frozenset({Reason.CORRUPT}),
        may_pass=True,
    ),
    Trap(
        "picture and page in one",
        lambda at: png(8, 8, rows=bytes(25 * 8)) + f"<script src=http://{at}/a.js></script>".encode(),
        frozenset({Reason.CORRUPT}),
        may_pass=True,
    ),
]


@dataclass
class Listener:
    address: str
    calls: int = 0


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """Counts whoever calls."""

    def called(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.calls += 1
        writer.close()

    server = await asyncio.start_server(called, "127.0.0.1", 0, family=socket.AF_INET)
    heard = Listener("{}:{}".format(*server.sockets[0].getsockname()[:2]))
    async with server:
        yield heard


PASSED, FAILED = "passed", "failed"


async def verdict_on(data: bytes) -> RejectionReason | str:
    """The reason for which bytes are refused, else whether all of their tasks passed."""
    try:
        source = await probe(BytesSource(data), LIMITS)
        for spec in plan(source):
            await sources.run(spec, data)
    except RejectedSource as rejection:
        return rejection.reason
    except EngineFailed:
        return FAILED
    return PASSED


@pytest.mark.parametrize("trap", TRAPS, ids=str)
async def test_a_trap_ends_in_a_verdict_and_calls_nobody(trap: Trap, listener: Listener) -> None:
    data = trap.make(listener.address)
    began_s = time.monotonic()
    verdict = await verdict_on(data)
    assert verdict in trap.reasons | ({PASSED} if trap.may_pass else set()) | ({FAILED} if trap.may_fail else set())
    assert time.monotonic() - began_s < WITHIN_S
    assert listener.calls == 0


async def test_a_picture_that_is_larger_than_its_container_says_is_refused() -> None:
    """A container may claim any size; what the decoder finds is what counts."""
    data = sources.clip(sources.constant_times(4, Fraction(25)), rate=Fraction(25), size_px=(640, 360))
    small = bytearray(data)
    at = small.index(b"avc1", small.index(b"stsd")) + 4 + 24
    assert struct.unpack(">HH", small[at : at + 4]) == (640, 360)
    small[at : at + 4] = struct.pack(">HH", 16, 16)
    for made in (data, bytes(small)):
        with pytest.raises(RejectedSource) as rejection:
            await probe(BytesSource(made), replace(LIMITS, max_frame_pixels=640 * 360 - 1))
        assert rejection.value.reason is Reason.TOO_LARGE
