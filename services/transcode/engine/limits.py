"""What one child may use, and what an original may ask of it. Plain values; settings choose them."""

from dataclasses import dataclass

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one job.

    Attributes:
        wall_clock_s: the child is killed after this long, whatever it does. Of each call of the source or the sink
            no more than a second counts: it is for the child's own work, and not for an outage of storage.
        stall_s: the child is killed when it has made no progress for this long. Time that the parent takes
            to read the source or to store an artifact does not count.
        address_space_bytes: RLIMIT_AS of the child. A 1080p encode takes about half a GiB, a 4K decode
            three times that; bombs take all there is.
        max_image_bytes: larger files are refused, if they are images.
        max_video_bytes: larger files are refused, if they are videos.
        max_duration_s: longer videos are refused.
        max_frame_pixels: width times height of one video frame, coded; 8K fits.
        max_image_pixels: width times height of a still image; the largest phone sensors fit.
        max_frames: frames of one video, after its frame rate was made constant.
        max_streams: tracks of one container.
        threads: threads that decoder and encoder may use. One a child, where children fill the cores. With
            more, x264's rate control depends on which thread is ahead: the bytes then differ from run to run.
    """

    wall_clock_s: float = 4 * 3600.0
    stall_s: float = 60.0
    address_space_bytes: int = 3 * _GIB
    max_image_bytes: int = 200_000_000
    max_video_bytes: int = 50_000_000_000
    max_duration_s: int = 4 * 3600
    max_frame_pixels: int = 8192 * 4320
    max_image_pixels: int = 200_000_000
    max_frames: int = 4 * 3600 * 60
    max_streams: int = 64
    threads: int = 1
