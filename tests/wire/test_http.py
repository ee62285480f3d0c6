"""HTTP answers as bytes: read whole, cut anywhere, one behind the other; what is no HTTP is refused with a reason."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast.errors import RemoteError
from btfast.wire.http import UNKNOWN, ContentRange, Head, HttpReader, Kind, content_range

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
FIRST = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


class Read:
    """What came of some bytes: heads, bodies, and how many answers ended."""

    def __init__(self, reader: HttpReader | None = None) -> None:
        self.reader = reader or HttpReader()
        self.heads: list[Head] = []
        self.bodies: list[bytes] = []
        self.ended = 0

    def feed(self, data: bytes) -> None:
        view = memoryview(data)
        while len(view):
            for kind, value in self.reader.feed(view):
                if kind is Kind.HEAD:
                    assert isinstance(value, Head)
                    self.heads.append(value)
                    self.bodies.append(b"")
                    self.ended += self.reader.bodiless
                elif kind is Kind.DATA:
                    assert isinstance(value, memoryview)
                    self.bodies[-1] += value
                else:
                    self.ended += 1
            view = self.reader.rest


def read_in(data: bytes, portion: int) -> Read:
    read = Read()
    for at in range(0, len(data), portion):
        read.feed(data[at : at + portion])
    return read


@pytest.mark.parametrize("cut", range(1, 40))
def test_answers_are_the_same_however_their_bytes_are_cut(cut: int) -> None:
    data = FIRST + PLAIN + CHUNKED + EMPTY + PLAIN
    read = read_in(data, cut)
    assert [head.status for head in read.heads] == [200, 200, 204, 200]
    assert read.bodies == [b"hello", b"hello", b"", b"hello"]
    assert read.ended == 4
    assert read.reader.idle


def test_the_body_may_be_received_elsewhere() -> None:
    read = Read()
    read.feed(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 100\r\n\r\n0123456789")
    assert read.reader.straight == 90
    assert read.reader.took(50) is False
    assert read.reader.straight == 40
    assert read.reader.took(40) is True
    assert read.reader.idle
    read.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n")
    assert read.reader.straight == 10
    assert read.reader.took(10) is False
    read.feed(b"\r\n0\r\n\r\n")
    assert read.ended == 1
    assert read.reader.idle


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    read = Read()
    read.feed(b"HTTP/1.0 200 OK\r\n\r\nsome")
    assert read.heads[0].length == UNKNOWN
    assert not read.heads[0].keeps
    assert read.reader.straight == 0
    assert read.reader.handle_closed() is True
    other = Read()
    other.feed(PLAIN[:-1])
    assert other.reader.handle_closed() is False


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
        (b"SSH-2.", "does not speak HTTP"),
        (b"HTTP/1.1 banana\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "."),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000, "endless headers"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "endless headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "."),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "."),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "."),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n", "do not fit"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", "do not fit"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000, "endless lines"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 20_000, "endless headers"),
    ],
)
def test_what_is_no_http_is_refused_whole_and_byte_by_byte(data: bytes, why: str) -> None:
    with pytest.raises(RemoteError, match=why):
        Read().feed(data)
    with pytest.raises(RemoteError, match=why):
        read_in(data, 1)


def head(**headers: str) -> Head:
    return Head(206, b"", {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}, UNKNOWN, True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 0-9/100", ContentRange(0, 9, 100)),
        ("bytes 5-5/*", ContentRange(5, 5, UNKNOWN)),
        ("BYTES  5-9/10", ContentRange(5, 9, 10)),
        ("bytes */77", ContentRange(-1, -1, 77)),
        ("bytes 9-5/100", None),
        ("bytes 0-100/100", None),
        ("bytes 0-/100", None),
        ("items 0-9/100", None),
        ("bytes 0-9", None),
        ("bytes 99999999999999999999-9/1", None),
        ("", None),
    ],
)
def test_content_ranges_that_can_be_and_those_that_cannot(value: str, expected: ContentRange | None) -> None:
    assert content_range(head(content_range=value)) == expected


def test_only_what_if_range_may_carry_is_a_validator() -> None:
    assert head(etag='"abc"', last_modified="x").validator == b'"abc"'
    assert head(etag='W/"abc"', last_modified="Sat, 28 Nov 2026 12:00:00 GMT").validator == b"Sat, 28 Nov 2026 12:00:00 GMT"
    assert head(etag="é").validator == b""
    assert head(etag='"' + "x" * 600 + '"').validator == b""
    assert head().validator == b""


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 1 << 30), st.sampled_from([PLAIN, CHUNKED, FIRST, EMPTY, b""]))
def test_any_bytes_parse_or_raise_the_typed_error(tail: bytes, seed: int, front: bytes) -> None:
    rng = random.Random(seed)
    data = bytearray(front + tail)
    for _ in range(rng.randrange(3)):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    read = Read()
    at = 0
    with contextlib.suppress(RemoteError):
        while at < len(data):
            count = rng.randrange(1, 50)
            read.feed(bytes(data[at : at + count]))
            at += count
    assert read.ended <= len(read.heads)
