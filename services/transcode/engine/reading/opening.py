"""Opens a container with one demuxer, no protocols, and no way out to other files."""

import struct
from collections.abc import Iterator
from itertools import takewhile
from typing import NoReturn

import av
import av.error
import av.logging
from av.container import InputContainer
from av.video.stream import VideoStream

from services.transcode.engine.limits import Limits
from services.transcode.engine.reading.remote_file import RemoteFile
from services.transcode.engine.reading.sniff import HEAD_BYTES, sniff
from services.transcode.engine.wire import WireError
from services.transcode.source import ContainerFormat, RejectedSource, RejectionReason

_DEMUXERS = {
    ContainerFormat.MP4: "mov",
    ContainerFormat.MATROSKA: "matroska",
    ContainerFormat.MPEG_TS: "mpegts",
    ContainerFormat.AVI: "avi",
}

_DECODE_TIMED = {ContainerFormat.AVI, ContainerFormat.MATROSKA}
"""Formats that say (Matroska: of tracks made for AVI) when frames are decoded, not when they are shown. PyAV has libav
invent the latter, and it takes them to be in order: B-frames are not."""
_GENERATE_PTS = 1  # AVFMT_FLAG_GENPTS

_AVIO_BUFFER_BYTES = 1 << 20
"""libav asks in pieces of this size: with its default of 32 KiB the calls into Python show in profiles."""

_MAX_BOXES_CHECKED = 64
"""Enough for every plain MP4; a fragmented one has thousands and may end anywhere between two."""

_MAX_BOXES_IN_INDEX = 100_000
"""A few dozen are usual; who pads an index with more than this hides something, and pays for it in time alone."""

NOT_FOR_VERDICTS = (MemoryError, WireError, ImportError, PermissionError, RejectedSource)
"""What media code must let through when it turns whatever libraries raise into verdicts.

Neither memory nor a lost parent is the source's fault, nor is a refusal of the sandbox (a library's late
import).
"""


def let_through(error: Exception) -> None:
    """Raises again what PyAV raised and is not for a verdict.

    Decoders that say -1 of what they cannot decode say EPERM: of libav's, that is damage, and no refusal of the
    sandbox, which libav has no reason to meet: it opens nothing.
    """
    if isinstance(error, NOT_FOR_VERDICTS) and not isinstance(error, av.error.PermissionError):
        raise error


# libav's own logging would go through Python's from foreign threads; failures arrive as exceptions anyway.
av.logging.set_level(None)


def sniff_file(file: RemoteFile) -> ContainerFormat:
    """The format of the file by its first bytes; leaves the file at its start.

    Raises:
        RejectedSource: see `sniff`.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return sniff(head)


def open_container(file: RemoteFile, container_format: ContainerFormat) -> InputContainer:
    """Opens a video file as what it was sniffed to be, and as nothing else.

    Raises:
        RejectedSource: CORRUPT, the demuxer cannot make sense of it.
    """
    demuxer = _DEMUXERS[container_format]
    file.seek(0)
    try:
        container = av.open(
            file,
            mode="r",
            format=demuxer,
            container_options={
                # Formats inside formats, and references to elsewhere, stop here.
                "format_whitelist": ",".join(_DEMUXERS.values()),
                "protocol_whitelist": "none",
            },
            metadata_errors="replace",
            buffer_size=_AVIO_BUFFER_BYTES,
            io_open=_refuse_to_open,
        )
    except Exception as error:  # PyAV leaks UnicodeDecodeError, IndexError and others of hostile files
        let_through(error)
        raise RejectedSource(
            RejectionReason.CORRUPT, f"the file begins like {container_format} but cannot be read as such"
        ) from error
    if container_format in _DECODE_TIMED:
        container.flags &= ~_GENERATE_PTS
    return container


def prepare_decoder(stream: VideoStream, limits: Limits) -> None:
    """Bounds what the decoder of an opened container takes: threads, and pictures that grow on the way.

    A picture of more pixels than a video may have cannot be decoded, then; it counts as damage.
    """
    stream.codec_context.thread_count = limits.threads
    stream.codec_context.options = {"max_pixels": str(limits.max_frame_pixels)}


def check_complete(file: RemoteFile, max_tracks: int) -> bool:
    """Refuses an ISO file (MP4, MOV) that ends inside one of its boxes, or has no index, or one of too many tracks.

    Where an index promises samples that are not there, nothing good comes of starting. Behind a whole index and whole
    samples may be anything: cameras append what they please, and it need not be boxes. Tracks are counted before
    libav does: it takes megabytes for each, and where it gives up (at a thousand) says that there is no memory.

    Returns:
        Whether one index tells of all samples; that of a fragmented file tells of the first ones at most.

    Raises:
        RejectedSource: TRUNCATED or TOO_MANY_STREAMS.
    """
    has_index = has_samples = is_fragmented = False
    for kind, begin, end in _boxes(file, 0, _MAX_BOXES_CHECKED):
        if end > file.size_bytes:
            if has_index and has_samples and kind != b"mdat":
                break
            raise RejectedSource(
                RejectionReason.TRUNCATED,
                f"the file should have at least {end:,} bytes, but has {file.size_bytes:,}",
            )
        has_index = has_index or kind in (b"moov", b"moof")
        has_samples = has_samples or kind == b"mdat"
        is_fragmented = is_fragmented or kind == b"moof"
        if kind == b"moof":
            break
        if kind == b"moov":
            _check_tracks(file, begin, end, max_tracks)
    file.seek(0)
    if not has_index:
        raise RejectedSource(RejectionReason.TRUNCATED, "the file has no index: its end seems to be missing")
    return not is_fragmented


def _check_tracks(file: RemoteFile, begin: int, end: int, max_tracks: int) -> None:
    inside = takewhile(lambda box: box[1] < end, _boxes(file, begin, _MAX_BOXES_IN_INDEX))
    tracks = sum(kind == b"trak" for kind, _, _ in inside)
    if tracks > max_tracks:
        raise RejectedSource(
            RejectionReason.TOO_MANY_STREAMS, f"the file has {tracks:,} tracks or more; the limit is {max_tracks}"
        )


def _boxes(file: RemoteFile, offset: int, at_most: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each box from an offset on, where its content begins, and where it ends."""
    for _ in range(at_most):
        file.seek(offset)
        header = b""
        while len(header) < 16 and (piece := file.read(16 - len(header))):
            header += piece
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        begin = offset + 8
        if size == 1 and len(header) == 16:
            size = struct.unpack(">Q", header[8:])[0]
            begin += 8
        elif size == 0:  # to the end of the file
            size = file.size_bytes - offset
        if size < 8:
            return
        offset += size
        yield kind, begin, offset


def _refuse_to_open(*_args: object, **_kwargs: object) -> NoReturn:
    raise RejectedSource(RejectionReason.CORRUPT, "the file refers to other files")
