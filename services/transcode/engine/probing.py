"""Finds out what an original is: the child's half of `run.probe`."""

from dataclasses import replace
from fractions import Fraction

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.transcode.engine.channel import Reporter, stage
from services.transcode.engine.codecs.h264_samples import H264Samples
from services.transcode.engine.images.decoding import inspect_image
from services.transcode.engine.limits import Limits
from services.transcode.engine.reading.decoding import Damage, seconds, video_frames
from services.transcode.engine.reading.extent import FALLBACK_RATE, Extent, counted_extent, indexed_extent
from services.transcode.engine.reading.opening import check_complete, open_container, sniff_file
from services.transcode.engine.reading.remote_file import RemoteFile
from services.transcode.engine.reading.sniff import check_file_size
from services.transcode.engine.video.picture import display_size, orientation
from services.transcode.pass_through import key_frame_grid, peak_bps
from services.transcode.source import (
    AudioStreamInfo,
    ColourInfo,
    ContainerFormat,
    H264Info,
    MediaKind,
    RejectedSource,
    RejectionReason,
    SourceInfo,
    VideoStreamInfo,
)

_RATE_TOLERANCE = Fraction(2, 100)


def probe_file(file: RemoteFile, limits: Limits, reporter: Reporter) -> SourceInfo:
    """What the original is.

    Raises:
        RejectedSource: for any reason that the bytes give, or their number.
    """
    with stage(reporter, "sniff") as attributes:
        container_format = sniff_file(file)
        attributes["format"] = container_format.value
    check_file_size(container_format, file.size_bytes, limits)
    if container_format.kind is MediaKind.IMAGE:
        with stage(reporter, "open"):
            image = inspect_image(file, container_format, limits)
        return SourceInfo(
            kind=MediaKind.IMAGE,
            container=container_format,
            size_bytes=file.size_bytes,
            duration_s=Fraction(0),
            video=None,
            audio=(),
            image=image,
        )
    return _probe_video(file, container_format, limits, reporter)


def _probe_video(file: RemoteFile, container_format: ContainerFormat, limits: Limits, reporter: Reporter) -> SourceInfo:
    with stage(reporter, "open"):
        is_indexed = container_format is ContainerFormat.MP4 and check_complete(file, limits.max_streams)
        container = open_container(file, container_format)
        stream = _shown_stream(container, limits)
    with stage(reporter, "first picture") as attributes:
        frame = _first_frame(container, stream)
        _check_frame_size(frame.width, frame.height, limits)  # the container may have claimed anything
        attributes["codec"] = stream.codec_context.name
    with stage(reporter, "measure") as attributes:
        start_s = seconds(frame.pts, frame.time_base) or Fraction(0)
        sound = [audio for audio in container.streams.audio if _has_sound(audio)]
        extent = indexed_extent(stream, sound, start_s) if is_indexed else None
        if extent is None:
            again = open_container(file, container_format)
            extent = counted_extent(again, stream.index, [audio.index for audio in sound], start_s, reporter)
        attributes.update(bytes_read=file.bytes_fetched)
    if extent.duration_s > limits.max_duration_s:
        raise RejectedSource(
            RejectionReason.TOO_LONG,
            f"the video lasts {float(extent.duration_s):.0f} s; the limit is {limits.max_duration_s} s",
        )
    still_s = min(extent.still_s, limits.max_duration_s - extent.duration_s)
    return SourceInfo(
        kind=MediaKind.VIDEO,
        container=container_format,
        size_bytes=file.size_bytes,
        duration_s=extent.duration_s + still_s,
        video=replace(_video_info(stream, frame, extent), still_s=still_s),
        audio=tuple(map(_audio_info, sound)),
        image=None,
    )


def _shown_stream(container: InputContainer, limits: Limits) -> VideoStream:
    """The first video track that is no cover picture."""
    if len(container.streams) > limits.max_streams:
        raise RejectedSource(
            RejectionReason.TOO_MANY_STREAMS,
            f"the file has {len(container.streams):,} tracks; the limit is {limits.max_streams}",
        )
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    tracks = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not tracks:
        raise RejectedSource(RejectionReason.NO_VIDEO_TRACK, "the file has no video track")
    stream = tracks[0]
    if not _is_decodable(stream):
        raise RejectedSource(RejectionReason.UNSUPPORTED_CODEC, "the video track is in a format that we cannot decode")
    _check_frame_size(stream.codec_context.width, stream.codec_context.height, limits)
    stream.codec_context.thread_count = limits.threads
    return stream


