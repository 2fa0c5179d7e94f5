"""Takes a poster from a video: one picture, in the sizes that images get."""

from fractions import Fraction
from typing import cast

from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image

from services.transcode.engine.channel import Reporter, stage
from services.transcode.engine.images.encoding import encode_sizes
from services.transcode.engine.limits import Limits
from services.transcode.engine.outcome import ImagesOutcome
from services.transcode.engine.reading.decoding import Damage, seconds, video_frames
from services.transcode.engine.reading.opening import open_container, prepare_decoder, sniff_file
from services.transcode.engine.reading.remote_file import RemoteFile
from services.transcode.engine.video.deinterlacing import deinterlaced
from services.transcode.engine.video.picture import Scaler, display_size, orientation
from services.transcode.source import RejectedSource, RejectionReason
from services.transcode.specs import PosterSpec


def encode_poster(spec: PosterSpec, file: RemoteFile, limits: Limits, reporter: Reporter) -> ImagesOutcome:
    """Makes the poster that `spec` asks for; the last picture before `at_s` if the video ends earlier.

    Raises:
        RejectedSource: CORRUPT, not one picture can be decoded.
    """
    with stage(reporter, "open"):
        container = open_container(file, sniff_file(file))
        stream = cast(VideoStream, container.streams[spec.stream_index])
        prepare_decoder(stream, limits)
    with stage(reporter, "decode") as attributes:
        at_s = spec.origin_s + spec.at_s
        chosen: VideoFrame | None = None
        frames = deinterlaced(video_frames(container, stream, Damage()), cast(Fraction, stream.time_base))
        for number, frame in enumerate(frames):
            chosen = frame
            shown_s = seconds(frame.pts, frame.time_base or stream.time_base)
            reporter.progress(0.5 - 0.5 / (number + 1))
            if shown_s is not None and shown_s >= at_s:
                break
        attributes["bytes_read"] = file.bytes_fetched
    if chosen is None:
        raise RejectedSource(RejectionReason.CORRUPT, "not one picture of the video can be decoded")
    with stage(reporter, "scale"):
        image = _upright(chosen, stream.sample_aspect_ratio, max(spec.sizes_px))
    return encode_sizes(image, spec.sizes_px, spec.formats, reporter)


def _upright(frame: VideoFrame, sample_aspect_ratio: Fraction | None, longer_px: int) -> Image.Image:
    """The frame as a viewer sees it, its longer side at most `longer_px`."""
    width_px, height_px = display_size(
        frame.width, frame.height, sample_aspect_ratio or Fraction(1), orientation(frame)
    )
    factor = min(Fraction(1), Fraction(longer_px, max(width_px, height_px)))
    scaler = Scaler(max(1, round(width_px * factor)), max(1, round(height_px * factor)))
    # The scaler's pictures are BT.709 whether they say so or not.
    rgb = scaler.scale(frame).reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    plane = rgb.planes[0]
    return Image.frombytes("RGB", (rgb.width, rgb.height), bytes(plane), "raw", "RGB", plane.line_size)
