"""Has the contenders scale the photo in turns, and looks at what each has made."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from bench.imaging.contenders import Contender
from bench.imaging.likeness import ssim
from bench.imaging.spell import Job, Spell
from bench.report import OUT
from services.transcode.engine.images.encoding import JPEG_QUALITY

SIZES_PX = (1200, 600, 150)
"""Of the longer side."""

_ROOT = Path(__file__).parents[2]
_WITHIN_S = 120.0
_ONE_THREAD = {"VIPS_CONCURRENCY": "1"}


class Failed(RuntimeError):
    """A contender ended with an error; the text is what it said last."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What became of the photo at one size.

    Attributes:
        width_px: as written.
        height_px: as written.
        size_bytes: of the file.
        ssim: against the reference of `likeness`.
    """

    width_px: int
    height_px: int
    size_bytes: int
    ssim: float


def measured(contenders: Sequence[Contender], photo: Path, images: int, rounds: int) -> Mapping[str, list[Spell]]:
    """The spells of each contender by its key, one a round; every other round goes the other way round.

    Raises:
        Failed: a contender ended with an error.
    """
    spells: dict[str, list[Spell]] = {contender.key: [] for contender in contenders}
    for turn in range(rounds):
        for contender in contenders if turn % 2 == 0 else reversed(contenders):
            spell = _spell(contender, photo, images)
            spells[contender.key].append(spell)
            print(f"round {turn + 1}: {contender.name}: {images / spell.seconds:.2f} images/s", file=sys.stderr)
    return spells


def pictures(contender: Contender, photo: Path) -> list[Picture]:
    """What the contender made last, from the largest size down."""
    return [_picture(_folder(contender) / f"{size_px}.jpg", photo) for size_px in SIZES_PX]


def _picture(path: Path, photo: Path) -> Picture:
    with Image.open(path) as image:
        width_px, height_px = image.size
    return Picture(width_px, height_px, path.stat().st_size, ssim(path, photo))


def _spell(contender: Contender, photo: Path, images: int) -> Spell:
    folder = _folder(contender)
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(str(photo), str(folder), SIZES_PX, JPEG_QUALITY, contender.is_progressive, images)
    ended = subprocess.run(
        [*contender.program, json.dumps(asdict(job)), *contender.options],
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **_ONE_THREAD},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    if ended.returncode != 0:
        raise Failed(f"{contender.name} ended with {ended.returncode}:\n{ended.stderr[-2_000:]}")
    return Spell(**json.loads(ended.stdout.splitlines()[-1]))


def _folder(contender: Contender) -> Path:
    return OUT / "images" / contender.key
