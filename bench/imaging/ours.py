"""A spell of ours: what the engine's child runs for an image, in one process for all images of the spell.

Included: `encode_image` as it is (sniffing, opening, orientation, the decoding, the profile, the scaling, the JPEGs)
over a `RemoteFile`, whose ranges come from the file system and whose artifacts go there, as everybody's do here.
Not included: the child's start and sandbox, the wire to its parent, storage. `sandboxed` has the first two.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from bench.imaging.spell import Job, say, timed, told
from services.transcode.engine.images.renditions import encode_image
from services.transcode.engine.limits import Limits
from services.transcode.engine.reading.remote_file import RemoteFile
from services.transcode.specs import ImageSpec


class _Folder:
    """A `Reporter` that writes artifacts down and keeps the rest to itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def artifact(self, name: str, content_type: str, data: bytes) -> None:
        (self._folder / name).write_bytes(data)

    def progress(self, fraction: float) -> None:
        """Nobody asks."""

    def stage(self, name: str, start_unix_ns: int, attributes: Mapping[str, str | int | float]) -> None:
        """Nobody asks."""


def _scale(job: Job) -> None:
    with Path(job.photo).open("rb", buffering=0) as photo:
        descriptor = photo.fileno()
        file = RemoteFile(lambda offset, length: os.pread(descriptor, length, offset), os.fstat(descriptor).st_size)
        encode_image(ImageSpec("image", tuple(job.sizes_px), 1), file, Limits(), _Folder(Path(job.folder)))


if __name__ == "__main__":
    say(timed(told(), _scale))
