"""A spell of Pillow: `plain` decodes the photo whole, `draft` at the smallest reduction that suffices.

Otherwise both do their best: the photo is decoded once, and each size is made from the next larger one.
"""

import sys

from PIL import Image

from bench.imaging.spell import Job, say, timed, told

PLAIN, DRAFT = "plain", "draft"


def _plain(job: Job) -> None:
    with Image.open(job.photo) as image:
        image.load()  # `thumbnail` would call `draft` itself
        _write(image, job)


def _draft(job: Job) -> None:
    with Image.open(job.photo) as image:
        image.draft("RGB", (job.sizes_px[0], job.sizes_px[0]))
        _write(image, job)


def _write(image: Image.Image, job: Job) -> None:
    for size_px in job.sizes_px:
        image.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
        image.save(
            job.path(size_px),
            quality=job.quality,
            subsampling="4:2:0",
            progressive=job.is_progressive,
            optimize=True,
        )


if __name__ == "__main__":
    say(timed(told(), {PLAIN: _plain, DRAFT: _draft}[sys.argv[2]]))
