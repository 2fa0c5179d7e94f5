"""Makers of files that are made to do harm, and of those who notice when one of them is followed."""

import asyncio
import io
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

from PIL import Image

from services.transcode.source import RejectionReason
from tests.unit.transcode import sources

LARGE = bytes(1 << 28)
"""Zeros, which are packed into a thousandth."""

Reason = RejectionReason
NOT_TAKEN = frozenset({Reason.UNSUPPORTED_FORMAT, Reason.NOT_MEDIA})
MANY = frozenset({Reason.TOO_MANY_STREAMS})
TOO_MUCH = frozenset({Reason.TOO_LARGE, Reason.TOO_LONG, Reason.TOO_MANY_STREAMS})
BROKEN = frozenset({Reason.CORRUPT, Reason.TRUNCATED, Reason.NO_VIDEO_TRACK})


@dataclass
class Bait:
    """What traps refer to: an address where somebody counts who calls, and a pipe where whoever opens it stays."""

    address: str
    pipe: Path
    calls: int = 0

    def text(self, template: str) -> bytes:
        return template.replace("ADDRESS", self.address).replace("PIPE", str(self.pipe)).encode()

    def is_opened(self) -> bool:
        """Whether somebody reads from the pipe, or waits to."""
        try:
            os.close(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True


@asynccontextmanager
async def laid_out(folder: Path) -> AsyncIterator[Bait]:
    """Bait, with somebody who listens, until the block ends."""

    def called(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bait.calls += 1
        writer.close()

    server = await asyncio.start_server(called, "127.0.0.1", 0, family=socket.AF_INET)
    bait = Bait("{}:{}".format(*server.sockets[0].getsockname()[:2]), folder / "pipe")
    os.mkfifo(bait.pipe)
    async with server:
        yield bait


@dataclass(frozen=True)
class Trap:
    """Bytes, and the reasons for which they may be refused.

    Attributes:
        make: the bytes; told what it may refer to.
        may_pass: whether it may also be taken for what it looks like.
    """

    name: str
    make: Callable[[Bait], bytes]
    reasons: frozenset[RejectionReason]
    may_pass: bool = False

    def __str__(self) -> str:
        return self.name


def text(template: str) -> Callable[[Bait], bytes]:
    return lambda bait: bait.text(template)


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


def reference_movie(bait: Bait) -> bytes:
    """A QuickTime movie that is nothing but the address of another one."""
    url = bait.text("http://ADDRESS/movie.mov\0")
    reference = box(b"rdrf", struct.pack(">I4sI", 0, b"url ", len(url)), url)
    return box(b"ftyp", b"qt  ", bytes(4)) + box(b"moov", box(b"rmra", box(b"rmda", reference)))


def elsewhere(bait: Bait) -> bytes:
    """An MP4 whose samples are said to lie at a URL."""
    data = clip()
    url = bait.text("http://ADDRESS/samples.mp4\0")
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


def crowded(_: Bait) -> bytes:
    """Ten thousand tracks."""
    data = clip()
    begin = data.index(b"trak") - 4
    size = struct.unpack(">I", data[begin : begin + 4])[0]
    track = data[begin : begin + size]
    moov = data.index(b"moov") - 4
    more = track * 10_000
    moov_size = struct.unpack(">I", data[moov : moov + 4])[0] + len(more)
    return data[:moov] + struct.pack(">I", moov_size) + data[moov + 4 : begin] + more + data[begin:]


def jpeg_of(width_px: int, height_px: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height_px, width_px, 3) + bytes([1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9"


TABLES = (b"stsz", b"stts", b"ctts", b"stsc", b"stco")


def endless(kind: bytes, _: Bait) -> bytes:
    """An index whose table of a kind is said to have 2³² - 1 entries, in a file of a few kilobytes."""
    data = bytearray(sources.clip(sources.constant_times(10, Fraction(25)), rate=Fraction(25)))
    at = data.index(kind) + 8
    most = struct.pack(">I", 0xFFFF_FFFF)
    # A size for all saves stsz its list; one run for all, and stts is as short.
    data[at : at + 8] = struct.pack(">I", 1) + most if kind == b"stsz" else most + data[at + 4 : at + 8]
    if kind == b"stts":
        data[at : at + 8] = struct.pack(">I", 1) + most
    return bytes(data)


def with_edits(*edits: tuple[int, int]) -> bytes:
    """A clip whose first track has these edits: durations and media times, in ticks."""
    data = clip()
    begin = data.index(b"edts") - 4
    size = struct.unpack(">I", data[begin : begin + 4])[0]
    entries = b"".join(struct.pack(">Qqhh", duration, at, 1, 0) for duration, at in edits)
    new = box(b"edts", box(b"elst", bytes([1, 0, 0, 0]), struct.pack(">I", len(edits)), entries))
    grown = len(new) - size
    data = data[:begin] + new + data[begin + size :]
    for kind in (b"trak", b"moov"):
        at = data.rindex(kind, 0, begin) - 4
        data = data[:at] + struct.pack(">I", struct.unpack(">I", data[at : at + 4])[0] + grown) + data[at + 4 :]
    return data


def endless_edits(_: Bait) -> bytes:
    """A hundred thousand edits, each of which shows the whole clip again."""
    return with_edits(*[(400, 0)] * 100_000)


def lasting_edit(_: Bait) -> bytes:
    return with_edits((1 << 62, 0), (1 << 62, 1 << 62), ((1 << 64) - 1, -1))


def nested_boxes(_: Bait) -> bytes:
    """Boxes, each with one in it, ten thousand deep."""
    size = 8 * 10_000
    nest = b"".join(
        struct.pack(">I4s", size - 8 * depth, b"moov" if depth == 0 else b"trak") for depth in range(10_000)
    )
    return box(b"ftyp", b"isom", bytes(4)) + nest


EBML = bytes.fromhex(
    "1a45dfa3 a3 4286810142f7810142f2810442f381084282886d6174726f736b614287810442858102".replace(" ", "")
)


def element(kind: str, data: bytes) -> bytes:
    """Of Matroska."""
    return bytes.fromhex(kind) + struct.pack(">Q", len(data) | 1 << 56) + data


def crowded_matroska(_: Bait) -> bytes:
    def track(number: int) -> bytes:
        picture = element("e0", element("b0", b"\x10") + element("ba", b"\x10"))
        uid = struct.pack(">I", number)
        return element(
            "ae", element("d7", uid) + element("73c5", uid) + element("83", b"\x01") + element("86", b"V_VP8") + picture
        )

    tracks = element("1654ae6b", b"".join(track(number) for number in range(1, 10_001)))
    return EBML + element("18538067", tracks)


def nested_elements(_: Bait) -> bytes:
    """Tags in tags, ten thousand deep."""
    data = b""
    for _depth in range(10_000):
        data = bytes.fromhex("67c8") + struct.pack(">Q", len(data) | 1 << 56) + data
    return EBML + element("18538067", element("1254c367", element("7373", data)))


def crowded_transport_stream(_: Bait) -> bytes:
    """Two hundred programmes of fifty streams each."""
    programmes = range(1, 201)

    def section(table: int, number: int, body: bytes) -> bytes:
        head = struct.pack(">BHHBBB", table, 0xB000 | 9 + len(body), number, 0xC1, 0, 0)
        return head + body + struct.pack(">I", crc32_mpeg(head + body))

    def packed(pid: int, data: bytes) -> Iterator[bytes]:
        data = b"\0" + data
        for count, at in enumerate(range(0, len(data), 184)):
            start = 0x4000 if at == 0 else 0
            yield struct.pack(">BHB", 0x47, start | pid, 0x10 | count % 16) + data[at : at + 184].ljust(184, b"\xff")

    packets = list(
        packed(0, section(0, 1, b"".join(struct.pack(">HH", each, 0xE000 | 0x100 + each) for each in programmes)))
    )
    for each in programmes:
        pids = (0x0400 + (each * 50 + stream) % 0x1800 for stream in range(50))
        streams = b"".join(struct.pack(">BHH", 0x1B, 0xE000 | pid, 0xF000) for pid in pids)
        packets += packed(0x100 + each, section(2, each, struct.pack(">HH", 0xFFFF, 0xF000) + streams))
    return b"".join(packets) + transport_stream()


def crc32_mpeg(data: bytes) -> int:
    """ISO/IEC 13818-1, annex A."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C1_1DB7 if crc >> 31 else crc << 1) & 0xFFFF_FFFF
    return crc


def many_fragments(_: Bait) -> bytes:
    """A fragmented file whose last fragment comes again and again, forty thousand times."""
    data = sources.clip(
        sources.constant_times(10, Fraction(25)),
        rate=Fraction(25),
        options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    )
    begin = data.rindex(b"moof") - 4
    end = data.index(b"mfra") - 4 if b"mfra" in data else len(data)
    return data[:begin] + data[begin:end] * 40_000


def growing(_: Bait) -> bytes:
    """A stream of small pictures that goes on with larger ones than a video may have."""
    times = sources.constant_times(2, Fraction(25))
    return transport_stream() + sources.clip(
        times, rate=Fraction(25), size_px=(8_192, 4_352), container="mpegts", x264="ref=1:threads=1"
    )


def webp_of(width_px: int, height_px: int) -> bytes:
    canvas = bytes(4) + (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", len(canvas)) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def large_png(_: Bait) -> bytes:
    """50,000 by 50,000 pixels in black and white."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(6_251 * 1_000)) for _ in range(50)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def clear_png(_: Bait) -> bytes:
    """100 megapixels with transparency: nearly all that an image may be, and every copy of it counts."""
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 6, 0, 0, 0)
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(40_001 * 1_000)) for _ in range(10)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def many_texts(_: Bait) -> bytes:
    texts = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20), 9)) * 10_000
    return png(8, 8, texts, rows=bytes(25 * 8))


