"""Into how many chunks a video is cut, and how their renditions are shared out. Pure.

Long videos are cut into stretches that the fleet works side by side, each in all renditions, since that decodes them
once; where there are fewer stretches than workers, their renditions are shared out too.
"""

from fractions import Fraction
from itertools import pairwise
from math import ceil

from services.transcode.ladder import ENCODE_COST
from services.transcode.source import VideoStreamInfo
from services.transcode.specs import RenditionSpec, Timeline

_SHORTEST_CHUNK_S = 8
"""Below, decoding up to a chunk's first frame and the encoder's start weigh more than what is gained."""

_LONGEST_CHUNK_S = 32
"""Above, a worker that dies loses more than half a minute of a core, and the last chunks keep the fleet waiting."""

ROUNDS = 2
"""Chunks a worker gets: with fewer, a slow one holds the others up at the end; with more, borders only cost."""

_MOST_AT_ONCE = 256
"""Workers that a video is cut for, however many there are: four hours are encoded in minutes then, and a plan of many
thousand tasks would take longer to record than it saves.
"""


def chunk_borders(timeline: Timeline, chunks: int) -> tuple[int, ...]:
    """The first frame of each chunk and the end of the last: whole segments, as evenly as they go."""
    firsts = (number * timeline.segment_count // chunks * timeline.segment_frames for number in range(chunks))
    return (*firsts, timeline.frame_count)


def chunk_count(
    video: VideoStreamInfo, timeline: Timeline, renditions: tuple[RenditionSpec, ...], video_slots: int
) -> int:
    """Into how many chunks to cut: some rounds for each worker, neither short nor long.

    Whoever works a chunk decodes from the key frame before it: chunks that were much shorter than the source's groups
    of pictures would have most of it decoded over and over.
    """
    if not video.random_access:
        return 1
    video_slots = min(video_slots, _MOST_AT_ONCE)
    segment_s = timeline.segment_frames / timeline.frame_rate
    segments = timeline.segment_count
    fewest = ceil(segments / int(_LONGEST_CHUNK_S / segment_s))
    shortest_s = max(Fraction(_SHORTEST_CHUNK_S), video.key_frame_interval_s / 2)
    most = max(1, segments // ceil(shortest_s / segment_s))
    if most < video_slots and video.key_frame_interval_s <= 2 * segment_s:
        return _count_of_few(video, timeline, renditions, video_slots)
    return min(max(video_slots * ROUNDS, fewest), most)


def _count_of_few(
    video: VideoStreamInfo, timeline: Timeline, renditions: tuple[RenditionSpec, ...], video_slots: int
) -> int:
    """The number of chunks of a video so short that workers idle: it is soon done, and with little work.

    Cut short, it has chunks of unequal length; shared out by renditions, it is decoded over and over.
    """

    def effort(chunks: int) -> Fraction:
        groups = shared_out(renditions, video_slots // chunks)
        costs = [frame_cost(video, group) for group in groups]
        longest = max(end - first for first, end in pairwise(chunk_borders(timeline, chunks)))
        rounds = ceil(chunks * len(groups) / video_slots)
        return rounds * longest * max(costs) + Fraction(timeline.frame_count * sum(costs), video_slots)

    return min(range(1, min(video_slots, timeline.segment_count) + 1), key=effort)


def shared_out(renditions: tuple[RenditionSpec, ...], shares: int) -> tuple[tuple[RenditionSpec, ...], ...]:
    """Renditions in up to so many groups, each of neighbours: the largest alone first, since it costs most."""
    alone = max(0, min(shares, len(renditions)) - 1)
    return (*((rendition,) for rendition in renditions[:alone]), renditions[alone:])


def frame_cost(video: VideoStreamInfo, group: tuple[RenditionSpec, ...]) -> int:
    """What a frame costs in a task of these renditions: as encoding so many pixels in H.264."""
    # Measured shares: decoding a pixel costs about three tenths of encoding one.
    decoded_px = video.coded_width_px * video.coded_height_px * 3 // 10
    encoded_px = sum(one.width_px * one.height_px * ENCODE_COST[one.codec] for one in group)
    return decoded_px + encoded_px
