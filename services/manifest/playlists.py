"""HLS playlists, rendered from recorded facts. Pure: the same publication gives the same bytes, always.

By RFC 8216 and Apple's HLS authoring rules (their numbers in comments): fMP4 with an initialisation section or MPEG-TS
without, demuxed sound, one target duration over all tracks, everything relative, so that a playlist means the same at
every edge.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Final

from services.manifest.publication import Publication, Segment, Track

CONTENT_TYPE: Final = "application/vnd.apple.mpegurl"

START_AVERAGE_BPS: Final = 2_000_000
"""Players begin with the variant that is listed first; Apple advises about 2 Mb/s for that one where the network is
unknown: a picture that is good at once on most networks, on which a player then measures and moves."""

_VERSION: Final = 7
"""EXT-X-MAP outside I-frame playlists needs 6; Apple's tools ask for 7 with fMP4."""
_VERSION_WITHOUT_MAP: Final = 4
"""Byte ranges and EXT-X-I-FRAMES-ONLY need it, and players that know MPEG-TS alone may know no higher one."""
_AUDIO_GROUP: Final = "audio"
_DURATION_DIGITS: Final = 6
_SAFE_URI = re.compile(r"[A-Za-z0-9._~/-]+")
_SAFE_ATTRIBUTE = re.compile(r"[A-Za-z0-9.,_-]*")


@dataclass(frozen=True, slots=True)
class Playlist:
    """A playlist to be written: key in the delivery bucket, and its bytes."""

    s3_key: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Playlists:
    """All playlists of a video.

    Attributes:
        media: one a track, by its label, in plan order.
        key_frames: the I-frame playlist of each picture track, by its label, in plan order.
        multivariant: names all others.
    """

    media: dict[str, Playlist]
    key_frames: dict[str, Playlist]
    multivariant: Playlist

    @property
    def in_order(self) -> tuple[Playlist, ...]:
        """As they must be written: what is named before what names it."""
        return (*self.media.values(), *self.key_frames.values(), self.multivariant)


def render(publication: Publication) -> Playlists:
    """All playlists of a video.

    Raises:
        ValueError: the record cannot be played: no picture, a track without segments, or a key that no playlist of
            ours may name.
    """
    tracks = publication.tracks
    _check(publication)
    target_s = target_duration_s(tracks)
    prefix = publication.delivery_prefix
    media = {track.label: Playlist(_beside(track, "playlist.m3u8"), _media(track, target_s)) for track in tracks}
    key_frames = {
        track.label: Playlist(_beside(track, "iframes.m3u8"), _key_frames(track, target_s))
        for track in tracks
        if _has_key_frames(track)
    }
    text = _multivariant(
        tracks,
        target_s,
        {label: _relative(playlist.s3_key, prefix) for label, playlist in media.items()},
        {label: _relative(playlist.s3_key, prefix) for label, playlist in key_frames.items()},
    )
    return Playlists(media, key_frames, Playlist(f"{prefix}/main.m3u8", text))


def target_duration_s(tracks: Sequence[Track]) -> int:
    """EXT-X-TARGETDURATION of every playlist: no segment of any track, rounded to the nearest second, is longer.

    One value over all renditions (RFC 8216 §6.2.4), at least 1.
    """
    return max(
        1, *(floor(_duration_s(track, segment) + Fraction(1, 2)) for track in tracks for segment in track.segments)
    )


def extinf_s(track: Track) -> tuple[str, ...]:
    """The duration of each segment in seconds with six decimals.

    Each is the difference of two rounded positions on the timeline, so that they add up to the track's duration within
    half a microsecond however many there are (Apple 8.1 asks for a frame).
    """
    scale = 10**_DURATION_DIGITS
    ticks, position, durations = 0, 0, []
    for segment in track.segments:
        ticks += segment.duration_ticks
        end = round(Fraction(ticks * scale, track.timescale))
        whole, part = divmod(end - position, scale)
        durations.append(f"{whole}.{part:0{_DURATION_DIGITS}d}")
        position = end
    return tuple(durations)


def _media(track: Track, target_s: int) -> bytes:
    lines = [*_head(track, target_s), *_map(track)]
    for duration_s, segment in zip(extinf_s(track), track.segments, strict=True):
        lines += [f"#EXTINF:{duration_s},", _from_playlist(track, segment)]
    return _text([*lines, "#EXT-X-ENDLIST"])


