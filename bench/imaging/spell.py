"""What every program that is measured does: it takes a job, scales once unmeasured, then so often measured.

It needs nothing but Python's own library: the environments of others have nothing else.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Job:
    """What a program is told, as JSON in its only argument.

    Attributes:
        photo: the JPEG file to scale.
        folder: where `SIZE.jpg` goes for each size, over whatever is there.
        sizes_px: of the longer side, from the largest down.
        quality: of the JPEG files to write, as libjpeg counts it.
        is_progressive: whether they are to be progressive.
        images: how often to scale the photo, measured.
    """

    photo: str
    folder: str
    sizes_px: Sequence[int]
    quality: int
    is_progressive: bool
    images: int

    def path(self, size_px: int) -> Path:
        """Where a size goes."""
        return Path(self.folder) / f"{size_px}.jpg"


@dataclass(frozen=True, slots=True)
class Spell:
    """What a program says of itself when it is done, as JSON in its last line.

    Attributes:
        seconds: for all images but the unmeasured one.
        cpu_seconds: processor time in all threads and ended children meanwhile.
        peak_bytes: VmHWM (proc(5)), the most memory that the process held since it began.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def told() -> Job:
    """The job of this program."""
    return Job(**json.loads(sys.argv[1]))


def timed(job: Job, scale: Callable[[Job], None]) -> Spell:
    """Has the photo scaled `job.images` times, after once unmeasured."""
    scale(job)
    began_s, began_cpu_s = time.perf_counter(), _cpu_s()
    for _ in range(job.images):
        scale(job)
    return Spell(time.perf_counter() - began_s, _cpu_s() - began_cpu_s, _peak_bytes())


def say(spell: Spell) -> None:
    """Tells the benchmark."""
    print(json.dumps(asdict(spell)))


def _cpu_s() -> float:
    return sum(os.times()[:4])


def _peak_bytes() -> int:
    found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        msg = "the kernel does not tell the peak of memory"
        raise RuntimeError(msg)
    return int(found[1]) * _KIB
