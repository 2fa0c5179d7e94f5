"""Finds out what an original is: the child's half of `run.probe`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import cast

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.transcode.engine.channel import Reporter, stage
from services.transcode.engine.decoding import Damage, packets, seconds, video_frames
from services.transcode.engine.image import inspect_image
from services.transcode.engine.limits import Limits
from services.transcode.engine.opening import check_complete, open_container, sniff_file
from services.transcode.engine.picture import display_size, orientation
from services.transcode.engine.remote_file import RemoteFile
from services.transcode.engine.sniff import check_file_size
from services.transcode.source import (
    AudioStreamInfo,
    ColourInfo,
    ContainerFormat,
    MediaKind,
    RejectedSource,
    RejectionReason,
    SourceInfo,
    VideoStreamInfo,
)

_MICROSECOND = Fraction(1, 1_000_000)  # AV_TIME_BASE
_FALLBACK_RATE = Fraction(30)
_RATE_TOLERANCE = Fraction(2, 100)
_LONGEST_LAST_S = Fraction(10)
"""How long a last frame may be said to stay."""
_BLUR = Fraction(5, 100)
"""How far late and missing frames may take the mean interval from the usual one; beyond, the rate is variable."""


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
        length = _indexed_length(stream, start_s) if is_indexed else None
        if length is None:
            again = open_container(file, container_format)
            length = _counted_length(again, stream.index, start_s, reporter)
        attributes.update(bytes_read=file.bytes_fetched)
    if length.duration_s > limits.max_duration_s:
        raise RejectedSource(
            RejectionReason.TOO_LONG,
            f"the video lasts {float(length.duration_s):.0f} s; the limit is {limits.max_duration_s} s",
        )
    return SourceInfo(
        kind=MediaKind.VIDEO,
        container=container_format,
        size_bytes=file.size_bytes,
        duration_s=length.duration_s,
        video=_video_info(stream, frame, length),
        audio=tuple(_audio_info(audio) for audio in container.streams.audio if _has_sound(audio)),
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


@dataclass(frozen=True, slots=True)
class _Length:
    """The video track's extent, and how fast its frames follow one another.

    `frame_count` and `frame_rate` are None where nothing but decoding would tell. `usual_rate` is that of most frames,
    where a few late or missing ones blur `frame_rate`. The others are as in `VideoStreamInfo`.
    """

    start_s: Fraction
    duration_s: Fraction
    frame_count: int | None
    frame_rate: Fraction | None
    usual_rate: Fraction | None = None
    random_access: bool = True
    key_frame_interval_s: Fraction = Fraction(0)


def _indexed_length(stream: VideoStream, start_s: Fraction) -> _Length | None:
    """The extent by an MP4's index of samples, not by its headers, which may claim anything; None if it has none."""
    entries = [entry for entry in stream.index_entries if not entry.is_discard]
    if not entries or not stream.time_base:
        return None
    times = [entry.timestamp for entry in entries]
    declared_s = seconds(stream.duration, stream.time_base) or Fraction(0)
    if len(times) == 1:
        return _Length(start_s, declared_s or 1 / _FALLBACK_RATE, 1, 1 / declared_s if declared_s else None)
    until_last_s = (times[-1] - times[0]) * stream.time_base
    interval_s = until_last_s / (len(times) - 1)
    # The last one is shown as long as the others, or as the header says: some show it for long.
    duration_s = max(until_last_s + interval_s, min(declared_s, until_last_s + _LONGEST_LAST_S))
    keys = [entry.timestamp for entry in entries if entry.is_keyframe]
    return _Length(
        start_s,
        duration_s,
        len(times),
        len(times) / duration_s,
        random_access=interval_s > 0,
        key_frame_interval_s=_longest(keys, times[0], times[-1]) * stream.time_base,
    )


