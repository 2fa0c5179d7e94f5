"""What this machine, or the control group that this process is in, has to give."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MEMBERSHIP = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def memory_bytes(membership: Path = _MEMBERSHIP, mount: Path = _MOUNT) -> int:
    """The machine's memory, or the smallest limit of this process's control group and those around it.

    Args:
        membership: which groups this process is in (cgroups(7)): a line `0::<path>` of version 2, one that names the
            memory controller of version 1.
        mount: where they are seen. A container may see its own group there and yet be told the path that the host
            knows it by, so what is not there is passed over, and the mount's own limit always counts.
    """
    physical_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = (_limit(path) for path in _limit_files(membership, mount))
    return min(physical_bytes, *(limit for limit in limits if limit is not None), physical_bytes)


def cores(membership: Path = _MEMBERSHIP, mount: Path = _MOUNT) -> int:
    """The cores that this process may run on, or as many as its control group's share of their time comes to.

    Args:
        membership: as in `memory_bytes`.
        mount: likewise.
    """
    shares = (_share(folder) for folder in _folders(membership, mount, "cpu"))
    there = len(os.sched_getaffinity(0))
    return min(there, *(math.ceil(share) for share in shares if share is not None), there)


def _limit_files(membership: Path, mount: Path) -> Iterator[Path]:
    for folder in _folders(membership, mount, "memory"):
        yield from (folder / "memory.max", folder / "memory.limit_in_bytes")


def _folders(membership: Path, mount: Path, controller: str) -> Iterator[Path]:
    """Where the groups that bound this process by a controller, and those around them, may be seen."""
    for controllers, group in _groups(membership):
        for each in (group, *group.parents):
            inside = each.relative_to("/")
            if not controllers:
                yield mount / inside
            elif controller in controllers.split(","):
                yield mount / controller / inside


def _groups(membership: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """Of each hierarchy, its controllers (none: version 2) and this process's group."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        yield controllers, PurePosixPath(path)


def _share(folder: Path) -> float | None:
    """Of processor time, in cores; None where there is no limit."""
    text = _text(folder / "cpu.max") or f"{_text(folder / 'cpu.cfs_quota_us')} {_text(folder / 'cpu.cfs_period_us')}"
    quota, _, period = text.partition(" ")
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None  # "max", -1, or no such file
    return max(1, int(quota)) / int(period)


def _limit(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None  # "max"


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
