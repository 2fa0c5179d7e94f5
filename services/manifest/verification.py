"""Whether storage holds what was recorded: nothing is published that a viewer could not fetch."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """How an object can differ from its record."""

    MISSING = "missing"
    SIZE_MISMATCH = "size_mismatch"


@dataclass(frozen=True, slots=True)
class ObjectFault:
    """An object in the delivery bucket that is not what it should be."""

    s3_key: str
    fault: Fault


def faults(recorded: Mapping[str, int], held: Mapping[str, int]) -> tuple[ObjectFault, ...]:
    """What is wrong with the recorded objects, by key.

    Args:
        recorded: size in bytes by key.
        held: what storage lists; more than was recorded is fine, since attempts that were overtaken leave objects.
    """
    return tuple(
        ObjectFault(key, Fault.MISSING if key not in held else Fault.SIZE_MISMATCH)
        for key, size_bytes in sorted(recorded.items())
        if held.get(key) != size_bytes
    )
