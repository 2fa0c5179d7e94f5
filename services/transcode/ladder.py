"""The ladder: which renditions a video gets, with a reason for every number.

A step names the SHORTER side of the picture, so portrait video gets the same ladder as landscape.
Nothing is ever scaled up. Steps are plain data: a new ladder is a new tuple.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from services.transcode.formats import SOFTWARE, Codec, ImageFormat


@dataclass(frozen=True, slots=True)
class Step:
    """One rung.

    Attributes:
        label: its name in paths, the database and playlists.
        shorter_side_px: even.
        crf: the quality aimed at, the encoder's constant rate factor; content that needs less than the cap gets
            less.
        maxrate_bps: the cap that the quality yields to (VBV), for up to 30 frames a second.
        bufsize_bits: the VBV buffer.
        codec: of the pictures.
        encoder: libav's name for the encoder. One for all chunks of a rendition: what two encoders make never joins.
    """

    label: str
    shorter_side_px: int
    crf: int
    maxrate_bps: int
    bufsize_bits: int
    codec: Codec = Codec.H264
    encoder: str = SOFTWARE[Codec.H264]


def _step(shorter_side_px: int, crf: int, maxrate_bps: int, codec: Codec = Codec.H264) -> Step:
    # A buffer of one and a half seconds at the cap: a 4 s segment then peaks at no more than 1.375 x the
    # cap, well inside Apple's "peak ≤ 200 % of average" (HLS authoring 1.30), yet an IDR frame has room
    # to be good.
    label = _label(shorter_side_px, codec)
    return Step(label, shorter_side_px, crf, maxrate_bps, maxrate_bps * 3 // 2, codec, SOFTWARE[codec])


def _label(shorter_side_px: int, codec: Codec) -> str:
    """Unique among all ladders: H.264 has the plain name, since it is what every video has."""
    return f"{shorter_side_px}p" if codec is Codec.H264 else f"{shorter_side_px}p-{codec}"


LADDER: tuple[Step, ...] = (
    # Caps: the prototype's 5 / 2.8 / 1.4 / 0.8 Mb/s, each about 0.55 x the one above: Apple advises
    # steps of 1.5-2 x so that a player neither flaps nor falls far. CRF 21 is where superfast with
    # mb-tree met the expert's quality on real footage at 1080p; the lower steps need less, since what
    # they lose is seen enlarged. Capped CRF, unlike ABR, loses nothing where encodes are cut into chunks.
    _step(1080, 21, 5_000_000),
    _step(720, 19, 2_800_000),
    _step(480, 19, 1_400_000),
    _step(360, 18, 800_000),
)

HEVC_LADDER: tuple[Step, ...] = (
    # The caps are the network's, so they are H.264's; what is spared shows in the average. Against H.264's steps, 4 s
    # each of real footage (720p24; no figure at 1080p) and of the demonstration's clip, which presses on the caps:
    # 1080p -36 % bits at VMAF -1.6; 720p -32 and -48 % at +1.8 and -1.6; 480p -30 and -37 % at +3.9 and -0.1;
    # 360p -20 and -30 % at +5.6 and +0.8.
    _step(1080, 20, 5_000_000, Codec.HEVC),
    _step(720, 22, 2_800_000, Codec.HEVC),
    _step(480, 22, 1_400_000, Codec.HEVC),
    _step(360, 21, 800_000, Codec.HEVC),
)

AV1_LADDER: tuple[Step, ...] = (
    # Caps as for HEVC, though SVT-AV1 handles them badly: it cuts quality before they are reached, and where a clip is
    # nothing but noise its average came to 1.2 times the cap. Measured as for HEVC: 1080p -28 % bits at VMAF -5.7;
    # 720p -30 and -30 % at 0.0 and -6.1; 480p -31 and -39 % at +2.4 and -6.3; 360p -18 and -18 % at +4.9 and -2.7.
    # Footage gains; fast noise near the cap is what preset 8 is bad at.
    _step(1080, 26, 5_000_000, Codec.AV1),
    _step(720, 27, 2_800_000, Codec.AV1),
    _step(480, 30, 1_400_000, Codec.AV1),
    _step(360, 27, 800_000, Codec.AV1),
)

LADDERS: Mapping[Codec, tuple[Step, ...]] = {Codec.H264: LADDER, Codec.HEVC: HEVC_LADDER, Codec.AV1: AV1_LADDER}

ENCODE_COST: Mapping[Codec, int] = {Codec.H264: 1, Codec.HEVC: 3, Codec.AV1: 2}
"""Processor time for a whole ladder, in that of H.264's (measured; 2.7 and 2 times at 1080p, 4 and 3.5 at 360p)."""


