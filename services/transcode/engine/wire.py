"""How parent and child talk: length-prefixed frames over one socket pair, the same code on both sides.

A frame is a type byte, the lengths of head and body (big-endian, 32 bits each), a JSON object, raw bytes. The
child speaks first (HELLO) once it has sandboxed itself; everything it says is checked by the parent, which
must assume that a hostile file has taken the child over.
"""

import asyncio
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, BinaryIO

MAX_HEAD_BYTES = 8 << 20
"""A four-hour track lists 3,600 segments of about 150 bytes each."""

MAX_BODY_BYTES = 64 << 20
"""The largest artifact: a 6 s segment at ten times the highest cap."""

_PREFIX = struct.Struct("!BII")

LIFE_NUMBER = struct.Struct("!i")
"""How the fork server tells a child's pid and its exit code."""


class FrameType(IntEnum):
    """What a frame says. The comment names head and body."""

    JOB = 1  # parent: {job, spec?, limits, size_bytes}
    DATA = 2  # parent: {} + bytes of the source, at most as many as were asked for
    HELLO = 3  # child: {sandbox: {part: state}}
    READ = 4  # child: {offset, length}, answered by DATA
    ARTIFACT = 5  # child: {name, content_type} + bytes
    PROGRESS = 6  # child: {fraction}
    STAGE = 7  # child: {name, start_unix_ns, end_unix_ns, attributes}
    RESULT = 8  # child: {…} the answer; the last frame
    REJECTED = 9  # child: {reason, message}; the last frame
    FAILED = 10  # child: {message, detail}; the last frame


class WireError(Exception):
    """The other side broke the protocol, or ended in the middle of a frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    type: FrameType
    head: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b""


def encode(frame: Frame) -> bytes:
    """The bytes of a frame up to its body, which follows as it is."""
    head = json.dumps(frame.head, separators=(",", ":")).encode()
    return _PREFIX.pack(frame.type, len(head), len(frame.body)) + head


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """Reads one frame; None where the other side ended between two: cleanly, or leaving unread what we sent.

    Raises:
        WireError: the bytes are no frame, or end inside one.
    """
    try:
        prefix = await reader.readexactly(_PREFIX.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise WireError("ended inside a frame") from error
        return None
    except ConnectionError:
        return None
    frame_type, head_length, body_length = _unpack(prefix)
    try:
        head = await reader.readexactly(head_length)
        body = await reader.readexactly(body_length)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise WireError("ended inside a frame") from error
    return Frame(frame_type, _head(head), body)


def read_frame_from(file: BinaryIO) -> Frame | None:
    """`read_frame` for a blocking, buffered file."""
    prefix = file.read(_PREFIX.size)
    if not prefix:
        return None
    frame_type, head_length, body_length = _unpack(prefix)
    head, body = file.read(head_length), file.read(body_length)
    if len(head) != head_length or len(body) != body_length:
        raise WireError("ended inside a frame")
    return Frame(frame_type, _head(head), body)


def _unpack(prefix: bytes) -> tuple[FrameType, int, int]:
    if len(prefix) != _PREFIX.size:
        raise WireError("ended inside a frame")
    type_code, head_length, body_length = _PREFIX.unpack(prefix)
    if head_length > MAX_HEAD_BYTES or body_length > MAX_BODY_BYTES:
        raise WireError("a frame is larger than any may be")
    try:
        return FrameType(type_code), head_length, body_length
    except ValueError as error:
        raise WireError(f"no frame has type {type_code}") from error


def _head(data: bytes) -> Mapping[str, Any]:
    try:
        head = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WireError("a frame's head is not JSON") from error
    if not isinstance(head, dict):
        raise WireError("a frame's head is not an object")
    return head
