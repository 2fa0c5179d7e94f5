"""Whether an encoder is there: opened and given a picture, in a process of its own, since drivers may take theirs down.

Run as `python -m services.transcode.engine.video.availability <encoder>`: exit code 0 says yes.
"""

import subprocess
import sys
from fractions import Fraction

from av.video.frame import VideoFrame

from services.transcode.engine.video.encoder import VideoEncoder
from services.transcode.specs import RenditionSpec, Timeline

_WITHIN_S = 30
_WIDTH_PX, _HEIGHT_PX = 1280, 720


def opens(encoder: str) -> bool:
    """Whether an encoder of H.264 makes a picture here."""
    command = [sys.executable, "-m", "services.transcode.engine.video.availability", encoder]
    try:
        return subprocess.run(command, capture_output=True, timeout=_WITHIN_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main() -> None:
    """Raises what keeps the encoder from making a picture."""
    spec = RenditionSpec("720p", _WIDTH_PX, _HEIGHT_PX, 23, 2_800_000, 4_200_000, encoder=sys.argv[1])
    encoder = VideoEncoder(spec, Timeline(Fraction(30), 1, 60, 120, Fraction(0)), threads=1)
    packets = [*encoder.encode(VideoFrame(_WIDTH_PX, _HEIGHT_PX, "yuv420p"), 0), *encoder.flush()]
    encoder.to_sample(packets[0])


if __name__ == "__main__":
    main()
