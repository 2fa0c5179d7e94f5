"""The AWS command line from PyPI, in an environment of its own: its pins are not ours."""

import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).with_name("awscli.lock")
_ENVIRONMENT = Path(__file__).parents[1] / ".bench" / "awscli"
"""Beside the sources rather than among them, where others' code would be checked as ours."""


def install() -> Path:
    """Installs what the lock file names, hashes checked, unless it is there already; returns the command.

    Raises:
        subprocess.CalledProcessError: uv failed; it has said why.
    """
    command = _ENVIRONMENT / "bin" / "aws"
    installed = _ENVIRONMENT / LOCK.name
    if not (command.exists() and installed.exists() and installed.read_bytes() == LOCK.read_bytes()):
        uv = [str(Path(sys.executable).with_name("uv"))]
        python = ["--python", sys.executable]
        subprocess.run([*uv, "venv", "--quiet", "--clear", *python, str(_ENVIRONMENT)], check=True)
        target = ["--python", str(_ENVIRONMENT / "bin" / "python")]
        subprocess.run([*uv, "pip", "sync", "--quiet", "--require-hashes", *target, str(LOCK)], check=True)
        installed.write_bytes(LOCK.read_bytes())
    return command
