"""The bytes of HTTP/1.1 answers, for bodies that are received into their final place: no socket, no clock.

Heads are read by httptools. Of a body whose length is known, and of the inside of a chunk, `straight` says how many bytes
come next: the caller may receive so many where they belong and say so with `took`. Everything else goes through `feed`.

https://www.rfc-editor.org/rfc/rfc9112, rfc9110 (ranges, Retry-After)
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from btfast.errors import RemoteError

MAX_HEAD = 64 << 10  # bytes, trailers included
MAX_HEADERS = 128
MAX_CHUNK_LINE = 4096
UNKNOWN = -1

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_RANGE = re.compile(rb"bytes[ \t]+(?:([0-9]{1,19})-([0-9]{1,19})|\*)/([0-9]{1,19}|\*)", re.IGNORECASE)


class Head(NamedTuple):
    """The head of an answer. Header names are lower case; of a repeated header the last value counts."""

    status: int
    reason: bytes
    headers: dict[bytes, bytes]
    length: int  # bytes of the body; UNKNOWN for chunks, and for one that ends with the connection
    keeps: bool  # the connection can carry another answer

    @property
    def coded(self) -> bool:
        """Whether the body is something else than the file's bytes, such as compressed."""
        return self.headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b"")

    @property
    def is_page(self) -> bool:
        """Whether the body is called a web page."""
        return b"html" in self.headers.get(b"content-type", b"").lower()

    @property
    def validator(self) -> bytes:
        """What If-Range may carry (RFC 9110, 13.1.5): a strong ETag, else Last-Modified; b"" where there is neither."""
        tag = self.headers.get(b"etag", b"").strip()
        if tag.startswith(b'"') and tag.endswith(b'"') and len(tag) > 1:
            return tag if len(tag) <= 512 and tag.isascii() else b""
        modified = self.headers.get(b"last-modified", b"").strip()
        return modified if len(modified) <= 64 and modified.isascii() else b""


class ContentRange(NamedTuple):
    """`first` and `last` byte, both included; -1 for `bytes */total`. `total`: UNKNOWN where it is not said."""

    first: int
    last: int
    total: int


def content_range(head: Head) -> ContentRange | None:
    """The Content-Range of an answer, None where there is none that can be understood."""
    match = _RANGE.fullmatch(head.headers.get(b"content-range", b"").strip())
    if match is None:
        return None
    total = UNKNOWN if match[3] == b"*" else int(match[3])
    if match[1] is None:
        return ContentRange(-1, -1, total)
    first, last = int(match[1]), int(match[2])
    if last < first or (total != UNKNOWN and last >= total):
        return None
    return ContentRange(first, last, total)


class Kind(Enum):
    """What `feed` found next."""

    HEAD = "head"
    DATA = "data"
    END = "end"


Event = tuple[Kind, "Head | memoryview | None"]


class _State(Enum):
    HEAD = 0
    BODY = 1
    CHUNK_LINE = 2
    CHUNK = 3
    CHUNK_END = 4
    TRAILER = 5
    UNTIL_CLOSED = 6
    CLOSED = 7


