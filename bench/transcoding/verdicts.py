"""The rows of the report: ratios and aims, and two tables that explain them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import processes
from bench.report import Figure, Result, figure
from bench.transcoding import seam
from bench.transcoding.costs import Cost
from bench.transcoding.turns import Findings
from bench.transcoding.ways import (
    BORROWING,
    EXPERT,
    FOUR,
    NAMES,
    ONE_CHUNK,
    ONE_WORKER,
    OURS,
    PASSED,
    RAW,
    SHAKA,
    SHAKA_EDITED,
)

_MIB = 1 << 20

_WALL_AIMS: Mapping[str, float | None] = {EXPERT: 0.70, BORROWING: 1.0, FOUR: None, SHAKA: 0.35, SHAKA_EDITED: None}
"""Our wall time over theirs, at most."""

_VMAF_LOSS = 0.5
_BITRATE_EXCESS = 0.02
_CHUNKING_AIM = 1.05
_PIPELINE_AIM = 1.15


def results(found: Findings) -> list[Result]:
    """Everything that can be said of one source with the ways that were measured."""
    name = found.footage.name
    rows: list[Result] = []
    if OURS in found.runs:
        ours = _column(found, OURS, _wall_s)
        rows += [
            Cost(f"{name}: wall time; {NAMES[key]}", ours, _column(found, key, _wall_s), "s", aim)
            for key, aim in _WALL_AIMS.items()
            if key in found.runs
        ]
        rows += [
            Cost(f"{name}: CPU time; {NAMES[key]}", _column(found, OURS, _cpu_s), _column(found, key, _cpu_s), "s")
            for key in (EXPERT, BORROWING)
            if key in found.runs
        ]
        rows += _against_expert(found) if EXPERT in found.runs else []
        rows += _chunking(found) if {ONE_WORKER, ONE_CHUNK} <= found.runs.keys() else []
        rows += _pipeline(found) if {ONE_WORKER, RAW} <= found.runs.keys() else []
        rows += _passing(found) if PASSED in found.runs else []
        peak_bytes = max(child.peak_bytes for turn in found.children[OURS] for child in turn)
        rows.append(Figure(f"{name}: peak memory of a child", peak_bytes / _MIB, "MiB"))
    return rows


def details(found: Findings) -> dict[str, Any]:
    """For the file."""
    planned = found.planned
    return {
        "source": {
            "file": found.footage.path.name,
            "size_bytes": found.footage.path.stat().st_size,
            "width_px": planned.width_px,
            "height_px": planned.height_px,
            "frame_rate": str(planned.frame_rate),
            "frame_count": planned.frame_count,
        },
        "runs": {key: [asdict(run) for run in runs] for key, runs in found.runs.items()},
        "children": {
            key: [[asdict(child) for child in turn] for turn in turns] for key, turns in found.children.items()
        },
        "x264_alone": [asdict(spent) for spent in found.alone],
        "quality": {
            key: {label: asdict(quality) for label, quality in steps.items()} for key, steps in found.qualities.items()
        },
    }


def show(found: Findings) -> None:
    """Prints what each way took, and how good what it made is."""
    console = Console(width=None if Console().is_terminal else 150)
    console.print(_times(found))
    console.print(_ladder(found))


def _against_expert(found: Findings) -> list[Result]:
    """No step may look worse than the expert's, or take more bits."""
    ours, theirs = found.qualities[OURS], found.qualities[EXPERT]
    gains = {label: ours[label].vmaf - theirs[label].vmaf for label in ours}
    rates = {label: ours[label].bitrate_bps / theirs[label].bitrate_bps for label in ours}
    worst, dearest = min(gains, key=gains.__getitem__), max(rates, key=rates.__getitem__)
    name = found.footage.name
    return [
        Figure(
            f"{name}: VMAF less the expert's, worst step ({worst})",
            gains[worst],
            "VMAF",
            f"≥ -{_VMAF_LOSS:g}",
            gains[worst] >= -_VMAF_LOSS,
        ),
        Figure(
            f"{name}: bit rate over the expert's, dearest step ({dearest})",
            rates[dearest],
            "ratio",
            f"≤ {1 + _BITRATE_EXCESS:g}",
            rates[dearest] <= 1 + _BITRATE_EXCESS,
        ),
    ]


