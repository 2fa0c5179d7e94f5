"""Which files a command line means: those that it names, and the images and videos in the folders that it names."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from millrace.errors import FileUnusable
from millrace.parts import content_type_of


@dataclass(slots=True)
class Found:
    """What there is to upload.

    Attributes:
        sizes: the files and their sizes in bytes, in the order of the command line, those of one folder by name; each
            once. The size of a named file that cannot be used is 0.
        hidden: files and folders passed over since their name begins with a dot.
        excluded: likewise, since their name matches a pattern.
        other_types: files whose name tells neither an image nor a video.
        empty: files without content.
        unusable: folders that could not be read, or in which there is nothing to upload.
    """

    sizes: dict[Path, int] = field(default_factory=dict)
    hidden: int = 0
    excluded: int = 0
    other_types: int = 0
    empty: int = 0
    unusable: dict[Path, FileUnusable] = field(default_factory=dict)

    @property
    def skipped(self) -> str:
        """What was passed over, in words; empty where nothing was."""
        counts = {
            "hidden": self.hidden,
            "excluded": self.excluded,
            "of other types": self.other_types,
            "empty": self.empty,
        }
        return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)


def find(paths: Iterable[Path], *, exclude: Sequence[str] = (), any_type: bool = False) -> Found:
    """Looks for what there is to upload. Blocks.

    Links to files are followed, links to folders are not, so that a loop of them ends nowhere.

    Args:
        paths: files, taken as they are, even where they cannot be used; and folders, with all folders below them.
        exclude: patterns of names, with `*`, `?` and `[…]`; what matches inside a folder is passed over.
        any_type: whether to take files in folders whatever their name says.
    """
    found = Found()
    for path in paths:
        if not path.is_dir():
            found.sizes[path] = max(0, _size_of(path))
            continue
        inside = dict(_files_below(path, found, exclude, any_type=any_type))
        found.sizes |= inside
        if not inside and path not in found.unusable:
            found.unusable[path] = FileUnusable(f"{path}: holds no images or videos")
    return found


def _files_below(folder: Path, found: Found, exclude: Sequence[str], *, any_type: bool) -> Iterator[tuple[Path, int]]:
    """Files and their sizes; what is passed over is counted in `found`."""

    def unreadable(error: OSError) -> None:
        path = Path(error.filename or folder)
        found.unusable[path] = FileUnusable(f"{path}: {(error.strerror or str(error)).lower()}")

    for parent, folder_names, file_names in os.walk(folder, onerror=unreadable):
        folder_names[:] = sorted(name for name in folder_names if _is_wanted(name, found, exclude))
        for name in sorted(name for name in file_names if _is_wanted(name, found, exclude)):
            file = Path(parent, name)
            size_bytes = _size_of(file)
            if size_bytes < 0 or not (any_type or _tells_its_type(file)):
                found.other_types += 1
            elif size_bytes == 0:
                found.empty += 1
            else:
                yield file, size_bytes


def _is_wanted(name: str, found: Found, exclude: Sequence[str]) -> bool:
    if name.startswith("."):
        found.hidden += 1
    elif any(fnmatchcase(name, pattern) for pattern in exclude):
        found.excluded += 1
    else:
        return True
    return False


def _size_of(file: Path) -> int:
    """Its size in bytes; -1 for what is no regular file, or cannot be looked at."""
    try:
        facts = file.stat()
    except OSError:
        return -1
    return facts.st_size if stat.S_ISREG(facts.st_mode) else -1


def _tells_its_type(file: Path) -> bool:
    try:
        content_type_of(file)
    except FileUnusable:
        return False
    return True
