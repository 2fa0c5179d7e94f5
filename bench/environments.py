"""Others' programs, each from PyPI and in an environment of its own: their pins are not ours."""

import subprocess
import sys
from functools import cache
from pathlib import Path

_BENCH = Path(__file__).parent
_ENVIRONMENTS = _BENCH.parent / ".bench"
"""Beside the sources rather than among them, where others' code would be checked as ours."""


@cache
def environment(name: str) -> Path:
    """The environment that holds what `bench/NAME.lock` names, hashes checked; made unless it is there already.

    Raises:
        subprocess.CalledProcessError: uv failed; it has said why.
    """
    lock, folder = _BENCH / f"{name}.lock", _ENVIRONMENTS / name
    installed = folder / lock.name
    if not (installed.exists() and installed.read_bytes() == lock.read_bytes()):
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        target = ["--python", str(python(folder))]
        subprocess.run([uv, "pip", "sync", "--quiet", "--require-hashes", *target, str(lock)], check=True)
        installed.write_bytes(lock.read_bytes())
    return folder


def python(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / "bin" / "python"
