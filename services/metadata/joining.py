"""Tracks that several tasks made in pieces, joined: each task encoded a stretch of time in some renditions."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from media.v1 import media_pb2
from services.runtime import bitrate
from services.runtime.errors import InvalidArgument

_ALIKE: Final = ("init_sha256", "timescale", "codecs", "width_px", "height_px", "frame_rate")
"""What one playlist says once for all of its segments."""


def joined(results: Sequence[media_pb2.TaskResult]) -> list[media_pb2.Track]:
    """The tracks that the pieces of a generation make, in order of their first pieces.

    The initialisation section is that of the first piece; all are the same bytes, or there is none (MPEG-TS).

    Args:
        results: of all tasks, in plan order, which is that of time.

    Raises:
        InvalidArgument: PIECES_DIFFER, two pieces of a track do not fit each other.
    """
    pieces: dict[str, list[media_pb2.Track]] = {}
    for result in results:
        for piece in result.pieces.items:
            pieces.setdefault(piece.label, []).append(piece)
    tracks = [_track(of_one) for of_one in pieces.values()]
    if len({_duration_s(track) for track in tracks}) > 1:
        raise InvalidArgument("the joined tracks are not equally long", reason="PIECES_DIFFER")
    return tracks


def _duration_s(track: media_pb2.Track) -> Fraction:
    return Fraction(sum(segment.duration_ticks for segment in track.segments), track.timescale)


def _track(pieces: Sequence[media_pb2.Track]) -> media_pb2.Track:
    first = pieces[0]
    for piece in pieces[1:]:
        if differing := [field for field in _ALIKE if getattr(piece, field) != getattr(first, field)]:
            raise InvalidArgument(
                f"pieces of {first.label} differ in {', '.join(differing)}",
                reason="PIECES_DIFFER",
                details={"label": first.label},
            )
    track = media_pb2.Track()
    track.CopyFrom(first)
    for piece in pieces[1:]:
        track.segments.extend(piece.segments)
    rated = [(segment.duration_ticks, segment.size_bytes) for segment in track.segments]
    target_s = Fraction(max(ticks for ticks, _ in rated), track.timescale)
    track.average_bps = bitrate.average_bps(rated, track.timescale)
    track.peak_bps = bitrate.peak_bps(rated, track.timescale, target_s)
    return track
