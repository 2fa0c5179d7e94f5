"""What the structure of a JPEG says of the work that it takes, before a decoder finds out by doing it.

Neither its pixels nor its bytes bound that: a progressive one may have thousands of scans of a few bytes, each of which
costs as much as decoding all of its pixels.
"""

import re

from services.transcode.engine.reading.remote_file import RemoteFile

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


def _exactly(file: RemoteFile, size: int) -> bytes:
    """So many bytes, if they are there: a file of blocks may give fewer at a border."""
    data = b""
    while len(data) < size and (piece := file.read(size - len(data))):
        data += piece
    return data
