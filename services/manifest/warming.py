"""Which objects the edge should hold before the first viewer asks."""

from dataclasses import dataclass

from services.manifest.playlists import Playlists
from services.manifest.publication import Publication


@dataclass(frozen=True, slots=True)
class Warmth:
    """What came of warming: objects that the edge now holds, and those it could not fetch or had no time for."""

    warmed_count: int
    failed_count: int


def keys_to_warm(publication: Publication, playlists: Playlists | None) -> tuple[str, ...]:
    """What a player asks for before it shows its first picture, in about that order, each once.

    Playlists, then the initialisation section and first segment of every track, then all stills. Later segments come as
    viewers reach them; one request to the origin each, by the edge's lock.
    """
    keys = [playlist.s3_key for playlist in reversed(playlists.in_order)] if playlists else []
    for track in publication.tracks:
        keys += [*filter(None, [track.init_s3_key]), track.segments[0].s3_key]
    keys += [still.s3_key for still in publication.stills]
    return tuple(dict.fromkeys(keys))
