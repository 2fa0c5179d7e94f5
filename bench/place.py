"""Where benchmarks run: a local stack of their own, made afresh, and what its processes spend."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psutil

from bench.report import OUT
from deploy.local.stack import Stack

SERVICES: Sequence[str] = ("metadata", "upload", "gateway")
"""What an upload needs. Nothing is processed, so that encoders do not eat the time of what is measured."""


_SETTINGS: Mapping[str, str] = {
    # Looking through all of storage falls into nobody's turn.
    "MILLRACE_UPLOAD_ORPHAN_INTERVAL_S": "86400",
}


@contextmanager
def stack(services: Sequence[str] = SERVICES, settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """A stack without data; what it leaves behind is thrown away, its logs are kept until the next one.

    Args:
        services: of ours, to start.
        settings: in addition to those that all benchmarks have.
    """
    folder = OUT / "stack"
    shutil.rmtree(folder, ignore_errors=True)
    OUT.mkdir(exist_ok=True)
    try:
        with Stack(folder, services, {**_SETTINGS, **(settings or {})}) as running:
            yield running
    finally:
        for name in ("seaweedfs", "postgres", "nats", "traces"):
            shutil.rmtree(folder / name, ignore_errors=True)


def processes(stack: Stack) -> dict[str, int]:
    """The process ids of a stack by name."""
    return {state.name: state.pid for state in stack.states() if state.pid}


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """What processes have spent so far, their children that live included, in CPU seconds."""
    return {name: _spent_s(pid) for name, pid in pids.items()}


def _spent_s(pid: int) -> float:
    process = psutil.Process(pid)
    spent_s = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            spent_s += times.user + times.system
    return spent_s
