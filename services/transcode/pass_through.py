"""Whether an original's own packets can be its largest rendition, so that nobody has to encode that one. Pure.

What is asked of them is what our encoder would have made: H.264 that every screen plays, of the step's size and within
its caps, at a constant rate, in closed groups of pictures short enough to cut segments between them. The probe answers
by what containers and headers say; whether the packets keep to it is for the task that repackages them to find out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, takewhile
from typing import Final

from services.transcode.ladder import GOP_S, GOPS_PER_SEGMENT
from services.transcode.source import UNTAGGED_BT709_HEIGHT_PX, ColourInfo, H264Info, VideoStreamInfo

SEGMENT_S: Final = GOP_S * GOPS_PER_SEGMENT
_SHORTEST_SEGMENT_S, _LONGEST_SEGMENT_S = 2, 6

_PROFILES: Final = frozenset({66, 77, 100})
"""Baseline, Main, High: Apple's HLS authoring 1.2 and 1.3. Others have more bits, more chroma, or no hardware."""

_HIGHEST_LEVEL: Final = 42
"""1080p at 60 frames a second; what our own encodes may need as well."""

_LONGEST_S: Final = 3_600
"""Of a longer one, encoding after all could take a single core longer than a task may."""

_MOST_GOP_FRAMES: Final = 1_000
"""More than any segment has."""

_BT709, _UNSPECIFIED = 1, 2


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a timeline has its borders: frames a group of pictures, and a segment, which is some whole groups."""

    gop_frames: int
    segment_frames: int


def key_frame_grid(key_packets: Sequence[int], packet_count: int) -> int | None:
    """The smallest number of frames so that every so many-th packet is a key frame; None where there is none.

    Key frames between those do no harm. In a track without a second one, it is the whole track.

    Args:
        key_packets: places of key frames in decode order, ascending.
        packet_count: of the whole track.
    """
    if not key_packets or key_packets[0] != 0:
        return None
    keys = set(key_packets)
    candidates = takewhile(_MOST_GOP_FRAMES.__ge__, (*key_packets[1:], packet_count))
    return next((frames for frames in candidates if keys.issuperset(range(0, packet_count, frames))), None)


def peak_bps(packet_bytes: Sequence[int], gop_frames: int, frame_rate: Fraction) -> int:
    """The largest bit rate of any stretch of about 4 s that begins with a key frame of the grid.

    Args:
        packet_bytes: sizes in decode order, at least one.
        gop_frames: the grid.
        frame_rate: frames a second.
    """
    window = gop_frames * max(1, round(SEGMENT_S * frame_rate / gop_frames))
    sums = [0, *accumulate(packet_bytes)]
    count = len(packet_bytes)
    largest = max(sums[min(first + window, count)] - sums[first] for first in range(0, count, gop_frames))
    return round(largest * 8 * frame_rate / min(window, count))


def grid_of(coded: H264Info, frame_rate: Fraction) -> Grid | None:
    """The borders that coded packets can be cut at: segments of 2 to 6 s, as near to 4 s as can be; None if none are.

    The other renditions share them, and have a key frame about every 2 s, or where that does not go, one a segment.
    """
    gop_s = coded.gop_frames / frame_rate
    gops = max(1, round(SEGMENT_S / gop_s))
    if not _SHORTEST_SEGMENT_S <= gops * gop_s <= _LONGEST_SEGMENT_S:
        return None
    segment_frames = gops * coded.gop_frames
    parts = max(1, round(gops * gop_s / GOP_S))
    return Grid(segment_frames // parts if segment_frames % parts == 0 else segment_frames, segment_frames)


def grid_for(
    video: VideoStreamInfo, frame_rate: Fraction, *, width_px: int, height_px: int, maxrate_bps: int, bufsize_bits: int
) -> Grid | None:
    """The borders of a track that already is what a rendition of this size, rate and these caps shall be; else None."""
    coded = video.h264
    fits = (
        coded is not None
        and coded.profile in _PROFILES
        and coded.level <= _HIGHEST_LEVEL
        and video.pix_fmt == "yuv420p"
        and not video.interlaced
        and video.sample_aspect_ratio == 1
        and (video.coded_width_px, video.coded_height_px) == (width_px, height_px)
        and _is_bt709(video.colour, video.coded_height_px)
        # No more than an encode of ours may peak at: the cap, and what the buffer adds to a segment.
        and coded.peak_bps <= maxrate_bps + bufsize_bits // SEGMENT_S
        and video.random_access
        and abs(video.frame_rate - frame_rate) <= frame_rate / 1000
        and video.frame_count is not None
        and video.frame_count / frame_rate <= _LONGEST_S
    )
    return grid_of(coded, frame_rate) if coded is not None and fits else None


def _is_bt709(colour: ColourInfo, height_px: int) -> bool:
    known = {_BT709, _UNSPECIFIED} if height_px >= UNTAGGED_BT709_HEIGHT_PX else {_BT709}
    return {colour.primaries, colour.transfer, colour.matrix} <= known and colour.full_range is not True
