"""`make bench-images`: our way with images against Pillow, pyvips and sharp, in turns in one run on one machine.

Each makes three JPEGs, 1200, 600 and 150 px on the longer side, of the same photo of 12 megapixels
(`bench/imaging/photo.py`): at our own quality, with colour at half the resolution (4:2:0), baseline, with Huffman
tables of their own. All of them decode once, and make each size from the next larger one, in gamma light: the others by
Lanczos, ours by narrower filters where a reduction is small. The photo comes from a file (that the system has cached)
and the pictures go to files. A contender is a process of its own for every spell, works in one thread, and scales the
photo once unmeasured, then so many times measured; its start is not counted. Its peak of memory is that of the process,
interpreter and libraries included. Images a second are by the clock; next to them, without an aim, images a second of
processor time, which others on the machine disturb less.

Next to speed stand size and SSIM of what each has made (`bench/imaging/likeness.py`), since speed without quality says
nothing. Ours is the engine's function for an image in one process, as theirs are; it makes a ThumbHash besides. What it
costs to run it in a sandboxed child for every image, as the service does and they do not, are lines of their own
without an aim (`ours.py` and `sandboxed.py` in `bench/imaging` say what either includes). Progressive files take longer
to write; what the others do with those is told without an aim.

`ARGS="--quick"` makes a short trial.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.imaging import photo
from bench.imaging.contenders import OURS, SANDBOXED, Contender, installed
from bench.imaging.spell import Spell
from bench.imaging.turns import SIZES_PX, Picture, measured, pictures
from bench.report import Figure, Ratio, Result, publish

_MIB = 1 << 20

_MOST_LOSS = 0.01
"""What still is of like quality: less than the contenders differ by among themselves at 150 px."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How often to scale the photo in a spell, and how many rounds to make."""

    images: int
    rounds: int


_FULL, _QUICK = Effort(8, 7), Effort(2, 1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-images", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round; the figures mean little")
    return run(_QUICK if parser.parse_args().quick else _FULL)


def run(effort: Effort) -> int:
    """Measures, prints, writes; the exit code."""
    contenders = installed()
    source = photo.made()
    spells = measured(contenders, source, effort.images, effort.rounds)
    made = {contender.key: pictures(contender, source) for contender in contenders}
    _show(contenders, spells, made, effort)
    return publish("images", _results(contenders, spells, made, effort), _details(source, spells, made, effort))


def _results(
    contenders: Sequence[Contender],
    spells: Mapping[str, Sequence[Spell]],
    made: Mapping[str, Sequence[Picture]],
    effort: Effort,
) -> list[Result]:
    def rates(key: str) -> list[float]:
        return [effort.images / spell.seconds for spell in spells[key]]

    def thrift(key: str) -> list[float]:
        return [effort.images / spell.cpu_seconds for spell in spells[key]]

    others = [contender for contender in contenders if contender.key not in {OURS, SANDBOXED}]
    rivals = [other for other in others if other.aim is not None]
    loss = _loss(made[OURS], [made[rival.key] for rival in rivals])
    return [
        *(Ratio(other.name, rates(OURS), rates(other.key), "images/s", other.aim) for other in others),
        *(Ratio(f"CPU: {rival.name}", thrift(OURS), thrift(rival.key), "images/CPU s") for rival in rivals),
        Ratio("a sandboxed child each; the code alone", rates(SANDBOXED), rates(OURS), "images/s"),
        *(
            Ratio(f"a sandboxed child each; {rival.name}", rates(SANDBOXED), rates(rival.key), "images/s")
            for rival in rivals
        ),
        Figure("SSIM below the best other's, worst size", loss, "", f"≤ {_MOST_LOSS:g}", loss <= _MOST_LOSS),
        *(
            Figure(f"peak memory: {one.name}", median(spell.peak_bytes for spell in spells[one.key]) / _MIB, "MiB")
            for one in contenders
        ),
    ]


def _loss(ours: Sequence[Picture], others: Sequence[Sequence[Picture]]) -> float:
    """How much less like the reference ours is than the best of the others, at the size where that is most."""
    return max(max(theirs[number].ssim for theirs in others) - own.ssim for number, own in enumerate(ours))


def _show(
    contenders: Sequence[Contender],
    spells: Mapping[str, Sequence[Spell]],
    made: Mapping[str, Sequence[Picture]],
    effort: Effort,
) -> None:
    """What each has made, and the processor time that it took."""
    table = Table(title="pictures: SSIM, KB")
    table.add_column("what")
    for size_px in SIZES_PX:
        table.add_column(f"{size_px} px", justify="right")
    table.add_column("CPU ms an image", justify="right")
    for one in contenders:
        cells = [f"{picture.ssim:.4f}, {picture.size_bytes / 1000:,.1f}" for picture in made[one.key]]
        cpu_ms = median(spell.cpu_seconds for spell in spells[one.key]) / effort.images * 1000
        table.add_row(one.name, *cells, f"{cpu_ms:,.0f}")
    Console(width=None if Console().is_terminal else 150).print(table)


def _details(
    source: Path, spells: Mapping[str, Sequence[Spell]], made: Mapping[str, Sequence[Picture]], effort: Effort
) -> dict[str, Any]:
    data = source.read_bytes()
    return {
        "photo": {
            "file": source.name,
            "width_px": photo.WIDTH_PX,
            "height_px": photo.HEIGHT_PX,
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        },
        "images_a_spell": effort.images,
        "spells": {key: [asdict(spell) for spell in ended] for key, ended in spells.items()},
        "pictures": {key: [asdict(picture) for picture in ones] for key, ones in made.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
