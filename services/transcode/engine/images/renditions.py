"""Scales images: the task of an `ImageSpec`."""

from services.transcode.engine.channel import Reporter, stage
from services.transcode.engine.images.decoding import Picture
from services.transcode.engine.images.encoding import encode_sizes
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import ImagesOutcome
from services.transcode.engine.reading.remote_file import RemoteFile
from services.transcode.specs import ImageSpec


def encode_image(spec: ImageSpec, file: RemoteFile, limits: Limits, reporter: Reporter) -> ImagesOutcome:
    """Makes the renditions that `spec` asks for. Of an animation, the first frame.

    Raises:
        RejectedSource: CORRUPT, TRUNCATED or TOO_LARGE.
    """
    largest_px = max(spec.sizes_px)
    with stage(reporter, "open"):
        picture = Picture(file, limits)
    with stage(reporter, "decode") as attributes:
        width_px, height_px = picture.decode(largest_px)
        attributes.update(width_px=width_px, height_px=height_px, bytes_read=file.bytes_fetched)
    with stage(reporter, "scale"):
        shown = picture.shown(largest_px)
    return encode_sizes(shown, spec.sizes_px, spec.formats, reporter)
