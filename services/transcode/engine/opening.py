"""Opens a container with one demuxer, no protocols, and no way out to other files."""

import struct
from collections.abc import Iterator
from typing import NoReturn

import av
import av.error
import av.logging
from av.container import InputContainer

from services.transcode.engine.remote_file import RemoteFile
from services.transcode.engine.sniff import HEAD_BYTES, sniff
from services.transcode.engine.wire import WireError
from services.transcode.source import ContainerFormat, RejectedSource, RejectionReason

_DEMUXERS = {
    ContainerFormat.MP4: "mov",
    ContainerFormat.MATROSKA: "matroska",
    ContainerFormat.MPEG_TS: "mpegts",
    ContainerFormat.AVI: "avi",
}

_AVIO_BUFFER_BYTES = 1 << 20
"""libav asks in pieces of this size: with its default of 32 KiB the calls into Python show in profiles."""

_MAX_BOXES_CHECKED = 64
"""Enough for every plain MP4; a fragmented one has thousands and may end anywhere between two."""

NOT_FOR_VERDICTS = (MemoryError, WireError, ImportError, PermissionError, RejectedSource)
"""What media code must let through when it turns whatever libraries raise into verdicts.

Neither memory nor a lost parent is the source's fault, nor is a refusal of the sandbox (a library's late
import).
"""

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
        return av.open(
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
    except NOT_FOR_VERDICTS:
        raise
    except Exception as error:  # PyAV leaks UnicodeDecodeError, IndexError and others of hostile files
        raise RejectedSource(
            RejectionReason.CORRUPT, f"the file begins like {container_format} but cannot be read as such"
        ) from error


def check_complete(file: RemoteFile) -> bool:
    """Refuses an ISO file (MP4, MOV) that ends inside one of its boxes, or has no index.

    Where an index promises samples that are not there, nothing good comes of starting.

    Returns:
        Whether one index tells of all samples; that of a fragmented file tells of the first ones at most.

    Raises:
        RejectedSource: TRUNCATED.
    """
    has_index = is_fragmented = False
    for kind, end in _top_level_boxes(file):
        if end > file.size_bytes:
            raise RejectedSource(
                RejectionReason.TRUNCATED,
                f"the file should have at least {end:,} bytes, but has {file.size_bytes:,}",
            )
        has_index = has_index or kind in (b"moov", b"moof")
        is_fragmented = is_fragmented or kind == b"moof"
    file.seek(0)
    if not has_index:
        raise RejectedSource(RejectionReason.TRUNCATED, "the file has no index: its end seems to be missing")
    return not is_fragmented


def _top_level_boxes(file: RemoteFile) -> Iterator[tuple[bytes, int]]:
    """The kind and the end of each box, up to the first fragment."""
    offset = 0
    for _ in range(_MAX_BOXES_CHECKED):
        file.seek(offset)
        header = b""
        while len(header) < 16 and (piece := file.read(16 - len(header))):
            header += piece
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        if size == 1 and len(header) == 16:
            size = struct.unpack(">Q", header[8:])[0]
        elif size == 0:  # to the end of the file
            size = file.size_bytes - offset
        if size < 8:
            return
        offset += size
        yield kind, offset
        if kind == b"moof":
            return


def _refuse_to_open(*_args: object, **_kwargs: object) -> NoReturn:
    raise RejectedSource(RejectionReason.CORRUPT, "the file refers to other files")
