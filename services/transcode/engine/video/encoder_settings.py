"""How the encoders are set, as data. Every option has its reason beside it; numbers were measured on real
footage.

The aim is the same for all: IDR frames on the plan's grid and nowhere else, closed groups, configuration records that
depend on the settings alone, quality that has no memory (capped CRF), and the same bytes from the same pictures.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.transcode.engine.video import processor
from services.transcode.specs import RenditionSpec, Timeline

_Params = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How an encoder is opened.

    Attributes:
        encoder: libav's name for it.
        options: its private options, and those of any encoder that it needs.
        pix_fmt: of the pictures that it takes.
        reorder_frames: how far decoding runs ahead of showing at most. Decode times are shifted by it, so it must be
            the same however short a chunk is.
    """

    encoder: str
    options: Mapping[str, str]
    reorder_frames: int
    pix_fmt: str = "yuv420p"


def settings_for(spec: RenditionSpec, timeline: Timeline) -> EncoderSettings:
    """The settings of the encoder that a spec names.

    Raises:
        ValueError: there are none for it.
    """
    make = _ENCODERS.get(spec.encoder)
    if make is None:
        msg = f"no settings for an encoder named {spec.encoder!r}"
        raise ValueError(msg)
    return make(spec, timeline)


_X264_PRESET = "superfast"
"""With the look-ahead below: a third less processor time than veryfast at equal quality (VMAF -0.2…+1.6)."""

_X264_PROFILE = "high"
"""8x8 transforms and CABAC; every player of the last ten years decodes it."""

_X264_PARAMS: _Params = {
    # What superfast drops and is worth having back: bits are steered to blocks that later frames refer to.
    "rc-lookahead": 20,
    "mbtree": 1,
    "trellis": 1,
    # Two B-frames always, rather than up to three where a search finds them worth it: a sixth less processor time for
    # quality that is as good (animation) or better (a hand-held camera: VMAF +1.1) at equal bit rates.
    "bframes": 2,
    "b-adapt": 0,
    # Only the IDR grid of the plan, no frames elsewhere that a rendition would have alone.
    "scenecut": 0,
    "open-gop": 0,
    # Equal parameter sets whatever the content: one initialisation segment serves all.
    "stitchable": 1,
    # A chunk begins with its buffer this full of bits that may be spent at once. x264's nine tenths would be given to
    # every chunk anew, and the bit rate of short ones would be well above the cap (5 % measured).
    "vbv-init": "0.4",
    # A constant frame rate is what the plan promised; rate control need not look at timestamps.
    "force-cfr": 1,
}


def _x264(spec: RenditionSpec, timeline: Timeline) -> EncoderSettings:
    asm = processor.x264_asm()
    options = {
        "preset": _X264_PRESET,
        "profile": _X264_PROFILE,
        **_capped(spec),
        "forced-idr": "1",
        "x264-params": _joined({**_X264_PARAMS, **_grid(timeline), **({"asm": asm} if asm else {})}),
    }
    # B-frames, of which one in a group is referred to by the others.
    return EncoderSettings("libx264", options, reorder_frames=2)


_X265_PRESET = "superfast"
"""Three to four times x264's processor time for a third to a half fewer bits. ultrafast saves a third of the time and
loses 0.6 VMAF at 6 % more bits; veryfast is slower by 8 to 50 % and no better at equal bit rates (720p, two clips)."""

_X265_PARAMS: _Params = {
    # B-frames in a pyramid of one level, as x264's: a reorder depth of two, whatever the content.
    "bframes": 4,
    "b-adapt": 0,
    "b-pyramid": 1,
    "rc-lookahead": 20,
    # As for x264: only the grid, each group for itself. Open groups would have pictures that are shown before the key
    # frame and refer beyond it.
    "scenecut": 0,
    "open-gop": 0,
    # `hvc1`: parameter sets are in the initialisation segment, and nothing in the samples may say otherwise. Nor does
    # an SEI tell every viewer how the encoder was set.
    "repeat-headers": 0,
    "info": 0,
    "hrd": 0,
    # One thread: children fill the cores, and the bytes do not depend on which thread is ahead.
    "pools": "none",
    "frame-threads": 1,
    "vbv-init": "0.4",
    "log-level": "none",
}


