"""Which steps of the ladder a video needs, by how many bits a few moments of it take. Pure.

Quality is what an encode aims at (capped CRF), so content that is easy to code takes fewer bits by itself, in every
step. What is left to decide is whether a step is still worth its encode: where a larger one fits the network that this
step was made for, nobody would choose it. The largest step always stays, and so does the smallest, which is cheap, and
carries everybody through the moments that were not looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from services.transcode.formats import Codec
from services.transcode.ladder import Step
from services.transcode.specs import ChunkSpec, RenditionSpec, TaskSpec

_SHORTEST_S: Final = 120
"""Samples are six seconds in all: of videos from here on, a twentieth."""

_PLACES: Final = (Fraction(1, 6), Fraction(3, 6), Fraction(5, 6))
_MARGIN: Final = Fraction(5, 4)
"""Moments that were not looked at may need more."""


def samples(specs: Sequence[TaskSpec]) -> tuple[ChunkSpec, ...]:
    """The moments to encode: a group of pictures each, in all steps of H.264 but the smallest.

    None where nothing could be decided by them, and where they would cost more than they may save: in short videos, and
    in those whose moments cannot be found by their time.

    Args:
        specs: the plan with all steps, each chunk with all renditions of its codec.
    """
    chunks = [spec for spec in specs if isinstance(spec, ChunkSpec) and spec.renditions[0].codec is Codec.H264]
    if not chunks:
        return ()
    first = chunks[0]
    timeline = first.timeline
    pictures_s = timeline.picture_count / timeline.frame_rate
    if not first.random_access or pictures_s < _SHORTEST_S or len(first.renditions) <= 2:
        return ()
    groups = timeline.picture_count // timeline.gop_frames
    return tuple(
        replace(
            first,
            label=f"sample-{number}",
            renditions=first.renditions[:-1],
            first_frame=(begin := int(place * groups) * timeline.gop_frames),
            end_frame=begin + timeline.gop_frames,
        )
        for number, place in enumerate(_PLACES, start=1)
    )


def worthwhile(
    ladder: tuple[Step, ...], renditions: Sequence[RenditionSpec], needs_bps: Mapping[str, int]
) -> tuple[Step, ...]:
    """The steps that are worth an encode, in the order of the ladder; other codecs get those of H.264.

    Args:
        ladder: all steps.
        renditions: those of the video that were sampled, largest first.
        needs_bps: what the neediest of the moments took, by label.
    """
    best = renditions[0]
    unneeded = set()
    for rendition in renditions[1:]:
        if needs_bps[best.label] * _MARGIN <= rendition.maxrate_bps:
            unneeded.add(rendition.label)
        else:
            best = rendition
    sides_px = {step.shorter_side_px for step in ladder if step.label in unneeded}
    return tuple(step for step in ladder if step.shorter_side_px not in sides_px)
