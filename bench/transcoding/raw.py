"""x264 and nothing else: what encoding the frames takes by itself, `python -m bench.transcoding.raw SOURCE FOLDER`.

The same frames as the engine's (decoded by the same library, scaled by the engine's own cascade), the same library, the
same settings, one thread. The processor time of decoding, scaling and encoding is taken apart; packets are dropped.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import av

from bench.transcoding import seam

REPORT = "raw.json"


@dataclass(frozen=True, slots=True)
class Spent:
    """Processor time of each part, in seconds."""

    decode_s: float
    scale_s: float
    encode_s: float


def command(source: Path, folder: Path) -> Sequence[str]:
    """The command line of this program."""
    return [sys.executable, "-m", "bench.transcoding.raw", str(source), str(folder)]


def spent(folder: Path) -> Spent:
    """What the program found."""
    return Spent(**json.loads((folder / REPORT).read_text()))


def measured(source: Path) -> Spent:
    """Encodes everything once."""
    planned = seam.planned(source)
    cascade = seam.cascade(planned.steps)
    encoders = [seam.open_encoder(step, planned.frame_rate) for step in planned.steps]
    decode_s = scale_s = encode_s = 0.0
    with av.open(source) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        frames = container.decode(stream)
        number = 0
        while True:
            began_s = time.thread_time()
            frame = next(frames, None)
            decoded_s = time.thread_time()
            decode_s += decoded_s - began_s
            if frame is None:
                break
            pictures = cascade.scaled(frame)
            scaled_s = time.thread_time()
            for encoder, picture in zip(encoders, pictures, strict=True):
                picture.time_base, picture.pts, picture.pict_type = 1 / planned.frame_rate, number, 0
                encoder.encode(picture)
            scale_s += scaled_s - decoded_s
            encode_s += time.thread_time() - scaled_s
            number += 1
    began_s = time.thread_time()
    for encoder in encoders:
        encoder.encode(None)
    return Spent(decode_s, scale_s, encode_s + time.thread_time() - began_s)


def main() -> int:
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    (folder / REPORT).write_text(json.dumps(asdict(measured(source))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
