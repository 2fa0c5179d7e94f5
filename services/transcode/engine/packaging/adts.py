"""The header that each AAC frame has in MPEG-TS: ADTS (ISO/IEC 13818-7, 6.2; 14496-3, 1.A.3.2)."""

_HEADER_BYTES = 7
_MAX_FRAME_BYTES = (1 << 13) - 1


class Header:
    """Makes headers for the frames of one encoder."""

    def __init__(self, audio_specific_config: bytes) -> None:
        """Reads the encoder's configuration, which ISO files hold instead (14496-3, 1.6.2.1)."""
        config = int.from_bytes(audio_specific_config[:2], "big")
        self._profile = (config >> 11) - 1
        self._rate_index = config >> 7 & 0xF
        self._channels = config >> 3 & 0xF

    def before(self, frame: bytes) -> bytes:
        """A frame behind its header: MPEG-4, no checksum, buffer fullness left open.

        Raises:
            ValueError: the frame is longer than a header can say.
        """
        size = _HEADER_BYTES + len(frame)
        if size > _MAX_FRAME_BYTES:
            raise ValueError(f"an AAC frame of {len(frame)} bytes")
        bits = 0xFFF1 << 40
        bits |= self._profile << 38 | self._rate_index << 34 | self._channels << 30
        bits |= size << 13 | 0x7FF << 2
        return bits.to_bytes(_HEADER_BYTES, "big") + frame
