"""A spell of pyvips, in an environment of its own.

The photo is decoded once, at the smallest of its built-in reductions that suffices, and each size is made from the next
larger one, which is kept in memory for that. (Its `thumbnail` leaves a factor of two to the resizing; here that would
mean to decode the photo whole.)
"""

from typing import Any

import pyvips  # type: ignore[import-not-found]

from bench.imaging.spell import Job, say, timed, told

_REDUCTIONS = (8, 4, 2, 1)
"""What libjpeg offers while it decodes."""


def _scale(job: Job) -> None:
    image = _reduced(job.photo, job.sizes_px[0])
    for size_px in job.sizes_px:
        image = image.thumbnail_image(size_px, height=size_px, size="down").copy_memory()
        image.jpegsave(
            str(job.path(size_px)),
            Q=job.quality,
            subsample_mode="on",
            interlace=job.is_progressive,
            optimize_coding=True,
            keep="none",
        )


def _reduced(photo: str, longer_px: int) -> Any:
    """The photo, not decoded yet, with its longer side at least so long."""
    header = pyvips.Image.new_from_file(photo, access="sequential")
    most = max(header.width, header.height) / longer_px
    reduction = next(reduction for reduction in _REDUCTIONS if reduction <= max(1, most))
    return pyvips.Image.new_from_file(photo, access="sequential", shrink=reduction)


if __name__ == "__main__":
    pyvips.cache_set_max(0)  # it would keep the decoded photo for the next image
    say(timed(told(), _scale))