class HttpReader:
    """Reads the answers of one connection. Raises RemoteError with the bare reason for what is no HTTP."""

    def __init__(self) -> None:
        self._state = _State.HEAD
        self._kept = bytearray()  # of a head, a chunk's line or a trailer that is not whole yet
        self._left = 0
        self._spent = 0  # bytes of trailers
        self.rest = memoryview(b"")

    @property
    def straight(self) -> int:
        """How many bytes of the body come next for sure; 0 where the next bytes must go through `feed`."""
        return self._left if self._state in (_State.BODY, _State.CHUNK) else 0

    @property
    def idle(self) -> bool:
        """Nothing of an answer has come that is not whole."""
        return self._state is _State.HEAD and not self._kept

    def took(self, count: int) -> bool:
        """So many of the `straight` bytes were received elsewhere. Whether the body has ended with them."""
        self._left -= count
        if self._left:
            return False
        if self._state is _State.CHUNK:
            self._state = _State.CHUNK_END
            return False
        self._state = _State.HEAD
        return True

    def feed(self, data: memoryview) -> list[Event]:
        """Bytes that came; DATA events are parts of `data`.

        The list ends after a HEAD: `rest` holds what follows it, to be fed again when it is known where the body goes.
        """
        events: list[Event] = []
        while len(data):
            state = self._state
            if state is _State.HEAD:
                data, head = self._head(data)
                if head is not None:
                    events.append((Kind.HEAD, head))
                    self.rest = data
                    return events
            elif state in (_State.BODY, _State.CHUNK):
                part, data = data[: self._left], data[self._left :]
                events.append((Kind.DATA, part))
                if self.took(len(part)):
                    events.append((Kind.END, None))
            elif state is _State.UNTIL_CLOSED:
                events.append((Kind.DATA, data))
                break
            elif state is _State.CLOSED:
                raise RemoteError("sends more than was asked for")
            else:
                data = self._between_chunks(data, events)
        self.rest = memoryview(b"")
        return events

    def handle_closed(self) -> bool:
        """The server has closed the connection: whether an answer ends with that."""
        ended = self._state is _State.UNTIL_CLOSED
        self._state = _State.CLOSED
        return ended

    def _head(self, data: memoryview) -> tuple[memoryview, Head | None]:
        before = len(self._kept)
        self._kept += data[: MAX_HEAD + 1 - before]
        match = _HEAD_END.search(self._kept, max(0, before - 3))
        if match is None:
            if len(self._kept) > MAX_HEAD:
                raise RemoteError("sends endless headers")
            if len(self._kept) >= 5 and not self._kept.startswith(b"HTTP/"):
                raise RemoteError("does not speak HTTP")
            return memoryview(b""), None
        text = bytes(self._kept[: match.end()])
        data = data[match.end() - before :]
        self._kept.clear()
        head = _parse(text)
        if head.status == 101:
            raise RemoteError("switches to another protocol")
        if head.status < 200:
            return data, None
        self._begin_body(head)
        return data, head

    def _begin_body(self, head: Head) -> None:
        self._spent = 0
        if head.status in (204, 304) or head.length == 0:
            self._state = _State.HEAD
        elif head.length > 0:
            self._state, self._left = _State.BODY, head.length
        elif b"transfer-encoding" in head.headers:
            self._state = _State.CHUNK_LINE
        else:
            self._state = _State.UNTIL_CLOSED

    @property
    def bodiless(self) -> bool:
        """Straight after a HEAD event: whether its answer is whole already."""
        return self._state is _State.HEAD

    def _between_chunks(self, data: memoryview, events: list[Event]) -> memoryview:
        line, data = self._line(data)
        if line is None:
            return data
        if self._state is _State.CHUNK_END:
            if line:
                raise RemoteError("sends chunks that do not fit together")
            self._state = _State.CHUNK_LINE
        elif self._state is _State.CHUNK_LINE:
            match = _CHUNK.fullmatch(line)
            if match is None:
                raise RemoteError("sends chunks that do not fit together")
            self._left = int(match[1], 16)
            self._state = _State.CHUNK if self._left else _State.TRAILER
        elif line:
            self._spent += len(line) + 2
            if self._spent > MAX_HEAD:
                raise RemoteError("sends endless headers")
        else:
            self._state = _State.HEAD
            events.append((Kind.END, None))
        return data

    def _line(self, data: memoryview) -> tuple[bytes | None, memoryview]:
        """The next line without its end, None while it is not whole; and what follows."""
        before = len(self._kept)
        self._kept += data[: MAX_CHUNK_LINE + 1 - before]
        end = self._kept.find(b"\n", before)
        if end < 0:
            if len(self._kept) > MAX_CHUNK_LINE:
                raise RemoteError("sends endless lines between chunks")
            return None, memoryview(b"")
        line = bytes(self._kept[:end]).removesuffix(b"\r")
        self._kept.clear()
        return line, data[end + 1 - before :]


class _HeadParser:
    """httptools' callbacks for one head."""

    def __init__(self) -> None:
        self.reason = b""
        self.headers: dict[bytes, bytes] = {}
        self.lengths: set[bytes] = set()
        self.count = 0
        self.complete = False

    def on_status(self, reason: bytes) -> None:
        self.reason = reason

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.count += 1
        self.headers[name] = value
        if name == b"content-length":
            self.lengths.add(value.strip())

    def on_headers_complete(self) -> None:
        self.complete = True


def _parse(text: bytes) -> Head:
    found = _HeadParser()
    parser = HttpResponseParser(found)
    parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
    try:
        parser.feed_data(text)
    except (HttpParserError, HttpParserUpgrade):
        raise RemoteError("does not speak HTTP") from None
    if not found.complete:
        raise RemoteError("does not speak HTTP")
    if found.count > MAX_HEADERS:
        raise RemoteError("sends endless headers")
    length = UNKNOWN
    headers = found.headers
    chunked = headers.get(b"transfer-encoding", b"").strip().lower()
    if chunked not in (b"", b"chunked"):
        raise RemoteError("answers in an encoding that was not asked for")
    if found.lengths and not chunked:
        (said, *others) = found.lengths
        if others or not said.isdigit() or len(said) > 19:
            raise RemoteError("lies about the length of its answer")
        length = int(said)
    status = parser.get_status_code()
    keeps = parser.should_keep_alive() and (length != UNKNOWN or bool(chunked) or status in (204, 304))
    return Head(status, found.reason, headers, length, keeps)
