"""Which encoders a process has, and which of them it plans with.

Hardware is preferred where it is asked for and there. A plan names the encoder of each rendition, since all chunks of
it must come from one: another one's parameter sets would not fit. A worker that lacks it gives the task back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.transcode.formats import SOFTWARE, Codec
from services.transcode.specs import ChunkSpec, TaskSpec


class Hardware(StrEnum):
    """Whether encoders in hardware are used."""

    OFF = "off"
    AUTO = "auto"


PREFERENCES: Final[Mapping[Codec, tuple[str, ...]]] = {
    # Not VAAPI: PyAV cannot give it its surfaces.
    Codec.H264: ("h264_nvenc", "h264_qsv", SOFTWARE[Codec.H264]),
    Codec.HEVC: (SOFTWARE[Codec.HEVC],),
    Codec.AV1: (SOFTWARE[Codec.AV1],),
}
"""The first that opens is taken. The last of each codec every worker has."""


class EncoderMissing(Exception):
    """A task names an encoder that this process does not have; another one may."""


@dataclass(frozen=True, slots=True)
class Encoders:
    """What a process has.

    Attributes:
        preferred: what it plans with, by codec.
        available: what it works with.
    """

    preferred: Mapping[Codec, str]
    available: frozenset[str]

    def check(self, spec: TaskSpec) -> None:
        """Makes sure that a task can be done here.

        Raises:
            EncoderMissing: it cannot.
        """
        if isinstance(spec, ChunkSpec):
            for rendition in spec.renditions:
                if rendition.encoder not in self.available:
                    raise EncoderMissing(f"{rendition.label} is for {rendition.encoder}, which is not here")


IN_SOFTWARE: Final = Encoders(SOFTWARE, frozenset(SOFTWARE.values()))


def resolved(hardware: Hardware, opens: Callable[[str], bool]) -> Encoders:
    """What a process has, found once, at its start.

    Args:
        hardware: whether to look for any.
        opens: whether the encoder of this name can be opened here. Not asked for software.
    """
    if hardware is Hardware.OFF:
        return IN_SOFTWARE
    names = dict.fromkeys(name for names in PREFERENCES.values() for name in names)
    available = IN_SOFTWARE.available | {name for name in names if name not in IN_SOFTWARE.available and opens(name)}
    preferred = {codec: next(name for name in names if name in available) for codec, names in PREFERENCES.items()}
    return Encoders(preferred, available)
