"""Server-sent events, read from bytes as they come (HTML Living Standard §9.2.6).

httpx splits lines wherever `str.splitlines` does, U+2028 included, which may stand unescaped in JSON; hence a parser
of our own. It knows nothing of connections.
"""

from dataclasses import dataclass

from millrace.errors import UnexpectedAnswer

MAX_EVENT_BYTES = 4 << 20
"""An event that does not end within this many bytes is not the gateway's."""

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One dispatched event.

    Attributes:
        name: `message` unless the server named it.
        data: its data lines, joined by newlines.
    """

    name: str
    data: str


class EventParser:
    """Turns pieces of a byte stream, cut anywhere, into events. Comments and unknown fields are passed over."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[str] = []
        self._data_bytes = 0
        self._name = ""
        self._first_line = True
        self._skip_newline = False  # the last line ended with CR: an LF now belongs to it

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """Takes the next bytes and returns the events that they complete, in order.

        Raises:
            UnexpectedAnswer: an event grew past `MAX_EVENT_BYTES`.
        """
        if self._skip_newline and piece:
            piece = piece.removeprefix(b"\n")
            self._skip_newline = False
        events: list[ServerEvent] = []
        while piece:
            line, ending, piece = _cut(piece)
            self._line += line
            if len(self._line) + self._data_bytes > MAX_EVENT_BYTES:
                raise UnexpectedAnswer("the event stream sent an event without end")
            if not ending:
                break
            if ending == b"\r" and not piece:
                self._skip_newline = True
            if event := self._take_line():
                events.append(event)
        return events

    def _take_line(self) -> ServerEvent | None:
        raw = bytes(self._line)
        self._line.clear()
        if self._first_line:
            raw = raw.removeprefix(_BOM)
            self._first_line = False
        if not raw:
            return self._dispatch()
        field, _, value = raw.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
            self._data_bytes += len(raw)
        elif field == "event":
            self._name = value
        return None

    def _dispatch(self) -> ServerEvent | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._data_bytes = "", [], 0
        return ServerEvent(name, "\n".join(data)) if data else None


def _cut(piece: bytes) -> tuple[bytes, bytes, bytes]:
    """A line, its ending (CRLF, LF, CR, or nothing when the line is not whole) and what follows."""
    ends = [at for at in (piece.find(b"\n"), piece.find(b"\r")) if at >= 0]
    if not ends:
        return piece, b"", b""
    end = min(ends)
    width = 2 if piece[end : end + 2] == b"\r\n" else 1
    return piece[:end], piece[end : end + width], piece[end + width :]
