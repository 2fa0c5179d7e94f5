"""A video, all the way, judged by a decoder."""

import base64
from collections.abc import AsyncIterator
from itertools import pairwise

import httpx
import numpy as np
import pytest

from tests.journey import hls
from tests.journey.conftest import Journey

pytestmark = pytest.mark.journey

LADDER = {(1920, 1080), (1280, 720), (854, 480), (640, 360)}


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as connected:
        yield connected


@pytest.fixture(scope="module")
async def manifest(video: Journey, http: httpx.AsyncClient) -> hls.Multivariant:
    assert video.media.playback is not None
    return await hls.multivariant(http, video.media.playback.manifest_url)


@pytest.fixture(scope="module")
async def playlists(manifest: hls.Multivariant, http: httpx.AsyncClient) -> dict[tuple[int, int], hls.MediaPlaylist]:
    return {variant.resolution_px: await hls.media_playlist(http, variant.url) for variant in manifest.variants}


async def test_the_ladder_is_complete(manifest: hls.Multivariant) -> None:
    assert {variant.resolution_px for variant in manifest.variants} == LADDER
    for variant in manifest.variants:
        assert variant.attributes["CODECS"].startswith("avc1.64")
        assert "mp4a.40.2" in variant.attributes["CODECS"]
        assert 0 < int(variant.attributes["AVERAGE-BANDWIDTH"]) <= int(variant.attributes["BANDWIDTH"])


async def test_every_frame_of_the_source_is_in_every_rendition(
    video: Journey, playlists: dict[tuple[int, int], hls.MediaPlaylist], http: httpx.AsyncClient
) -> None:
    source = hls.decode_video(video.source.read_bytes())
    assert source.numbers == tuple(range(len(source.numbers)))
    for size, playlist in playlists.items():
        pictures = hls.decode_video(await hls.track(http, playlist))
        assert (pictures.width_px, pictures.height_px) == size
        assert len(pictures.times_s) == len(source.times_s)
        assert pictures.times_s[0] == 0
        gaps = {later - earlier for earlier, later in pairwise(pictures.times_s)}
        assert len(gaps) == 1, "frames are not evenly spaced"
        assert pictures.numbers == source.numbers, "frames are missing, repeated or out of order"


async def test_segments_are_aligned_and_two_to_six_seconds_long(
    playlists: dict[tuple[int, int], hls.MediaPlaylist], manifest: hls.Multivariant, http: httpx.AsyncClient
) -> None:
    assert len({playlist.durations for playlist in playlists.values()}) == 1
    durations = [float(text) for text in next(iter(playlists.values())).durations]
    assert all(2 <= seconds <= 6 for seconds in durations[:-1])
    assert 0 < durations[-1] <= 6
    audio = await hls.media_playlist(http, manifest.audio_url)
    spoken = [float(text) for text in audio.durations]
    assert len(spoken) == len(durations)
    drift = np.abs(np.cumsum(spoken[:-1]) - np.cumsum(durations[:-1]))
    assert float(drift.max(initial=0.0)) < 0.025, "an AAC access unit lasts 21 ms"
    targets = {playlist.target_duration_s for playlist in (*playlists.values(), audio)}
    assert len(targets) == 1
    assert targets.pop() >= max(round(seconds) for seconds in durations + spoken)


async def test_every_segment_starts_with_a_key_frame(
    playlists: dict[tuple[int, int], hls.MediaPlaylist], http: httpx.AsyncClient
) -> None:
    for playlist in playlists.values():
        init = (await http.get(playlist.init_url)).content
        for url, seconds in zip(playlist.segment_urls, playlist.durations, strict=True):
            alone = hls.decode_video(init + (await http.get(url)).content)
            assert abs(len(alone.times_s) * (alone.times_s[1] - alone.times_s[0]) - float(seconds)) < 1e-3


async def test_sound_is_in_step_with_the_picture(
    video: Journey,
    playlists: dict[tuple[int, int], hls.MediaPlaylist],
    manifest: hls.Multivariant,
    http: httpx.AsyncClient,
) -> None:
    """The sample flashes and beeps on each second; both are found again, less than 40 ms apart."""
    pictures = hls.decode_video(await hls.track(http, playlists[640, 360]))
    audio = await hls.media_playlist(http, manifest.audio_url)
    start_s, samples = hls.decode_audio(await hls.track(http, audio))
    assert abs(float(start_s)) < 0.001
    flashes = flash_times_s(pictures)
    beeps = beep_times_s(samples)
    assert len(flashes) == 12, "the sample flashes once a second"
    for flash in flashes:
        nearest = beeps[np.argmin(np.abs(beeps - flash))]
        assert abs(nearest - flash) < 0.040, f"picture {flash:.3f} s, sound {nearest:.3f} s"


async def test_sound_lasts_as_long_as_the_picture(
    playlists: dict[tuple[int, int], hls.MediaPlaylist], manifest: hls.Multivariant, http: httpx.AsyncClient
) -> None:
    audio = await hls.media_playlist(http, manifest.audio_url)
    picture_s = sum(map(float, playlists[640, 360].durations))
    assert abs(sum(map(float, audio.durations)) - picture_s) < 0.05


async def test_nothing_was_to_be_had_before_it_was_published(video: Journey) -> None:
    assert video.early_answers == {404}
    assert not video.early_urls


async def test_what_the_edge_serves_was_warm(video: Journey, http: httpx.AsyncClient) -> None:
    assert video.media.playback is not None
    answer = await http.get(video.media.playback.manifest_url)
    assert answer.headers["x-cache"] == "HIT"
    assert "immutable" in answer.headers["cache-control"]


async def test_the_poster_comes_in_three_sizes(video: Journey, http: httpx.AsyncClient) -> None:
    assert video.media.playback is not None
    thumbnails = video.media.playback.thumbnails
    assert [(one.size_px, one.content_type) for one in thumbnails] == [
        (size_px, content_type) for size_px in (1200, 600, 150) for content_type in ("image/jpeg", "image/webp")
    ]
    assert len(base64.b64decode(video.media.playback.thumbhash)) > 5
    for thumbnail in thumbnails:
        answer = await http.get(thumbnail.url)
        assert (answer.status_code, answer.headers["content-type"]) == (200, thumbnail.content_type)


def flash_times_s(pictures: hls.Pictures) -> list[float]:
    """Times of the first white frame of each flash."""
    before = (False, *pictures.flashes)
    return [
        float(time)
        for time, was, now in zip(pictures.times_s, before, pictures.flashes, strict=False)
        if now and not was
    ]


def beep_times_s(samples: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Onsets of the loud passages, to the millisecond."""
    window = 48
    loudness = np.sqrt(np.convolve(samples**2, np.ones(window) / window, mode="same"))
    loud = loudness > 0.5 * float(loudness.max())
    onsets = np.flatnonzero(loud & ~np.roll(loud, 1))
    apart = np.diff(onsets, prepend=-48_000) > 12_000
    return onsets[apart] / 48_000