def _key_frames(track: Track, target_s: int) -> bytes:
    """The I-frame playlist: of each segment the leading part, a key frame that can be decoded alone (Apple 6.1)."""
    lines = [*_head(track, target_s), "#EXT-X-I-FRAMES-ONLY", *_map(track)]
    for duration_s, segment in zip(extinf_s(track), track.segments, strict=True):
        lines += [
            f"#EXTINF:{duration_s},",
            f"#EXT-X-BYTERANGE:{segment.key_frame_chunk_bytes}@0",
            _from_playlist(track, segment),
        ]
    return _text([*lines, "#EXT-X-ENDLIST"])


def _head(track: Track, target_s: int) -> list[str]:
    return [
        "#EXTM3U",
        f"#EXT-X-VERSION:{_version([track])}",
        f"#EXT-X-TARGETDURATION:{target_s}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ]


def _version(tracks: Sequence[Track]) -> int:
    return _VERSION if any(track.init_s3_key for track in tracks) else _VERSION_WITHOUT_MAP


def _map(track: Track) -> list[str]:
    return [f'#EXT-X-MAP:URI="{_name(track.init_s3_key)}"'] if track.init_s3_key else []


def _multivariant(
    tracks: Sequence[Track], target_s: int, media_uris: dict[str, str], key_frame_uris: dict[str, str]
) -> bytes:
    pictures = _start_first([track for track in tracks if track.is_picture], _sound_bps(tracks, "average_bps"))
    sounds = [track for track in tracks if not track.is_picture]
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{_version(tracks)}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    lines += [_audio(sounds, number, media_uris[track.label]) for number, track in enumerate(sounds)]
    for track in pictures:
        lines += [_variant(track, sounds), media_uris[track.label]]
    lines += [
        _key_frame_variant(track, key_frame_uris[track.label], target_s)
        for track in pictures
        if track.label in key_frame_uris
    ]
    return _text(lines)


def _audio(sounds: Sequence[Track], number: int, uri: str) -> str:
    track = sounds[number]
    name = track.language or track.label
    before = sum((sound.language or sound.label) == name for sound in sounds[:number])
    attributes = [
        "TYPE=AUDIO",
        f'GROUP-ID="{_AUDIO_GROUP}"',
        # Shown in a player's menu; unique within the group.
        f'NAME="{name} {before + 1}"' if before else f'NAME="{name}"',
        *([f'LANGUAGE="{track.language}"'] if track.language else []),
        f"DEFAULT={'NO' if number else 'YES'}",
        "AUTOSELECT=YES",
        f'CHANNELS="{track.channels}"',
        f'URI="{uri}"',
    ]
    return f"#EXT-X-MEDIA:{','.join(attributes)}"


def _variant(track: Track, sounds: Sequence[Track]) -> str:
    # RFC 8216 §4.3.4.2: the largest sum that any playable combination of renditions can reach.
    peak_bps = track.peak_bps + _sound_bps(sounds, "peak_bps")
    average_bps = track.average_bps + _sound_bps(sounds, "average_bps")
    codecs = ",".join(dict.fromkeys([track.codecs, *(sound.codecs for sound in sounds)]))
    attributes = [
        f"BANDWIDTH={peak_bps}",
        f"AVERAGE-BANDWIDTH={average_bps}",
        f'CODECS="{codecs}"',
        f"RESOLUTION={track.width_px}x{track.height_px}",
        *([f"FRAME-RATE={float(track.frame_rate):.3f}"] if track.frame_rate else []),
        "VIDEO-RANGE=SDR",
        *([f'AUDIO="{_AUDIO_GROUP}"'] if sounds else []),
        # Says that there are none, so that a player looks for none (Apple 4.6).
        "CLOSED-CAPTIONS=NONE",
    ]
    return f"#EXT-X-STREAM-INF:{','.join(attributes)}"


def _key_frame_variant(track: Track, uri: str, target_s: int) -> str:
    total_s = sum((_duration_s(track, segment) for segment in track.segments), Fraction(0))
    average_bps = sum(segment.key_frame_chunk_bytes for segment in track.segments) * 8 / total_s
    # A track shorter than any run that counts has no other rate than its own.
    peak_bps = max(_key_frame_rates_bps(track, target_s), default=average_bps)
    attributes = [
        f"BANDWIDTH={ceil(peak_bps)}",
        f"AVERAGE-BANDWIDTH={ceil(average_bps)}",
        f'CODECS="{track.codecs}"',
        f"RESOLUTION={track.width_px}x{track.height_px}",
        "VIDEO-RANGE=SDR",
        f'URI="{uri}"',
    ]
    return f"#EXT-X-I-FRAME-STREAM-INF:{','.join(attributes)}"


def _key_frame_rates_bps(track: Track, target_s: int) -> Iterator[Fraction]:
    """The bit rate of each run of segments that lasts 0.5 to 1.5 target durations (RFC 8216 §4.3.4.2).

    So a short last segment, whose key frame is as large as any, counts together with the one before it.
    """
    for first in range(len(track.segments)):
        bits, duration_s = 0, Fraction(0)
        for segment in track.segments[first:]:
            bits += segment.key_frame_chunk_bytes * 8
            duration_s += _duration_s(track, segment)
            if duration_s > Fraction(3 * target_s, 2):
                break
            if duration_s >= Fraction(target_s, 2):
                yield bits / duration_s


def _start_first(pictures: Sequence[Track], sound_bps: int) -> list[Track]:
    """Codec by codec in plan order, from the highest bit rate down, but the one to start with first.

    That is the best within `START_AVERAGE_BPS` of the first codec, which every player knows.
    """
    codecs = list(dict.fromkeys(_codec(track) for track in pictures))
    descending = sorted(
        pictures,
        key=lambda track: (codecs.index(_codec(track)), -track.average_bps, -track.height_px, track.label),
    )
    known = [track for track in descending if _codec(track) == codecs[0]]
    fitting = [track for track in known if track.average_bps + sound_bps <= START_AVERAGE_BPS]
    start = fitting[0] if fitting else known[-1]
    return [start, *(track for track in descending if track is not start)]


def _codec(track: Track) -> str:
    """The codec without its profile: what RFC 6381 has before the first dot."""
    return track.codecs.partition(".")[0]


def _sound_bps(tracks: Sequence[Track], field: str) -> int:
    return max((int(getattr(track, field)) for track in tracks if not track.is_picture), default=0)


def _duration_s(track: Track, segment: Segment) -> Fraction:
    return Fraction(segment.duration_ticks, track.timescale)


def _has_key_frames(track: Track) -> bool:
    return track.is_picture and all(segment.key_frame_chunk_bytes > 0 for segment in track.segments)


def _beside(track: Track, name: str) -> str:
    return f"{track.folder}/{name}"


def _from_playlist(track: Track, segment: Segment) -> str:
    """A segment's path as its playlist names it, which lies in the track's folder."""
    return posixpath.relpath(segment.s3_key, track.folder)


def _name(s3_key: str) -> str:
    return s3_key.rpartition("/")[2]


def _relative(s3_key: str, prefix: str) -> str:
    return s3_key.removeprefix(f"{prefix}/")


def _text(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("ascii")


def _check(publication: Publication) -> None:
    """Refuses what would make a playlist say something else than meant."""
    if not any(track.is_picture for track in publication.tracks):
        raise ValueError("a video without a picture track")
    for track in publication.tracks:
        if not track.segments or track.timescale <= 0:
            raise ValueError(f"track {track.label} has no segments or no time scale")
        if not track.folder.startswith(f"{publication.delivery_prefix}/"):
            raise ValueError(f"track {track.label} lies outside its media's prefix")
        for key in (*filter(None, [track.init_s3_key]), *(segment.s3_key for segment in track.segments)):
            if not key.startswith(f"{publication.delivery_prefix}/") or not _SAFE_URI.fullmatch(key) or ".." in key:
                raise ValueError(f"track {track.label} names an object that its playlist cannot: {key!r}")
        if any(segment.duration_ticks <= 0 for segment in track.segments):
            raise ValueError(f"track {track.label} has a segment without duration")
        for value in (track.label, track.codecs, track.language):
            if not _SAFE_ATTRIBUTE.fullmatch(value):
                raise ValueError(f"track {track.label} has an attribute that no playlist may hold: {value!r}")
