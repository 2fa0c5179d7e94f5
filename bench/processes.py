"""Running another program while its memory is watched."""

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_SAMPLE_S = 0.05
_KIB = 1024
_HIGH_WATER = re.compile(r"^VmHWM:\s*(\d+) kB$", re.MULTILINE)
"""proc(5): the largest resident set of a process since it began to run its program."""


@dataclass(frozen=True, slots=True)
class Run:
    """A program that ended well.

    Attributes:
        seconds: from its start to its end, whatever it needs to begin with included.
        peak_bytes: the most memory it held; where it has children, all their peaks together.
        cpu_seconds: what it spent of all cores.
    """

    seconds: float
    peak_bytes: int
    cpu_seconds: float


class Failed(RuntimeError):
    """The program ended with an error; the text is what it said last."""


def run(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Run:
    """Runs a program to its end.

    Its memory is the kernel's own high-water mark, read again and again until the process ends. (wait4's ru_maxrss will
    not do: a child inherits that of the process which started it.)

    Raises:
        Failed: with the end of its log.
    """
    with log.open("wb") as output:
        began_s = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], "HOME": str(log.parent), "LANG": "C.UTF-8", **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        ended = threading.Event()
        sampler = _Sampler(process.pid, ended)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began_s
        process.returncode = os.waitstatus_to_exitcode(status)
        ended.set()
        sampler.join()
    if process.returncode != 0:
        said = log.read_text(errors="replace")[-2_000:]
        raise Failed(f"{command[0]} ended with {process.returncode}:\n{said}")
    return Run(seconds, sum(sampler.peaks_bytes.values()), usage.ru_utime + usage.ru_stime)


class _Sampler(threading.Thread):
    """Reads the high-water marks of a process and its children until it is told to end."""

    def __init__(self, pid: int, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = ended
        self.peaks_bytes: dict[int, int] = {}

    def run(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._pid)
            while not self._ended.wait(_SAMPLE_S):
                for one in (parent, *parent.children(recursive=True)):
                    if peak_bytes := _high_water_bytes(one.pid):
                        self.peaks_bytes[one.pid] = peak_bytes


def _high_water_bytes(pid: int) -> int:
    """0 for a process that has ended."""
    try:
        found = _HIGH_WATER.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found.group(1)) * _KIB if found else 0