def _counted_length(container: InputContainer, index: int, start_s: Fraction, reporter: Reporter) -> _Length:
    """The extent by counting packets: reads the file once, and is exact where headers guess."""
    stream = cast(VideoStream, container.streams[index])
    time_base = stream.time_base or _MICROSECOND
    begins = round(start_s / time_base)
    clock = _Clock()
    times: set[int] = set()
    keys: list[int] = []
    end = begins
    for packet in packets(container, stream):
        reporter.progress(0.0)
        if not packet.size:
            continue
        shown = clock.shown(packet)
        if shown is None or shown < begins:  # before the first key frame, nothing can be shown
            continue
        times.add(shown)
        end = max(end, shown + (packet.duration or 0))
        if packet.is_keyframe:
            keys.append(shown)
    if len(times) < 2:
        container_s = (container.duration or 0) * _MICROSECOND
        return _Length(start_s, container_s or 1 / _FALLBACK_RATE, len(times) or None, None, random_access=False)
    in_order = sorted(times)
    interval = Fraction(in_order[-1] - in_order[0], len(times) - 1)
    usual = Fraction(median(later - earlier for earlier, later in pairwise(in_order)))
    if end <= in_order[-1]:
        end = in_order[-1] + round(interval)  # the last frame lasts as long as the others did
    return _Length(
        start_s,
        (end - begins) * time_base,
        len(times),
        1 / (interval * time_base),
        1 / (usual * time_base) if abs(interval - usual) <= usual * _BLUR else None,
        random_access=clock.is_steady,
        key_frame_interval_s=_longest(sorted(keys), begins, in_order[-1]) * time_base,
    )


class _Clock:
    """The time of packets on one clock that goes on where a stream was cut together and its own jumps back."""

    def __init__(self) -> None:
        self.is_steady = True
        self._offset = 0
        self._decoded = -math.inf
        self._shown = 0

    def shown(self, packet: "Packet[VideoStream]") -> int | None:
        """When a packet is shown; None where nobody knows."""
        if packet.pts is None:
            self.is_steady = False
            return None
        # The first packets may lack a decode time.
        decoded = self._decoded if packet.dts is None else packet.dts
        if decoded < self._decoded:
            self.is_steady = False
            self._offset = self._shown + (packet.duration or 0) - packet.pts
        self._decoded = decoded
        shown = packet.pts + self._offset
        self._shown = max(self._shown, shown)
        return shown


def _longest(keys: Sequence[int], first: int, last: int) -> int:
    """The longest stretch without a key frame, in ticks, of a track between two times."""
    return max((later - earlier for earlier, later in pairwise([first, *keys, last])), default=0)


def _frame_rate(stream: VideoStream, length: _Length) -> Fraction:
    """Frames per second of the source's own timeline.

    What was counted decides which of the header's rates is believed: those are exact where it is blurred by a
    coarse clock or a few late frames, and mere claims where the two disagree.
    """
    claimed = (stream.base_rate, stream.average_rate, stream.guessed_rate)
    rates = [rate for rate in claimed if rate]
    counted = length.frame_rate
    if counted is None:
        return rates[0] if rates else _FALLBACK_RATE
    for found in (counted, length.usual_rate or counted):
        if close := [rate for rate in rates if abs(rate - found) <= found * _RATE_TOLERANCE]:
            return close[0]
    return counted


def _video_info(stream: VideoStream, frame: VideoFrame, length: _Length) -> VideoStreamInfo:
    shown = orientation(frame)
    aspect_ratio = stream.sample_aspect_ratio or Fraction(1)
    display = display_size(frame.width, frame.height, aspect_ratio, shown)
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
        frame_rate=_frame_rate(stream, length),
        frame_count=length.frame_count,
        start_s=length.start_s,
        interlaced=frame.interlaced_frame,
        colour=ColourInfo(
            primaries=int(frame.color_primaries),
            transfer=int(frame.color_trc),
            matrix=int(frame.colorspace),
            full_range={1: False, 2: True}.get(int(frame.color_range)),
        ),
        random_access=length.random_access,
        key_frame_interval_s=length.key_frame_interval_s,
    )


def _audio_info(stream: AudioStream) -> AudioStreamInfo:
    return AudioStreamInfo(
        stream_index=stream.index,
        codec=stream.codec_context.name,
        channels=stream.channels,
        sample_rate_hz=stream.sample_rate,
        language=stream.language,
    )
