"""`make bench-transcode`: our transcoder against ffmpeg and Shaka Streamer, in turns in one run on one machine.

Every way makes the same ladder of the same footage: H.264 in four steps, 4 s segments of fragmented MP4 on a grid of
2 s key frames (Shaka Streamer as it comes: 4 s), and stereo AAC at 128 kb/s. Each is a program of its own, timed from
its start to its end, with the processor time of all its children. Next to time stand bit rate and VMAF of every step,
since speed without quality says nothing. What it saves to publish packets of a source is measured with one that already
is what the largest step shall be. What the footage is and how it is made: `bench/transcoding/footage.py`; how quality
is measured: `quality.py` beside it; the commands of the others: `expert.py` and `shaka.py`.

`ARGS="--quick"` makes a short trial with the first footage, `--footage` and `--only` choose. All of it takes about an
hour on two cores.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.report import Result, publish
from bench.transcoding import footage, seam, verdicts
from bench.transcoding.footage import Footage
from bench.transcoding.turns import measured
from bench.transcoding.ways import NAMES, ONE_CHUNK, ONE_WORKER, OURS, PASSED, RAW, ways

_MAIN_FOOTAGE_ONLY = {ONE_WORKER, ONE_CHUNK, RAW}
"""What chunks and the pipeline cost does not need to be known twice, at more than a minute each time."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to encode how often: so many sources unless told, no more than so many seconds of each, and rounds."""

    sources: int
    at_most_s: int | None
    rounds: int


_FULL, _QUICK = Effort(len(footage.NAMES), None, 3), Effort(1, 20, 1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-transcode", description=__doc__)
    sources = (*footage.NAMES, footage.EXPORT)
    parser.add_argument("--footage", help=f"some of {','.join(sources)}")
    parser.add_argument("--only", default=",".join(NAMES), help=f"some of {','.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="one round of 20 s; the figures mean little")
    options = parser.parse_args()
    effort = _QUICK if options.quick else _FULL
    names = options.footage.split(",") if options.footage else [*footage.NAMES[: effort.sources], footage.EXPORT]
    keys = options.only.split(",")
    if unknown := {*names, *keys} - {*sources, *NAMES}:
        parser.error(f"no such footage or way: {', '.join(sorted(unknown))}")
    return run(names, keys, effort)


def run(names: Sequence[str], keys: Sequence[str], effort: Effort) -> int:
    """Measures, prints, writes; the exit code."""
    results: list[Result] = []
    details: dict[str, Any] = {}
    for source in _made(names, effort):
        planned = seam.planned(source.path)
        wanted = [key for key in keys if key in _wanted_of(source.name, names)]
        found = measured(source, planned, ways(source.path, planned, wanted), effort.rounds)
        verdicts.show(found)
        results += verdicts.results(found)
        details[source.name] = verdicts.details(found)
    return publish("transcode", results, details)


def _made(names: Sequence[str], effort: Effort) -> list[Footage]:
    made = footage.made(names, at_most_s=effort.at_most_s)
    return [*made, footage.exported(at_most_s=effort.at_most_s)] if footage.EXPORT in names else made


def _wanted_of(name: str, names: Sequence[str]) -> set[str]:
    """The ways that are measured with a footage."""
    if name == footage.EXPORT:
        return {OURS, PASSED}
    return {*NAMES} - {PASSED} - (set() if name == names[0] else _MAIN_FOOTAGE_ONLY)


if __name__ == "__main__":
    sys.exit(main())
