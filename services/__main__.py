"""Runs any set of services in one process: `python -m services upload metadata`."""

import argparse
import importlib

from services.runtime import process

NAMES = ("upload", "metadata", "transcode", "manifest")


def main() -> None:
    """Parses the command line and runs the services that it names; all of them when it names none."""
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    parser.add_argument("service", nargs="*", metavar="SERVICE", help=f"of {', '.join(NAMES)}; all when none is named")
    names = parser.parse_args().service or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no such service: {', '.join(sorted(unknown))}")
    process.run({name: importlib.import_module(f"services.{name}.app").serve for name in names})


if __name__ == "__main__":
    main()