def many_frames(_: Bait) -> bytes:
    image = b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    return head + (b"!\xf9\x04\0\x01\0\0\0" + image) * 1_000_000 + b";"


def many_scans(_: Bait) -> bytes:
    """A progressive JPEG of 100 megapixels whose last scan comes again and again."""
    buffer = io.BytesIO()
    Image.new("L", (10_000, 10_000), 128).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    begin = data.rindex(b"\xff\xda")
    return data[:begin] + data[begin:-2] * 2_000 + b"\xff\xd9"


def hidden_scans(bait: Bait) -> bytes:
    """The same, with a byte in front of its second scan that decoders pass over."""
    data = many_scans(bait)
    begin = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    return data[:begin] + b"\xff\xfe\0\x02A" + data[begin:]


def photo() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def zip_bomb(_: Bait) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", LARGE)
    return buffer.getvalue()


def movie_and_page(bait: Bait) -> bytes:
    data = clip()
    begin = struct.unpack(">I", data[:4])[0]
    page = box(b"free", bait.text("<html><script src=http://ADDRESS/a.js></script><img src=file://PIPE></html>"))
    return data[:begin] + page + data[begin:]


def gif_and_script(bait: Bait) -> bytes:
    head = b"GIF89a/*" + struct.pack("<HBBB", 8, 0x80, 0, 0) + bytes(6)
    image = b",\0\0\0\0\x08\0\x08\0\0\x02\x02D\x01\0;"
    return head + image + bait.text("*/=1;fetch('http://ADDRESS/a')//")


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://ADDRESS/a.ts\n#EXTINF:4,\nfile://PIPE\n"

