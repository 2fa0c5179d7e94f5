"""How good a rendition is: its bit rate, and VMAF against the source at the source's size.

The rendition is enlarged to the source's size with bicubic interpolation, as a player's would be on a screen of that
size. Frames are paired by number, every fifth is scored (every fourth would meet the same kind of frame in each group
of B-frames), and the scores are joined by their harmonic mean, which does not forgive bad frames. Model vmaf_v0.6.1.
"""

import json
import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.transcoding import tools
from bench.transcoding.seam import Planned
from bench.transcoding.tracks import Track

_EVERY = 5
_LOG = "vmaf.json"


@dataclass(frozen=True, slots=True)
class Quality:
    """Of one rendition.

    Attributes:
        bitrate_bps: bytes of all segments over the source's duration.
        vmaf: harmonic mean over frames, 0 to 100.
        vmaf_min: of the worst scored frame.
    """

    bitrate_bps: float
    vmaf: float
    vmaf_min: float


class Incomplete(RuntimeError):
    """A rendition has fewer frames than the source."""


def measured(track: Track, source: Path, planned: Planned, scratch: Path) -> Quality:
    """Scores a rendition.

    Args:
        track: the rendition.
        source: what it was made of.
        planned: the source's facts.
        scratch: a folder for files that are removed again.

    Raises:
        Incomplete: frames are missing.
        subprocess.CalledProcessError: ffmpeg failed; it has said why.
    """
    joined, log = scratch / "joined.mp4", scratch / _LOG
    track.join(joined)
    try:
        command = [
            *(tools.ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin"),
            *("-i", str(joined), "-i", str(source), "-filter_complex", _filters(planned), "-an", "-f", "null", "-"),
        ]
        subprocess.run(command, check=True, cwd=scratch)  # the name of the log needs no escapes then
        scores = json.loads(log.read_text())
    finally:
        joined.unlink()
        log.unlink(missing_ok=True)
    expected = math.ceil(planned.frame_count / _EVERY)
    if len(scores["frames"]) != expected:
        raise Incomplete(f"{track.init.parent}: {len(scores['frames'])} of {expected} frames could be scored")
    pooled = scores["pooled_metrics"]["vmaf"]
    bitrate_bps = float(8 * track.size_bytes / planned.duration_s)
    return Quality(bitrate_bps, pooled["harmonic_mean"], pooled["min"])


def _filters(planned: Planned) -> str:
    rate = planned.frame_rate
    # By number: containers start at different times.
    numbered = f"settb=AVTB,setpts=N*{rate.denominator}/{rate.numerator}/TB"
    size = f"{planned.width_px}:{planned.height_px}"
    options = f"n_subsample={_EVERY}:n_threads={os.cpu_count()}:shortest=1:log_fmt=json:log_path={_LOG}"
    return (
        f"[0:v]{numbered},scale={size}:flags=bicubic,format=yuv420p[rendition];"
        f"[1:v]{numbered},format=yuv420p[source];"
        f"[rendition][source]libvmaf={options}"
    )
