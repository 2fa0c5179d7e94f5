"""What an interrupted upload needs to go on: a small file for each, so that `kill -9` at any point duplicates nothing.

The idempotency keys are on disk before they are first used, hence a repeat under them, by whatever process, finds the
upload that the first one began, and its outcome. What storage holds is never taken from here: storage is asked.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol, Self
from uuid import uuid4

from millrace.errors import AlreadyUploading, StateUnusable
from millrace.models import UploadedPart
from millrace.parts import Source

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What an upload is begun with; under one idempotency key it must never differ.

    Attributes:
        checksum_algorithm: as the gateway spells it; None for parts without checksums.
        checksum: of the whole file in base64, where it was known before the upload began.
    """

    filename: str
    content_type: str
    size_bytes: int
    checksum_algorithm: str | None = None
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class UploadState:
    """How far an upload came.

    Attributes:
        initiate_key: idempotency key under which it is begun.
        complete_key: idempotency key under which it is completed.
        media_id: empty until the gateway has said it.
        parts: what completing was asked with; empty until then.
        checksum: of the whole file, likewise.
    """

    request: UploadRequest
    initiate_key: str = field(default_factory=lambda: str(uuid4()))
    complete_key: str = field(default_factory=lambda: str(uuid4()))
    media_id: str = ""
    parts: tuple[UploadedPart, ...] = ()
    checksum: str | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Reads what `to_json` made."""
        return cls(
            request=UploadRequest(**body["request"]),
            initiate_key=str(body["initiate_key"]),
            complete_key=str(body["complete_key"]),
            media_id=str(body["media_id"]),
            parts=tuple(UploadedPart(**part) for part in body["parts"]),
            checksum=body["checksum"],
        )

    def to_json(self) -> dict[str, Any]:
        """The state as a JSON object."""
        return asdict(self)


class StateStore(Protocol):
    """Keeps the state of one upload. Every method blocks, and may raise `StateUnusable`."""

    def load(self) -> UploadState | None:
        """What was kept last; None where there is nothing, or nothing that this version understands."""

    def save(self, state: UploadState) -> None:
        """Keeps a state in place of the last one; it is durable when this returns."""

    def clear(self) -> None:
        """Keeps nothing any more."""


class NoState:
    """Keeps nothing: what is interrupted begins anew."""

    def load(self) -> None:
        """Nothing, always."""

    def save(self, state: UploadState) -> None:
        """Does nothing."""

    def clear(self) -> None:
        """Does nothing."""


class StateFile:
    """A state as a file that only its owner can read, replaced as a whole: after a crash it is the old or the new."""

    def __init__(self, path: Path, names: Mapping[str, str]) -> None:
        """Touches nothing yet; `names` are written for people who look into the file."""
        self._path = path
        self._names = names

    def load(self) -> UploadState | None:
        """Reads the file; one that is missing or damaged is none."""
        try:
            body = json.loads(self._path.read_text(encoding="utf-8"))
            return UploadState.from_json(body) if body["version"] == _VERSION else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(self._path, error) from error
        except (ValueError, KeyError, TypeError):
            return None

    def save(self, state: UploadState) -> None:
        """Writes a new file beside the old one, onto the disk, and puts it in its place."""
        text = json.dumps({"version": _VERSION, **self._names, **state.to_json()})
        beside = self._path.with_suffix(".new")
        try:
            with os.fdopen(
                os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
            ) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            raise _unusable(self._path, error) from error

    def clear(self) -> None:
        """Removes the file."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self._path, error) from error


@contextmanager
def state_file(folder: Path, gateway: str, source: Source) -> Iterator[StateFile]:
    """The state of one file's upload to one gateway, for this process alone as long as the block lasts.

    A file that was changed since is another one, and has another state.

    Args:
        folder: where state files are; made if it is missing.
        gateway: its base URL.
        source: the file.

    Raises:
        AlreadyUploading: another process is at it.
        StateUnusable: the folder cannot be made or written.
    """
    path = str(source.path.absolute())
    identity = json.dumps([gateway, path, source.size_bytes, source.modified_ns])
    name = sha256(identity.encode("ascii")).hexdigest()[:32]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _locked(folder / f"{name}.lock")
    except BlockingIOError as error:
        raise AlreadyUploading(f"{source.path}: another process uploads this file just now") from error
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        yield StateFile(folder / f"{name}.json", {"gateway": gateway, "file": path})
    finally:
        with suppress(OSError):
            (folder / f"{name}.lock").unlink()
        os.close(lock)


def _locked(path: Path) -> int:
    """A descriptor of the file at this path, locked; a lock ends with its process, however that ends.

    Whoever had the lock before removes the file, so what was opened may not be what is at the path by now.

    Raises:
        BlockingIOError: somebody else has it.
        OSError: it cannot be opened.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _unusable(path: Path, error: OSError) -> StateUnusable:
    reason = (error.strerror or str(error)).lower()
    return StateUnusable(f"{path}: {reason}")
