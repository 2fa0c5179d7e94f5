"""Publications to render: two steps and sound of 10 s at 29.97, and an image."""

from fractions import Fraction

from services.manifest.publication import MediaKind, Publication, Segment, Still, Track

MEDIA_ID = "01890000-0000-7abc-8000-000000000001"
PREFIX = f"abc/{MEDIA_ID}/1/T0k3nT0k3nT0k3nT0k3n"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def segments(label: str, ticks: tuple[int, ...], size_bytes: int, key_frame_chunk_bytes: int) -> tuple[Segment, ...]:
    return tuple(
        Segment(f"{PREFIX}/{label}/a1/seg_{number:05d}.m4s", size_bytes, duration, key_frame_chunk_bytes)
        for number, duration in enumerate(ticks)
    )


def picture(label: str, width_px: int, height_px: int, average_bps: int) -> Track:
    return Track(
        label=label,
        init_s3_key=f"{PREFIX}/{label}/a1/init.mp4",
        init_size_bytes=800,
        segments=segments(label, (120_120, 120_120, 60_060), average_bps // 2, 10_000),
        timescale=30_000,
        codecs="avc1.64001f",
        width_px=width_px,
        height_px=height_px,
        frame_rate=Fraction(30_000, 1001),
        channels=0,
        average_bps=average_bps,
        peak_bps=average_bps * 3 // 2,
        language="",
    )


def sound(language: str = "en") -> Track:
    return Track(
        label="audio",
        init_s3_key=f"{PREFIX}/audio/a2/init.mp4",
        init_size_bytes=700,
        segments=tuple(
            Segment(f"{PREFIX}/audio/a2/seg_{number:05d}.m4s", 60_000, ticks, 0)
            for number, ticks in enumerate((192_512, 191_488, 96_480))
        ),
        timescale=48_000,
        codecs="mp4a.40.2",
        width_px=0,
        height_px=0,
        frame_rate=None,
        channels=2,
        average_bps=128_000,
        peak_bps=130_000,
        language=language,
    )


STILLS = tuple(Still(f"{PREFIX}/poster/a1/{size_px}.jpg", size_px * 10) for size_px in (1200, 600, 150))


def publication(
    *tracks: Track, kind: MediaKind = MediaKind.VIDEO, stills: tuple[Still, ...] = STILLS, published: bool = False
) -> Publication:
    return Publication(MEDIA_ID, 1, kind, PREFIX, tracks, stills, published, (TRACEPARENT, "nonsense"))


VIDEO = publication(
    picture("1080p", 1920, 1080, 4_200_000),
    picture("720p", 1280, 720, 1_800_000),
    picture("360p", 640, 360, 600_000),
    sound(),
)
IMAGE = publication(kind=MediaKind.IMAGE)
