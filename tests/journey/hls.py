"""What a player that owes us nothing would find: playlists read line by line, tracks decoded by libav."""

import io
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from urllib.parse import urljoin

import av
import httpx
import numpy as np
from numpy.typing import NDArray

from deploy.samples import scenes

_MIDDLE_LUMA = 128
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """One media playlist: absolute URLs, and durations exactly as written."""

    init_url: str
    segment_urls: tuple[str, ...]
    durations: tuple[str, ...]
    target_duration_s: int


@dataclass(frozen=True, slots=True)
class Variant:
    """One EXT-X-STREAM-INF."""

    url: str
    attributes: dict[str, str]

    @property
    def resolution_px(self) -> tuple[int, int]:
        """Width and height."""
        width, _, height = self.attributes["RESOLUTION"].partition("x")
        return int(width), int(height)


@dataclass(frozen=True, slots=True)
class Multivariant:
    """The multivariant playlist: variants and the one audio rendition."""

    variants: tuple[Variant, ...]
    audio_url: str


async def multivariant(http: httpx.AsyncClient, url: str) -> Multivariant:
    """Fetches and reads a multivariant playlist."""
    lines = await _lines(http, url)
    variants, audio_url = [], ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("#EXT-X-STREAM-INF:"):
            variants.append(Variant(urljoin(url, following), _attributes(line)))
        elif line.startswith("#EXT-X-MEDIA:") and _attributes(line)["TYPE"] == "AUDIO":
            audio_url = urljoin(url, _attributes(line)["URI"])
    return Multivariant(tuple(variants), audio_url)


async def media_playlist(http: httpx.AsyncClient, url: str) -> MediaPlaylist:
    """Fetches and reads a media playlist."""
    lines = await _lines(http, url)
    assert lines[-1] == "#EXT-X-ENDLIST"
    init = next(_attributes(line)["URI"] for line in lines if line.startswith("#EXT-X-MAP:"))
    return MediaPlaylist(
        init_url=urljoin(url, init),
        segment_urls=tuple(urljoin(url, line) for line in lines if not line.startswith("#")),
        durations=tuple(line.removeprefix("#EXTINF:").rstrip(",") for line in lines if line.startswith("#EXTINF:")),
        target_duration_s=int(next(line.split(":")[1] for line in lines if line.startswith("#EXT-X-TARGETDURATION:"))),
    )


async def track(http: httpx.AsyncClient, playlist: MediaPlaylist) -> bytes:
    """The initialisation section and all segments, joined as a player joins them."""
    pieces = []
    for url in (playlist.init_url, *playlist.segment_urls):
        answer = await http.get(url)
        answer.raise_for_status()
        pieces.append(answer.content)
    return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Pictures:
    """A decoded video track: size, presentation time of each frame, and what the sample's marks say of it.

    Attributes:
        width_px, height_px: as decoded.
        times_s: presentation times in seconds.
        numbers: the number that each frame carries as blocks along its lower edge (`deploy.samples.scenes`).
        flashes: whether the square in the upper left corner is white.
    """

    width_px: int
    height_px: int
    times_s: tuple[Fraction, ...]
    numbers: tuple[int, ...]
    flashes: tuple[bool, ...]


def decode_video(data: bytes) -> Pictures:
    """Decodes every frame of a track or file."""
    times, numbers, flashes = [], [], []
    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            assert frame.pts is not None
            assert frame.time_base is not None
            times.append(frame.pts * frame.time_base)
            luma = frame.reformat(format="gray").to_ndarray()
            numbers.append(_number_in(luma))
            flashes.append(bool(np.mean(luma[: luma.shape[0] // 10, : luma.shape[0] // 10]) > _MIDDLE_LUMA))
        return Pictures(stream.width, stream.height, tuple(times), tuple(numbers), tuple(flashes))


def _number_in(luma: NDArray[Any]) -> int:
    """Reads the blocks along the lower edge, most significant bit first, at the middle of each."""
    side = luma.shape[1] / scenes.FRAME_NUMBER_BITS / 2
    row = luma[-round(side / 2)]
    bits = (row[int((bit + 0.5) * side)] > _MIDDLE_LUMA for bit in range(scenes.FRAME_NUMBER_BITS))
    return sum(int(is_set) << place for place, is_set in enumerate(reversed(list(bits))))


def decode_audio(data: bytes, rate_hz: int = 48_000) -> tuple[Fraction, NDArray[np.float64]]:
    """The time of the first sample in seconds, and all samples of a track or file, mono, -1 to 1."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
    start: Fraction | None = None
    pieces = []
    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        for frame in container.decode(container.streams.audio[0]):
            if start is None:
                assert frame.pts is not None
                assert frame.time_base is not None
                start = frame.pts * frame.time_base
            pieces += [resampled.to_ndarray()[0] for resampled in resampler.resample(frame)]
    assert start is not None
    return start, np.concatenate(pieces).astype(np.float64)


async def _lines(http: httpx.AsyncClient, url: str) -> list[str]:
    answer = await http.get(url)
    answer.raise_for_status()
    assert answer.headers["content-type"].startswith("application/vnd.apple.mpegurl")
    lines = answer.text.splitlines()
    assert lines[0] == "#EXTM3U"
    return [line for line in lines if line]


def _attributes(line: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line.partition(":")[2])}