def ladder_of(codecs: Iterable[Codec], encoders: Mapping[Codec, str] = SOFTWARE) -> tuple[Step, ...]:
    """The steps of several codecs, those of the first codec first.

    Args:
        codecs: each once.
        encoders: which encoder each codec has.
    """
    return tuple(replace(step, encoder=encoders[codec]) for codec in codecs for step in LADDERS[codec])


HIGH_FRAME_RATE_FACTOR = Fraction(3, 2)
"""Caps grow by this above 30 frames a second: twice the frames, but half the motion between them."""

MAX_FRAME_RATE = 60
"""Apple's HLS authoring 1.19: no more than 60 frames a second. Faster sources are halved until they fit."""

AUDIO_BITRATE_PER_CHANNEL_BPS = 64_000
"""128 kb/s stereo: AAC-LC is transparent enough there, and the audio playlist stays under 192 kb/s
(9.21)."""

AUDIO_SAMPLE_RATE_HZ = 48_000
"""One rate for all audio: what video sources use; 44.1 kHz is resampled once rather than clocked apart."""

AUDIO_MAX_CHANNELS = 2
"""Stereo plays everywhere; surround is mixed down."""

AUDIO_MAX_TRACKS = 8
"""The first ones of a file: as many languages as a player's menu shows without scrolling."""

GOP_S = 2
"""An IDR about every 2 s (HLS authoring 1.13): a seek lands close, a player may switch within a
segment's half."""

GOPS_PER_SEGMENT = 2
"""4 s segments: inside the 2-6 s that players were promised, two requests in a 10 s buffer."""

IMAGE_SIZES_PX: tuple[int, ...] = (1200, 600, 150)
"""Longer side of an image rendition: detail view, card, thumbnail."""


IMAGE_FORMATS: tuple[ImageFormat, ...] = (ImageFormat.JPEG, ImageFormat.WEBP)
"""JPEG for whatever cannot show others; WebP since it takes half of the time again and a third of the bytes off, and is
shown everywhere. AVIF looks better in as many bytes, but doubles the time (measured: ADR 0017): it is a setting.
"""


def fitting_steps(
    display_width_px: int, display_height_px: int, ladder: tuple[Step, ...] = LADDER
) -> tuple[tuple[Step, int, int], ...]:
    """The steps that a picture fills, codec by codec, largest first, each with the width and height it gets.

    Both sides are even (4:2:0 chroma), the aspect ratio is kept to the nearest even pixel, no side
    exceeds the source's. A source below the lowest step gets one rendition at its own size, named for
    its shorter side, in the first codec alone: so small a one has nothing to spare.

    Args:
        display_width_px: square pixels, rotation applied, at least 2.
        display_height_px: likewise.
        ladder: steps, in any order.
    """
    shorter_px = min(display_width_px, display_height_px)
    codecs = list(dict.fromkeys(step.codec for step in ladder))
    steps = sorted(ladder, key=lambda step: (codecs.index(step.codec), -step.shorter_side_px))
    fitting = [step for step in steps if step.shorter_side_px <= shorter_px]
    if not fitting:
        lowest = min((step for step in steps if step.codec is codecs[0]), key=lambda step: step.shorter_side_px)
        own = replace(lowest, label=_label(shorter_px, lowest.codec), shorter_side_px=shorter_px // 2 * 2)
        return ((own, display_width_px // 2 * 2, display_height_px // 2 * 2),)
    return tuple((step, *_scaled(display_width_px, display_height_px, step)) for step in fitting)


def _scaled(width_px: int, height_px: int, step: Step) -> tuple[int, int]:
    shorter_px, longer_px = sorted((width_px, height_px))
    exact_longer = Fraction(longer_px * step.shorter_side_px, shorter_px)
    # Rounded to even; at full size an odd side is cut by one pixel rather than grown by one.
    scaled_longer = min(2 * round(exact_longer / 2), longer_px // 2 * 2)
    if width_px >= height_px:
        return scaled_longer, step.shorter_side_px
    return step.shorter_side_px, scaled_longer
