import asyncio
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transcode.engine.wire import Frame, FrameType, WireError, encode, read_frame, read_frame_from

FRAME = Frame(FrameType.ARTIFACT, {"name": "seg_00001.m4s", "n": [1, 2]}, b"\x00\x01" * 100)
BYTES = encode(FRAME) + FRAME.body


async def read_async(data: bytes) -> Frame | None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await read_frame(reader)


@given(
    st.sampled_from(FrameType),
    st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()),
    st.binary(max_size=2000),
)
def test_frames_arrive_as_sent(frame_type: FrameType, head: dict[str, object], body: bytes) -> None:
    sent = Frame(frame_type, head, body)
    assert read_frame_from(io.BytesIO(encode(sent) + body)) == sent


async def test_both_readers_agree() -> None:
    assert await read_async(BYTES) == read_frame_from(io.BytesIO(BYTES)) == FRAME


async def test_a_clean_end_is_no_frame() -> None:
    assert await read_async(b"") is None
    assert read_frame_from(io.BytesIO(b"")) is None


@pytest.mark.parametrize("error", [ConnectionResetError(), BrokenPipeError()])
async def test_a_child_that_ends_before_it_has_read_is_an_end_all_the_same(error: Exception) -> None:
    reader = asyncio.StreamReader()
    reader.set_exception(error)
    assert await read_frame(reader) is None


@pytest.mark.parametrize("length", [1, 8, 12, len(BYTES) - 1])
async def test_an_end_inside_a_frame_is_an_error(length: int) -> None:
    with pytest.raises(WireError, match="inside a frame"):
        await read_async(BYTES[:length])
    with pytest.raises(WireError, match="inside a frame"):
        read_frame_from(io.BytesIO(BYTES[:length]))


@pytest.mark.parametrize(
    "data",
    [
        b"\x63" + bytes(8),  # no such type
        b"\x05\xff\xff\xff\xff" + bytes(4),  # a head too large
        b"\x05\x00\x00\x00\x02\xff\xff\xff\xff{}",  # a body too large
        b"\x05\x00\x00\x00\x02\x00\x00\x00\x00[]",  # a head that is no object
        b"\x05\x00\x00\x00\x02\x00\x00\x00\x00{]",  # a head that is no JSON
    ],
)
async def test_nonsense_is_an_error(data: bytes) -> None:
    with pytest.raises(WireError):
        await read_async(data)