def _chunking(found: Findings) -> list[Result]:
    """What cutting costs: pictures decoded for nothing, encoders begun anew. One child at a time either way, since two
    share caches."""
    chunked, whole = ([_video_cpu_s(turn) for turn in found.children[key]] for key in (ONE_WORKER, ONE_CHUNK))
    return [Cost(f"{found.footage.name}: CPU time of chunks; one chunk", chunked, whole, "s", _CHUNKING_AIM)]


def _pipeline(found: Findings) -> list[Result]:
    """All that is not x264, the parent included; and what of it is ours, decoding and scaling being the libraries'.
    One child at a time, as x264 alone has one thread."""
    audio_s = [sum(child.cpu_s for child in turn if not child.is_video) for turn in found.children[ONE_WORKER]]
    ours = [run.cpu_seconds - sound_s for run, sound_s in zip(found.runs[ONE_WORKER], audio_s, strict=True)]
    name = found.footage.name
    alone = [spent.encode_s for spent in found.alone]
    least = [spent.decode_s + spent.scale_s + spent.encode_s for spent in found.alone]
    return [
        Cost(f"{name}: CPU time of video; x264 alone", ours, alone, "s", _PIPELINE_AIM),
        Cost(f"{name}: CPU time of video; decoder, scaler and x264 alone", ours, least, "s"),
    ]


def _passing(found: Findings) -> list[Result]:
    """What it saves to publish packets of the source."""
    name = found.footage.name
    return [
        Cost(f"{name}: wall time, passed through; encoded", *_columns(found, PASSED, OURS, _wall_s), "s"),
        Cost(f"{name}: CPU time, passed through; encoded", *_columns(found, PASSED, OURS, _cpu_s), "s"),
    ]


def _video_cpu_s(children: Sequence[seam.Child]) -> float:
    return sum(child.cpu_s for child in children if child.is_video)


def _times(found: Findings) -> Table:
    planned = found.planned
    source_bps = 8 * found.footage.path.stat().st_size / float(planned.duration_s)
    size = f"{planned.width_px} x {planned.height_px} at {float(planned.frame_rate):g} frames/s"
    table = Table(
        title=f"{found.footage.name}: {float(planned.duration_s):.0f} s of {size}, {source_bps / 1e6:.1f} Mb/s"
    )
    for heading in ("way", "wall s", "spread", "CPU s", "spread", "peak MiB"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for key, runs in found.runs.items():
        peak_bytes = median(run.peak_bytes for run in runs)
        walls, cpus = [run.seconds for run in runs], [run.cpu_seconds for run in runs]
        table.add_row(NAMES[key], *_middle(walls), *_middle(cpus), figure(peak_bytes / _MIB))
    return table


def _ladder(found: Findings) -> Table:
    table = Table(title=f"{found.footage.name}: kb/s and VMAF (harmonic mean, against the source) of each step")
    table.add_column("way")
    for step in found.planned.steps:
        table.add_column(step.label, justify="right")
        table.add_column("VMAF", justify="right")
    for key, qualities in found.qualities.items():
        cells = [(f"{one.bitrate_bps / 1000:,.0f}", f"{one.vmaf:.2f}") for one in qualities.values()]
        table.add_row(NAMES[key], *(cell for pair in cells for cell in pair))
    return table


def _column(found: Findings, key: str, of: Callable[[processes.Run], float]) -> list[float]:
    return [of(run) for run in found.runs[key]]


def _columns(
    found: Findings, one: str, other: str, of: Callable[[processes.Run], float]
) -> tuple[list[float], list[float]]:
    return _column(found, one, of), _column(found, other, of)


def _wall_s(run: processes.Run) -> float:
    return run.seconds


def _cpu_s(run: processes.Run) -> float:
    return run.cpu_seconds


def _middle(values: Sequence[float]) -> tuple[str, str]:
    """Median and spread."""
    return figure(median(values)), f"{figure(min(values))} to {figure(max(values))}"
