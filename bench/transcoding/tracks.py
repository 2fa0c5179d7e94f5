"""What a way has written: for each step of the ladder an initialisation section and segments, found by playlists."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_MAP = re.compile(r'^#EXT-X-MAP:.*?URI="([^"]+)"', re.MULTILINE)
_RESOLUTION = re.compile(r"\bRESOLUTION=\d+x(\d+)")


@dataclass(frozen=True, slots=True)
class Track:
    """The files of one rendition, segments in order of time."""

    init: Path
    segments: tuple[Path, ...]

    @property
    def size_bytes(self) -> int:
        """Of all segments, initialisation aside."""
        return sum(segment.stat().st_size for segment in self.segments)

    def join(self, to: Path) -> None:
        """Writes one playable file: fragmented MP4."""
        with to.open("wb") as joined:
            for path in (self.init, *self.segments):
                with path.open("rb") as piece:
                    shutil.copyfileobj(piece, joined)


def of_playlist(playlist: Path) -> Track:
    """The track of an HLS media playlist whose segments are files of their own.

    Raises:
        ValueError: it names no initialisation section.
    """
    text = playlist.read_text()
    init = _MAP.search(text)
    if init is None:
        raise ValueError(f"{playlist} has no EXT-X-MAP")
    return Track(playlist.parent / init[1], tuple(playlist.parent / uri for uri in _uris(text)))


def by_height(multivariant: Path) -> Mapping[str, Track]:
    """The video tracks of a multivariant playlist by the label of their step: `1080p` for 1080 lines."""
    tracks = {}
    heights = _RESOLUTION.findall(multivariant.read_text())
    for height, uri in zip(heights, _uris(multivariant.read_text()), strict=True):
        tracks[f"{height}p"] = of_playlist(multivariant.parent / uri)
    return tracks


def in_folders(folder: Path) -> Mapping[str, Track]:
    """The tracks of playlists that each lie in a folder named for their step."""
    return {playlist.parent.name: of_playlist(playlist) for playlist in sorted(folder.glob("*p/stream.m3u8"))}


def without_playlists(folder: Path) -> Mapping[str, Track]:
    """The tracks that the engine leaves: folders named for their steps, segments numbered."""
    return {
        init.parent.name: Track(init, tuple(sorted(init.parent.glob("seg_*.m4s"))))
        for init in sorted(folder.glob("*p/init.mp4"))
    }


def _uris(playlist: str) -> list[str]:
    return [line for line in playlist.splitlines() if line and not line.startswith("#")]
