"""Decoded sound on the video's timeline: frames of 1,024 samples, from its first picture to its end.

What is measured and what is encoded are the same frames: both come from here.
"""

from collections.abc import Generator, Iterator
from fractions import Fraction

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from services.transcode.engine.reading.decoding import seconds
from services.transcode.specs import AudioSpec

FRAME_SAMPLES = 1024
"""AAC-LC's frame. The encoder's first frame is priming: it holds what comes before the first sample."""

_SAMPLE_BYTES = 4
_LOUDEST = np.float32(8)
"""18 dB above full scale, more than any mix down of sound that is meant. Files of floats may hold anything."""
_JUMP_S = 1
"""So far back, a time is that of another clock, as for pictures."""
_TOLERANCE_S = Fraction(30, 1000)
"""Timestamps that stray less are jitter, and are left alone: each correction can be heard as a click."""


def on_timeline(decoded: Iterator[AudioFrame], spec: AudioSpec) -> Iterator[list[bytes]]:
    """The whole timeline in frames of 1,024 samples, whatever the source has to offer.

    Yields planar 32-bit floats, a `bytes` a channel. Gaps are silent, overlaps and what lies outside the
    timeline are cut, the last frame is filled up with silence.
    """
    buffer = _Buffer(spec.channels, round(spec.timeline.duration_s * spec.sample_rate_hz))
    mixer: _Mixer | None = None
    input_format: tuple[int, str, str] | None = None
    expected_s: Fraction | None = None
    shift_s = Fraction(0)
    position = 0
    for frame in decoded:
        if buffer.is_full:
            break
        at_s = seconds(frame.pts, frame.time_base)
        if at_s is not None and expected_s is not None and at_s + shift_s < expected_s - _JUMP_S:
            shift_s = expected_s - at_s  # the clock began anew, where the stream was cut together
        at_s = None if at_s is None else at_s + shift_s
        jumped = at_s is not None and (expected_s is None or abs(at_s - expected_s) > _TOLERANCE_S)
        frame_format = (frame.sample_rate, frame.layout.name, frame.format.name)
        if mixer is None or jumped or frame_format != input_format:
            # What the old one still holds belongs before the jump.
            if mixer is not None:
                position = yield from buffer.put(position, mixer.mixed(None))
            mixer, input_format = _Mixer(spec, frame), frame_format
        if at_s is not None and jumped:
            position = round((at_s - spec.timeline.origin_s) * spec.sample_rate_hz)
            expected_s = at_s
        if expected_s is not None:
            expected_s += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None
        position = yield from buffer.put(position, mixer.mixed(frame))
    if mixer is not None:
        yield from buffer.put(position, mixer.mixed(None))
    yield from buffer.fill_up()


class _Mixer:
    """Brings frames that are all of one format to the track's channels and rate.

    Of channels whose places swresample does not know it takes the first two, which by custom are left and right; of a
    sound field (ambisonics), the one that holds what is all around.
    """

    def __init__(self, spec: AudioSpec, like: AudioFrame) -> None:
        self._resampler = AudioResampler(format="fltp", layout=layout(spec.channels), rate=spec.sample_rate_hz)
        # Packed, since PyAV reads past the planes of more than eight channels.
        self._packer = None if _can_be_mixed(like) else AudioResampler(format="flt")
        self._left_and_right = [0, 0] if like.layout.name.startswith("ambisonic") else [0, 1]

    def mixed(self, frame: AudioFrame | None) -> list[AudioFrame]:
        """What is ready once a frame has come; None ends the stream."""
        if self._packer is None or frame is None:
            return self._resampler.resample(frame)
        packed = self._packer.resample(frame)
        return [heard for one in packed for heard in self._resampler.resample(self._picked(one))]

    def _picked(self, packed: AudioFrame) -> AudioFrame:
        samples = packed.to_ndarray().reshape(-1, packed.layout.nb_channels)
        picked = np.ascontiguousarray(samples[:, self._left_and_right], np.float32).reshape(1, -1)
        heard = AudioFrame.from_ndarray(picked, "flt", "stereo")
        heard.sample_rate = packed.sample_rate
        return heard


def _can_be_mixed(frame: AudioFrame) -> bool:
    try:
        AudioResampler(format="fltp", layout="stereo").resample(frame)
    except av.error.ArgumentError:
        return False
    return True


class _Buffer:
    """Samples from the start of the timeline on, until they leave in full frames: it never holds many of them."""

    def __init__(self, channels: int, total_samples: int) -> None:
        self._planes = [bytearray() for _ in range(channels)]
        self._total = total_samples
        self._filled = 0

    @property
    def is_full(self) -> bool:
        """Whether the timeline's end is reached."""
        return self._filled >= self._total

    def put(self, position: int, frames: list[AudioFrame]) -> Generator[list[bytes], None, int]:
        """Puts frames at a position, which may be negative; yields full frames, returns the position after them."""
        for frame in frames:
            yield from self._pad(min(position, self._total) - self._filled)
            start = self._filled - position
            stop = min(frame.samples, self._total - position)
            if start < stop:
                for buffer, plane in zip(self._planes, frame.planes, strict=True):
                    buffer.extend(_sound(bytes(plane)[start * _SAMPLE_BYTES : stop * _SAMPLE_BYTES]))
                self._filled += stop - start
            yield from self._full_frames()
            position += frame.samples
        return position

    def fill_up(self) -> Iterator[list[bytes]]:
        """Silence to the timeline's end, and on to the end of its last frame; yields full frames."""
        yield from self._pad(self._total - self._filled)
        yield from self._pad(-self._total % FRAME_SAMPLES)

    def _pad(self, count: int) -> Iterator[list[bytes]]:
        """Silence, a frame at a time: hours of it may be missing."""
        while count > 0:
            step = min(count, FRAME_SAMPLES)
            for buffer in self._planes:
                buffer.extend(bytes(step * _SAMPLE_BYTES))
            self._filled += step
            count -= step
            yield from self._full_frames()

    def _full_frames(self) -> Iterator[list[bytes]]:
        size = FRAME_SAMPLES * _SAMPLE_BYTES
        while len(self._planes[0]) >= size:
            yield [bytes(buffer[:size]) for buffer in self._planes]
            for buffer in self._planes:
                del buffer[:size]


def _sound(plane: bytes) -> bytes:
    """The samples, as far as they are sound: an encoder gives up at what is no number, or beyond all measure."""
    samples = np.frombuffer(plane, np.float32)
    if bool((np.abs(samples) <= _LOUDEST).all()):
        return plane
    return np.clip(np.nan_to_num(samples), -_LOUDEST, _LOUDEST).tobytes()


def pcm_frame(planes: list[bytes], spec: AudioSpec, number: int) -> AudioFrame:
    """Frame `number` of the timeline, from 0, as libav takes it."""
    frame = AudioFrame(format="fltp", layout=layout(spec.channels), samples=FRAME_SAMPLES)
    frame.sample_rate = spec.sample_rate_hz
    frame.time_base = Fraction(1, spec.sample_rate_hz)
    frame.pts = number * FRAME_SAMPLES
    for plane, data in zip(frame.planes, planes, strict=True):
        plane.update(data)
    return frame


def layout(channels: int) -> str:
    """Libav's name for one channel or two."""
    return "mono" if channels == 1 else "stereo"
