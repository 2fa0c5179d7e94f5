"""What x264 is not to use of this machine's processor, lest the same pictures give other bytes."""

import functools
import re
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


@functools.cache
def x264_asm(cpuinfo: Path = _CPUINFO) -> str | None:
    """The instruction sets that x264 is held to; None for whatever it finds.

    With AVX-512, its macroblock tree reads what memory held before wherever B-frames are not searched for and a row of
    macroblocks does not fill its vectors: at 854 x 480, six encodes of the same pictures gave five different streams.
    AVX2 is as fast (measured from 360p to 1080p), and every processor with the one has the other.

    Read before the sandbox is shut, and remembered.
    """
    try:
        flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        return None
    return "avx2,fma3,bmi2,lzcnt" if flags and "avx512f" in flags[1].split() else None