def _x265(spec: RenditionSpec, timeline: Timeline) -> EncoderSettings:
    options = {
        "preset": _X265_PRESET,
        **_capped(spec),
        "forced-idr": "1",
        "x265-params": _joined({**_X265_PARAMS, **_grid(timeline)}),
    }
    return EncoderSettings("libx265", options, reorder_frames=2)


_SVTAV1_PRESET = "8"
"""Two to three times x264's processor time. 9 and 10 save a quarter and a half of that, and lose 0.6 and 1.1 VMAF at
like bit rates (720p footage); SVT itself warns of artefacts from 10 on."""

_SVTAV1_PARAMS: _Params = {
    # Key frames begin closed groups; none where a scene changes.
    "irefresh-type": 2,
    "scd": 0,
    # How far above the cap a stretch may lie before quality is cut. With SVT's 50 % scenes that came near the cap fell
    # to VMAF 27, with all it allows to 46 (480p; H.264: 60). The price: noise alone averages 1.2 times the cap.
    "mbr-overshoot-pct": 100,
    # As few threads as SVT can do with, some eighteen: a slot of AV1 takes more than a core (1.3, measured). The bytes
    # do not depend on which is ahead.
    "lp": 1,
}


def _svtav1(spec: RenditionSpec, timeline: Timeline) -> EncoderSettings:
    options = {
        "preset": _SVTAV1_PRESET,
        **_capped(spec),
        "g": str(timeline.gop_frames),
        "svtav1-params": _joined(_SVTAV1_PARAMS),
    }
    # Frames that are decoded ahead are hidden in the temporal unit of the one that is shown: nothing is reordered.
    return EncoderSettings("libsvtav1", options, reorder_frames=0)


def _nvenc(spec: RenditionSpec, timeline: Timeline) -> EncoderSettings:
    # Not tried: no such hardware was at hand. As near to the others as its options say it comes: capped constant
    # quality, closed groups on the grid, no B-frame that others refer to, so that the reorder depth is known.
    options = {
        **{"preset": "p4", "profile": "high", "rc": "vbr", "cq": str(spec.crf), "b": "0"},
        **{"maxrate": str(spec.maxrate_bps), "bufsize": str(spec.bufsize_bits)},
        **{"g": str(timeline.gop_frames), "no-scenecut": "1", "forced-idr": "1", "strict_gop": "1"},
        **{"bf": "2", "b_ref_mode": "disabled"},
    }
    return EncoderSettings("h264_nvenc", options, reorder_frames=2)


def _qsv(spec: RenditionSpec, timeline: Timeline) -> EncoderSettings:
    # Not tried either.
    options = {
        **{"preset": "medium", "profile": "high", "global_quality": str(spec.crf)},
        **{"maxrate": str(spec.maxrate_bps), "bufsize": str(spec.bufsize_bits)},
        **{"g": str(timeline.gop_frames), "idr_interval": "0", "forced_idr": "1", "adaptive_i": "0"},
        **{"bf": "2", "b_strategy": "0"},
    }
    return EncoderSettings("h264_qsv", options, reorder_frames=2, pix_fmt="nv12")


_ENCODERS: Mapping[str, Callable[[RenditionSpec, Timeline], EncoderSettings]] = {
    "libx264": _x264,
    "libx265": _x265,
    "libsvtav1": _svtav1,
    "h264_nvenc": _nvenc,
    "h264_qsv": _qsv,
    # None for VAAPI: PyAV cannot hand surfaces of a device to an encoder. It is passed over as if it were not there.
}


def _capped(spec: RenditionSpec) -> dict[str, str]:
    """Capped CRF: constant quality until the cap, then VBV. Unlike ABR it knows no past to lose at a border."""
    return {"crf": str(spec.crf), "maxrate": str(spec.maxrate_bps), "bufsize": str(spec.bufsize_bits)}


def _grid(timeline: Timeline) -> _Params:
    return {"keyint": timeline.gop_frames, "min-keyint": timeline.gop_frames}


def _joined(params: _Params) -> str:
    return ":".join(f"{name}={value}" for name, value in params.items())
