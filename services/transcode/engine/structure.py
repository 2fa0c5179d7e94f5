"""What the structure of an image says of the work that it takes, before a decoder finds out by doing it.

Neither number is bounded by an image's pixels or bytes in a way that helps: a progressive JPEG may have thousands of
scans of a few bytes, each of which costs as much as decoding all of its pixels, and a GIF millions of tiny frames.
"""

import re

from services.transcode.engine.remote_file import RemoteFile

_END_OF_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""Any marker but those that belong to a scan's data: stuffed zeros, restarts, fill bytes (ITU-T T.81, B.1.1)."""
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_PIECE_BYTES = 1 << 20


def jpeg_scans(file: RemoteFile) -> int:
    """How many scans the first image of a JPEG has; leaves the file where the counting ended.

    What is no JPEG any more ends it: judging damage is the decoder's.
    """
    file.seek(2)
    scans = 0
    while len(marker := _exactly(file, 2)) == 2 and marker[0] == 0xFF:
        kind = marker[1]
        if kind == _END_OF_IMAGE:
            break
        if kind == 0xFF:  # a fill byte
            file.seek(-1, 1)
            continue
        if kind in _BARE_MARKERS:
            continue
        length = int.from_bytes(_exactly(file, 2), "big")
        if length < 2:
            break
        file.seek(length - 2, 1)
        if kind == _START_OF_SCAN:
            scans += 1
            if not _skip_scan(file):
                break
    return scans


def _skip_scan(file: RemoteFile) -> bool:
    """Goes on to the marker that ends a scan, if there is one."""
    tail = b""
    while piece := file.read(_PIECE_BYTES):
        data = tail + piece
        if found := _END_OF_SCAN.search(data):
            file.seek(found.start() - len(data), 1)
            return True
        tail = data[-1:]
    return False


def gif_frames(file: RemoteFile, at_most: int) -> int:
    """How many frames a GIF has; counting ends at `at_most`, or where the file does."""
    file.seek(6)
    screen = _exactly(file, 7)
    if len(screen) == 7:
        _skip_colours(file, screen[4])
    frames = 0
    while frames < at_most and (kind := file.read(1)):
        if kind == b"!":
            file.seek(1, 1)
        elif kind == b",":
            image = _exactly(file, 9)
            if len(image) < 9:
                break
            _skip_colours(file, image[8])
            file.seek(1, 1)
            frames += 1
        else:
            break
        while size := file.read(1)[:1]:
            if size == b"\0":
                break
            file.seek(size[0], 1)
    return frames


def _skip_colours(file: RemoteFile, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << (flags & 7) + 1, 1)


def _exactly(file: RemoteFile, size: int) -> bytes:
    """So many bytes, if they are there: a file of blocks may give fewer at a border."""
    data = b""
    while len(data) < size and (piece := file.read(size - len(data))):
        data += piece
    return data
