"""Who scales the photo, and by which command."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import environments, node
from bench.imaging import pillow

OURS, SANDBOXED = "ours", "sandboxed"
PILLOW, DRAFT, PYVIPS, SHARP = "pillow", "draft", "pyvips", "sharp"
DRAFT_PROGRESSIVE, PYVIPS_PROGRESSIVE, SHARP_PROGRESSIVE = (
    "draft-progressive",
    "pyvips-progressive",
    "sharp-progressive",
)


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that scales the photo again and again.

    Attributes:
        key: for folders and the file of figures.
        name: for tables.
        program: how its command begins; the job follows.
        options: what follows the job.
        is_progressive: what it is told to write.
        aim: the ratio that is to be reached, ours over theirs, in images a second; None where it is only told.
    """

    key: str
    name: str
    program: Sequence[str]
    options: Sequence[str] = ()
    is_progressive: bool = False
    aim: float | None = None


def installed() -> list[Contender]:
    """All of them, installed now unless they are there already. Ours comes first.

    Raises:
        NodeMissing: there is no Node.js.
        subprocess.CalledProcessError: uv or npm failed; it has said why.
    """
    folder = Path(__file__).parent
    node.install(folder)
    ours, sandboxed, by_pillow = (
        (sys.executable, "-m", f"bench.imaging.{module}") for module in ("ours", "sandboxed", "pillow")
    )
    by_pyvips = (str(environments.python(environments.environment("vips"))), "-m", "bench.imaging.vips")
    by_sharp = (node.program("node"), str(folder / "sharp.mjs"))
    return [
        Contender(OURS, "ours", ours),
        Contender(PILLOW, "plain Pillow", by_pillow, (pillow.PLAIN,), aim=2.0),
        Contender(DRAFT, "Pillow with draft", by_pillow, (pillow.DRAFT,), aim=0.95),
        Contender(PYVIPS, "pyvips", by_pyvips, aim=0.95),
        Contender(SHARP, "sharp", by_sharp, aim=0.95),
        Contender(SANDBOXED, "ours, a sandboxed child each", sandboxed),
        Contender(DRAFT_PROGRESSIVE, "draft, progressive", by_pillow, (pillow.DRAFT,), is_progressive=True),
        Contender(PYVIPS_PROGRESSIVE, "pyvips, progressive", by_pyvips, is_progressive=True),
        Contender(SHARP_PROGRESSIVE, "sharp, progressive", by_sharp, is_progressive=True),
    ]
