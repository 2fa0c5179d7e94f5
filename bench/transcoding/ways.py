"""The ways to make a ladder of a source that are measured against each other, each as a program of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.transcoding import expert, raw, seam, shaka, together, tracks
from bench.transcoding.seam import Planned
from bench.transcoding.tracks import Track

WORKERS = 2
"""Tasks of ours at once, and what our plans count on, however many there are."""


@dataclass(frozen=True, slots=True)
class Way:
    """A program that makes the ladder.

    Attributes:
        key: for `--only`, files and `transcode.json`.
        name: for tables.
        command: its command line, given the folder to write to.
        tracks: what it has written there, by label of the step; None where nothing of it is judged.
    """

    key: str
    name: str
    command: Callable[[Path], Sequence[str]]
    tracks: Callable[[Path], Mapping[str, Track]] | None


OURS, EXPERT, BORROWING, FOUR = "ours", "ffmpeg", "ffmpeg-borrowing", "ffmpeg-four"
SHAKA, SHAKA_EDITED = "shaka", "shaka-edited"
ONE_WORKER, ONE_CHUNK, RAW = "one-worker", "one-chunk", "x264"
PASSED = "pass-through"

NAMES: Mapping[str, str] = {
    OURS: f"ours, {WORKERS} workers",
    EXPERT: "ffmpeg, one process",
    BORROWING: "ffmpeg, one process, our settings",
    FOUR: "ffmpeg, four processes",
    SHAKA: "Shaka Streamer",
    SHAKA_EDITED: "Shaka Streamer, our preset",
    ONE_WORKER: "ours, 1 worker",
    ONE_CHUNK: "ours, 1 worker, one chunk",
    RAW: "x264 alone, 1 thread",
    PASSED: f"ours, {WORKERS} workers, passing through",
}


def ways(source: Path, planned: Planned, keys: Sequence[str]) -> list[Way]:
    """Those with these keys, in the order of `NAMES`."""
    commands: Mapping[str, Callable[[Path], Sequence[str]]] = {
        OURS: partial(_ours, source, slots=WORKERS),
        EXPERT: lambda folder: expert.one_process(source, folder, planned, expert.own_settings),
        BORROWING: lambda folder: expert.one_process(source, folder, planned, expert.borrowed_settings),
        FOUR: lambda folder: together.command(expert.process_a_step(source, folder, planned, expert.own_settings)),
        SHAKA: lambda folder: shaka.as_it_comes(source, folder, planned),
        SHAKA_EDITED: lambda folder: shaka.at_our_settings(source, folder, planned),
        ONE_WORKER: partial(_ours, source, slots=1),
        ONE_CHUNK: partial(_ours, source, slots=1, one_chunk=True),
        RAW: partial(raw.command, source),
        PASSED: partial(_ours, source, slots=WORKERS, pass_through=True),
    }
    return [Way(key, name, commands[key], _READERS[key]) for key, name in NAMES.items() if key in keys]


def _ours(
    source: Path, folder: Path, *, slots: int, one_chunk: bool = False, pass_through: bool = False
) -> Sequence[str]:
    return seam.command(source, folder, slots=slots, fleet=WORKERS, one_chunk=one_chunk, pass_through=pass_through)


def _shaka_tracks(folder: Path) -> Mapping[str, Track]:
    return tracks.by_height(folder / shaka.OUTPUT / shaka.PLAYLIST)


_READERS: Mapping[str, Callable[[Path], Mapping[str, Track]] | None] = {
    OURS: tracks.without_playlists,
    EXPERT: tracks.in_folders,
    BORROWING: tracks.in_folders,
    FOUR: tracks.in_folders,
    SHAKA: _shaka_tracks,
    SHAKA_EDITED: _shaka_tracks,
    ONE_WORKER: None,
    ONE_CHUNK: tracks.without_playlists,
    RAW: None,
    PASSED: tracks.without_playlists,
}
