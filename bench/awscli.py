"""The AWS command line from PyPI."""

from pathlib import Path

from bench.environments import environment


def install() -> Path:
    """Installs what the lock file names, hashes checked, unless it is there already; returns the command.

    Raises:
        subprocess.CalledProcessError: uv failed; it has said why.
    """
    return environment("awscli") / "bin" / "aws"