def _check_frame_size(width_px: int, height_px: int, limits: Limits) -> None:
    if width_px * height_px > limits.max_frame_pixels:
        raise RejectedSource(
            RejectionReason.TOO_LARGE,
            f"the video has {width_px:,} by {height_px:,} pixels; the limit is {limits.max_frame_pixels:,} in all",
        )


def _has_sound(stream: AudioStream) -> bool:
    # A header may name a track that holds nothing.
    return _is_decodable(stream) and stream.channels > 0 and stream.sample_rate > 0


def _is_decodable(stream: VideoStream | AudioStream) -> bool:
    # Without a decoder, PyAV has no context, and says so by None or by raising.
    return getattr(stream, "codec_context", None) is not None


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame:
    frame = next(video_frames(container, stream, Damage()), None)
    if frame is None:
        raise RejectedSource(RejectionReason.CORRUPT, "not one picture of the video can be decoded")
    return frame


def _h264(stream: VideoStream, extent: Extent, frame_rate: Fraction) -> H264Info | None:
    """What an H.264 track in ISO samples says of itself; None for all others, and where key frames form no grid."""
    record = stream.codec_context.extradata or b""
    if stream.codec_context.name != "h264" or record[:1] != b"\x01":
        return None
    try:
        samples = H264Samples(record)
    except ValueError:
        return None
    gop_frames = key_frame_grid(extent.key_packets, len(extent.packet_bytes))
    if gop_frames is None:
        return None
    return H264Info(
        profile=samples.profile,
        level=samples.level,
        gop_frames=gop_frames,
        average_bps=round(8 * sum(extent.packet_bytes) * frame_rate / len(extent.packet_bytes)),
        peak_bps=peak_bps(extent.packet_bytes, gop_frames, frame_rate),
    )


def _frame_rate(stream: VideoStream, extent: Extent) -> Fraction:
    """Frames per second of the source's own timeline.

    What was counted decides which of the header's rates is believed: those are exact where it is blurred by a
    coarse clock or a few late frames, and mere claims where the two disagree.
    """
    claimed = (stream.base_rate, stream.average_rate, stream.guessed_rate)
    rates = [rate for rate in claimed if rate]
    counted = extent.frame_rate
    if counted is None:
        return rates[0] if rates else FALLBACK_RATE
    for found in (counted, extent.usual_rate or counted):
        if close := [rate for rate in rates if abs(rate - found) <= found * _RATE_TOLERANCE]:
            return close[0]
    return counted


def _video_info(stream: VideoStream, frame: VideoFrame, extent: Extent) -> VideoStreamInfo:
    shown = orientation(frame)
    aspect_ratio = stream.sample_aspect_ratio or Fraction(1)
    display = display_size(frame.width, frame.height, aspect_ratio, shown)
    frame_rate = _frame_rate(stream, extent)
    return VideoStreamInfo(
        stream_index=stream.index,
        codec=stream.codec_context.name,
        pix_fmt=frame.format.name,
        coded_width_px=frame.width,
        coded_height_px=frame.height,
        display_width_px=display[0],
        display_height_px=display[1],
        rotation_degrees=shown.rotation_degrees,
        sample_aspect_ratio=aspect_ratio,
        frame_rate=frame_rate,
        frame_count=extent.frame_count,
        start_s=extent.start_s,
        interlaced=frame.interlaced_frame,
        colour=ColourInfo(
            primaries=int(frame.color_primaries),
            transfer=int(frame.color_trc),
            matrix=int(frame.colorspace),
            full_range={1: False, 2: True}.get(int(frame.color_range)),
        ),
        random_access=extent.random_access,
        key_frame_interval_s=extent.key_frame_interval_s,
        h264=None if shown.filters else _h264(stream, extent, frame_rate),
    )


def _audio_info(stream: AudioStream) -> AudioStreamInfo:
    return AudioStreamInfo(
        stream_index=stream.index,
        codec=stream.codec_context.name,
        channels=stream.channels,
        sample_rate_hz=stream.sample_rate,
        language=stream.language,
    )
