"""Measures the ways in turns, and then what they have made."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import processes
from bench.report import OUT
from bench.transcoding import quality, raw, seam
from bench.transcoding.footage import Footage
from bench.transcoding.quality import Quality
from bench.transcoding.seam import Child, Planned
from bench.transcoding.tracks import Track
from bench.transcoding.ways import ONE_CHUNK, ONE_WORKER, OURS, RAW, Way


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found of one source. Every mapping goes by the key of a way; lists have an entry a round.

    Attributes:
        footage: the source.
        planned: what was to be made of it.
        runs: time and memory of the whole program.
        children: our tasks.
        alone: the parts of what x264 was measured by.
        qualities: of the last round's renditions, by the label of the step, from the largest down.
    """

    footage: Footage
    planned: Planned
    runs: Mapping[str, list[processes.Run]]
    children: Mapping[str, list[list[Child]]]
    alone: list[raw.Spent] = field(default_factory=list)
    qualities: dict[str, dict[str, Quality]] = field(default_factory=dict)


def measured(footage: Footage, planned: Planned, ways: Sequence[Way], rounds: int) -> Findings:
    """All ways in turns, every other round the other way round; then the quality of what each made last."""
    found = Findings(
        footage, planned, {way.key: [] for way in ways}, {key: [] for key in (OURS, ONE_WORKER, ONE_CHUNK)}
    )
    for turn in range(rounds):
        for way in ways if turn % 2 == 0 else reversed(ways):
            ended = _run(footage, way)
            found.runs[way.key].append(ended)
            if way.key in found.children:
                found.children[way.key].append(seam.children(_folder(footage, way)))
            if way.key == RAW:
                found.alone.append(raw.spent(_folder(footage, way)))
            _say(f"{footage.name}, round {turn + 1}: {way.name}: {ended.seconds:.1f} s, {ended.cpu_seconds:.1f} CPU s")
    for way in ways:
        if way.tracks is not None:
            found.qualities[way.key] = _qualities(footage, planned, way, way.tracks(_folder(footage, way)))
    return found


def _run(footage: Footage, way: Way) -> processes.Run:
    folder = _folder(footage, way)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = way.command(folder)
    os.sync()  # what others have written is not written back at this one's expense
    return processes.run(command, {}, folder.parent / f"{way.key}.log")


def _qualities(footage: Footage, planned: Planned, way: Way, tracks: Mapping[str, Track]) -> dict[str, Quality]:
    found = {}
    for step in planned.steps:
        one = quality.measured(tracks[step.label], footage.path, planned, _folder(footage, way))
        found[step.label] = one
        _say(f"{footage.name}: {way.name}: {step.label}: {one.bitrate_bps / 1000:,.0f} kb/s, VMAF {one.vmaf:.2f}")
    return found


def _folder(footage: Footage, way: Way) -> Path:
    return OUT / "transcode" / footage.name / way.key


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
