"""Everything that was made of one generation of a media, as recorded: what playlists and verification work from."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class MediaKind(StrEnum):
    """The two pipelines."""

    IMAGE = "image"
    VIDEO = "video"


@dataclass(frozen=True, slots=True)
class Segment:
    """One media segment.

    Attributes:
        s3_key: key in the delivery bucket.
        size_bytes: of the object.
        duration_ticks: exact, in the track's timescale.
        key_frame_chunk_bytes: length of the leading chunk, which holds the key frame and can be decoded alone; 0 for
            sound.
    """

    s3_key: str
    size_bytes: int
    duration_ticks: int
    key_frame_chunk_bytes: int


@dataclass(frozen=True, slots=True)
class Track:
    """One encoded track.

    Attributes:
        label: step of the ladder, or `audio`; unique within the generation.
        init_s3_key: key of the initialisation section; empty for MPEG-TS, which has none.
        init_size_bytes: of the object; 0 where there is none.
        segments: in play order.
        timescale: ticks a second.
        codecs: RFC 6381.
        width_px: 0 for sound, as is `height_px`.
        height_px: see `width_px`.
        frame_rate: pictures a second; None for sound.
        channels: 0 for a picture.
        average_bps: bits over duration of the whole track.
        peak_bps: peak segment bit rate (RFC 8216 §4.3.4.2).
        language: BCP 47; empty if unknown.
    """

    label: str
    init_s3_key: str
    init_size_bytes: int
    segments: tuple[Segment, ...]
    timescale: int
    codecs: str
    width_px: int
    height_px: int
    frame_rate: Fraction | None
    channels: int
    average_bps: int
    peak_bps: int
    language: str

    @property
    def folder(self) -> str:
        """Where the track's playlists are written: beside its initialisation section, or else its first segment."""
        return (self.init_s3_key or self.segments[0].s3_key).rpartition("/")[0]

    @property
    def is_picture(self) -> bool:
        """Whether it is a rendition of the picture; otherwise it is sound."""
        return self.width_px > 0


@dataclass(frozen=True, slots=True)
class Still:
    """A thumbnail: key in the delivery bucket and size of the object."""

    s3_key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Publication:
    """A generation of which every task is done.

    Attributes:
        media_id: the media.
        generation: the generation.
        kind: image or video.
        delivery_prefix: key prefix, without trailing slash, of everything the generation wrote.
        tracks: in plan order; none for an image.
        stills: largest first.
        published: whether viewers see it already.
        task_traceparents: W3C `traceparent` of each task's final attempt.
    """

    media_id: str
    generation: int
    kind: MediaKind
    delivery_prefix: str
    tracks: tuple[Track, ...]
    stills: tuple[Still, ...]
    published: bool
    task_traceparents: tuple[str, ...]

    @property
    def objects(self) -> dict[str, int]:
        """Size in bytes of every object that was recorded, by key; playlists are not among them."""
        sizes = {track.init_s3_key: track.init_size_bytes for track in self.tracks if track.init_s3_key}
        sizes |= {segment.s3_key: segment.size_bytes for track in self.tracks for segment in track.segments}
        return sizes | {still.s3_key: still.size_bytes for still in self.stills}
