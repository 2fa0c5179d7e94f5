"""What this machine, or the control group that this process is in, has to give."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def memory_bytes(cgroup: Path = _CGROUP) -> int:
    """The machine's memory, or the control group's limit where that is smaller.

    Args:
        cgroup: where a container sees its own group; version 2, else version 1.
    """
    physical_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = (_limit(cgroup / "memory.max"), _limit(cgroup / "memory" / "memory.limit_in_bytes"))
    return min(physical_bytes, *(limit for limit in limits if limit is not None), physical_bytes)


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None  # "max"
