"""Shaka Streamer for the same ladder: its configuration, and its command as it comes or at our settings of x264.

Shaka Streamer keeps its own ffmpeg and packager. It encodes with preset slow and an average bit rate, and a key frame a
segment; none of that can be configured. At our settings its calls of ffmpeg are edited on their way (`shaka_edited`).
"""

import json
from collections.abc import Sequence
from pathlib import Path

from bench import environments
from bench.transcoding import tools
from bench.transcoding.expert import AUDIO_BPS, TARGETS_BPS
from bench.transcoding.seam import Planned

OUTPUT = "output"
"""Made by Shaka Streamer below the folder it is given: it wipes what it writes to."""

PLAYLIST = "hls.m3u8"


def as_it_comes(source: Path, folder: Path, planned: Planned) -> Sequence[str]:
    """The command line, with configuration files written to `folder`."""
    return [str(tools.shaka_streamer()), *_arguments(source, folder, planned)]


def at_our_settings(source: Path, folder: Path, planned: Planned) -> Sequence[str]:
    """The same with our preset and x264-params in place of its preset."""
    interpreter = str(environments.python(environments.environment("shaka")))
    options = planned.steps[0].x264_options
    edited = str(Path(__file__).with_name("shaka_edited.py"))
    settings = [options["preset"], options["x264-params"], str(tools.shaka_streamer())]
    return [interpreter, edited, *settings, *_arguments(source, folder, planned)]


def _arguments(source: Path, folder: Path, planned: Planned) -> list[str]:
    inputs = [{"name": str(source), "media_type": kind} for kind in ("video", "audio")]
    labels = [step.label for step in planned.steps]
    written = {
        "input": {"inputs": inputs},
        "pipeline": {
            "streaming_mode": "vod",
            "resolutions": labels,
            "channel_layouts": ["stereo"],
            "manifest_format": ["hls"],
            "hls_output": PLAYLIST,
            "segment_size": float(planned.segment_frames / planned.frame_rate),
            "quiet": True,
        },
        "bitrate": {
            "video_resolutions": {
                step.label: {
                    "max_width": step.width_px,
                    "max_height": step.height_px,
                    "bitrates": {"h264": f"{TARGETS_BPS[step.label] // 1_000}k"},
                }
                for step in planned.steps
            },
            "audio_channel_layouts": {
                "stereo": {"max_channels": 2, "bitrates": {"aac": f"{AUDIO_BPS // 1_000}k"}},
            },
        },
    }
    arguments = []
    for name, configuration in written.items():
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps(configuration, indent=2))  # JSON is YAML
        arguments += [f"--{name}-config", str(path)]
    return [*arguments, "--output", str(folder / OUTPUT)]
