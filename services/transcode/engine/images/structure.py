"""What the structure of a JPEG says of the work that it takes, before a decoder finds out by doing it.

Neither its pixels nor its bytes bound that: a progressive one may have thousands of scans of a few bytes, each of which
costs as much as decoding all of its pixels.
"""

import os
import re

from services.transcode.engine.reading.remote_file import RemoteFile

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""Any marker but those that belong to a scan's data: stuffed zeros, restarts, fill bytes (ITU-T T.81, B.1.1)."""
_TEMPORARY, _START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0x01, 0xD8, 0xD9, 0xDA
_FIRST_PIECE_BYTES, _LARGEST_PIECE_BYTES = 256, 1 << 20
"""The next marker is mostly near, and the end of a scan far."""


def jpeg_scans(file: RemoteFile) -> int:
    """How many scans the first image of a JPEG has; leaves the file where the counting ended.

    Bytes between two segments are passed over, as libjpeg does: they end nothing. A segment of an impossible length
    ends the image: judging damage is the decoder's.
    """
    file.seek(2)
    scans = 0
    while (kind := _next_marker(file)) not in (None, _END_OF_IMAGE):
        if kind in (_TEMPORARY, _START_OF_IMAGE):  # which have no content
            continue
        length = int.from_bytes(file.read(2), "big")
        if length < 2:
            break
        file.seek(length - 2, os.SEEK_CUR)
        scans += kind == _START_OF_SCAN
    return scans


def _next_marker(file: RemoteFile) -> int | None:
    """Goes on behind the next marker and says which it is; None where there is no other."""
    tail, piece_bytes = b"", _FIRST_PIECE_BYTES
    while piece := file.read(piece_bytes):
        data = tail + piece
        if found := _MARKER.search(data):
            file.seek(found.end() - len(data), os.SEEK_CUR)
            return data[found.end() - 1]
        tail, piece_bytes = data[-1:], min(4 * piece_bytes, _LARGEST_PIECE_BYTES)
    return None
