"""Numbers as people read them."""

from datetime import UTC, datetime

_US, _MS, _S = 1_000, 1_000_000, 1_000_000_000


def duration(ns: int) -> str:
    """A duration with three significant digits and its unit: ``850 ns``, ``12.3 ms``, ``4.07 s``, ``2 m 05 s``."""
    if ns < _US:
        return f"{ns} ns"
    for unit, size, limit in (("µs", _US, _MS), ("ms", _MS, _S), ("s", _S, 60 * _S)):
        if ns < limit:
            value = ns / size
            digits = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{digits}f} {unit}"
    minutes, seconds = divmod(ns // _S, 60)
    return f"{minutes} m {seconds:02} s"


def mark(ns: int) -> str:
    """A duration on an axis, where every number is round: ``0``, ``500 ms``, ``2 s``."""
    number, _, unit = duration(ns).partition(" ")
    if ns == 0 or " " in unit:
        return "0" if ns == 0 else f"{number} {unit}"
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def short_name(name: str) -> str:
    """A span's name without the package of an rpc: ``media.v1.UploadService/Initiate`` loses ``media.v1.``."""
    service, slash, method = name.partition("/")
    if not slash or " " in name or not service:
        return name
    return f"{service.rpartition('.')[2]}/{method}"


def moment(unix_ns: int) -> str:
    """A moment in UTC, to the millisecond: ``2025-03-01 12:00:00.123``."""
    seconds, ns = divmod(unix_ns, _S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ns // _MS:03}"