TRAPS = [
    Trap("playlist", text(PLAYLIST), NOT_TAKEN),
    Trap("playlist behind a mark", text("\ufeff \n" + PLAYLIST), NOT_TAKEN),
    Trap("playlist in capitals", text(PLAYLIST.upper()), NOT_TAKEN),
    Trap("concat script", text("ffconcat version 1.0\nfile http://ADDRESS/a.mp4\nfile PIPE\n"), NOT_TAKEN),
    Trap("bare concat script", text("file 'PIPE'\nfile 'http://ADDRESS/a.mp4'\n"), NOT_TAKEN),
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
        lambda bait: transport_stream() + bait.text(PLAYLIST),
        BROKEN,
        may_pass=True,
    ),
    Trap("playlist after a sync byte", lambda bait: b"G" + bait.text(PLAYLIST), NOT_TAKEN | BROKEN),
    Trap(
        "playlist named a movie",
        lambda bait: box(b"ftyp", b"isom", bytes(4)) + bait.text(PLAYLIST),
        BROKEN,
    ),
    Trap("MP4 of ten thousand tracks", crowded, MANY),
    Trap("Matroska file of ten thousand tracks", crowded_matroska, MANY | BROKEN),
    Trap("transport stream of ten thousand tracks", crowded_transport_stream, MANY),
    *(Trap(f"endless {kind.decode()}", partial(endless, kind), BROKEN | TOO_MUCH, may_pass=True) for kind in TABLES),
    Trap("endless edit list", endless_edits, BROKEN | TOO_MUCH, may_pass=True),
    Trap("edits that last for ever", lasting_edit, BROKEN | TOO_MUCH, may_pass=True),
    Trap("boxes in boxes", nested_boxes, BROKEN),
    Trap("elements in elements", nested_elements, BROKEN),
    Trap("fragments without end", many_fragments, TOO_MUCH, may_pass=True),
    Trap("picture that grows", growing, BROKEN | TOO_MUCH, may_pass=True),
    Trap("PNG of 4 gigapixels", lambda _: png(65_535, 65_535), frozenset({Reason.TOO_LARGE})),
    Trap("PNG of no pixels", lambda _: png(0, 0), frozenset({Reason.CORRUPT, Reason.TOO_LARGE})),
    Trap("JPEG of 4 gigapixels", lambda _: jpeg_of(65_535, 65_535), frozenset({Reason.TOO_LARGE, Reason.CORRUPT})),
    Trap(
        "GIF of 4 gigapixels",
        lambda _: b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b";",
        frozenset({Reason.TOO_LARGE, Reason.CORRUPT}),
    ),
    Trap("WebP of 4 gigapixels", lambda _: webp_of(65_535, 65_535), frozenset({Reason.TOO_LARGE, Reason.CORRUPT})),
    Trap("PNG of 2.5 gigapixels in 300 KB", large_png, frozenset({Reason.TOO_LARGE})),
    Trap("PNG of 190 megapixels", lambda _: png(19_000, 10_000), frozenset({Reason.TOO_LARGE})),
    Trap("transparent PNG of 100 megapixels", clear_png, TOO_MUCH, may_pass=True),
    Trap("PNG with ten thousand texts", many_texts, BROKEN | TOO_MUCH, may_pass=True),
    Trap("GIF of a million frames", many_frames, TOO_MUCH, may_pass=True),
    Trap("JPEG of two thousand scans", many_scans, BROKEN | TOO_MUCH),
    Trap("JPEG that hides its scans", hidden_scans, BROKEN | TOO_MUCH),
    Trap("zip bomb", zip_bomb, NOT_TAKEN),
    Trap("JPEG and archive in one", lambda bait: photo() + zip_bomb(bait), BROKEN, may_pass=True),
    Trap("movie and page in one", movie_and_page, BROKEN, may_pass=True),
    Trap("GIF and script in one", gif_and_script, BROKEN, may_pass=True),
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
        lambda bait: png(8, 8, rows=bytes(25 * 8)) + bait.text("<script src=http://ADDRESS/a.js></script>"),
        frozenset({Reason.CORRUPT}),
        may_pass=True,
    ),
]
