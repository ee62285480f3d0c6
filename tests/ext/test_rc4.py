"""RC4: the vectors of RFC 6229 and of the original posting, and any cut of a stream."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast._rc4 import Rc4

SHORT = bytes.fromhex("0102030405")
LONG = bytes(range(1, 33))

# RFC 6229: 16 bytes of the key stream of a key from an offset on.
RFC_6229 = [
    (SHORT, 0, "b2396305f03dc027ccc3524a0a1118a8"),
    (SHORT, 16, "6982944f18fc82d589c403a47a0d0919"),
    (SHORT, 240, "28cb1132c96ce286421dcaadb8b69eae"),
    (SHORT, 1024, "30abbcc7c20b01609f23ee2d5f6bb7df"),
    (SHORT, 4096, "ff25b58995996707e51fbdf08b34d875"),
    (LONG[:7], 0, "293f02d47f37c9b633f2af5285feb46b"),
    (LONG[:16], 0, "9ac7cc9a609d1ef7b2932899cde41b97"),
    (LONG[:16], 1024, "bdf0324e6083dcc6d3cedd3ca8c53c16"),
    (LONG, 0, "eaa6bd25880bf93d3f5d1e4ca2611d91"),
]


@pytest.mark.parametrize(("key", "offset", "expected"), RFC_6229)
def test_the_key_stream_is_that_of_rfc_6229(key: bytes, offset: int, expected: str) -> None:
    assert Rc4(key).crypt(bytes(offset + 16))[offset:].hex() == expected
    assert Rc4(key, drop=offset).crypt(bytes(16)).hex() == expected


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        (b"Key", b"Plaintext", "bbf316e8d940af0ad3"),
        (b"Wiki", b"pedia", "1021bf0420"),
        (b"Secret", b"Attack at dawn", "45a01f645fc35b383552544b9bf5"),
    ],
)
def test_known_texts(key: bytes, text: bytes, expected: str) -> None:
    assert Rc4(key).crypt(text).hex() == expected


def reference(key: bytes, length: int) -> bytes:
    """The key stream as the textbook makes it."""
    table = list(range(256))
    j = 0
    for i in range(256):
        j = (j + table[i] + key[i % len(key)]) % 256
        table[i], table[j] = table[j], table[i]
    out, i, j = bytearray(), 0, 0
    for _ in range(length):
        i = (i + 1) % 256
        j = (j + table[i]) % 256
        table[i], table[j] = table[j], table[i]
        out.append(table[(table[i] + table[j]) % 256])
    return bytes(out)


@given(
    key=st.binary(min_size=1, max_size=256), sizes=st.lists(st.integers(0, 700), max_size=12), drop=st.integers(0, 40)
)
def test_any_cut_of_the_stream_is_the_same(key: bytes, sizes: list[int], drop: int) -> None:
    data = random.Random(1).randbytes(sum(sizes))
    expected = bytes(a ^ b for a, b in zip(data, reference(key, drop + len(data))[drop:], strict=True))
    for in_place in (False, True):
        cipher, found, at = Rc4(key, drop=drop), bytearray(), 0
        for size in sizes:
            part = bytearray(data[at : at + size])
            if in_place:
                cipher.apply(part)
            found += part if in_place else cipher.crypt(part)
            at += size
        assert found == expected


def test_every_length_up_to_a_kibibyte_is_the_same() -> None:
    """From each phase of the eight steps that are taken at once; and the other direction stays apart from it."""
    lengths = list(range(1025))
    random.Random(2).shuffle(lengths)
    streams = {key: (Rc4(key), reference(key, sum(lengths))) for key in (b"one", b"another")}
    at = 0
    for length in lengths:
        for cipher, expected in streams.values():
            part = bytearray(length)
            cipher.apply(part)
            assert part == expected[at : at + length]
        at += length


def test_a_long_stream_collides_often_enough() -> None:
    """The kernel's shortcut is wrong one time in 256 if it is wrong."""
    assert Rc4(b"a key").crypt(bytes(200_000)) == reference(b"a key", 200_000)


@pytest.mark.parametrize("key", [b"", bytes(257)])
def test_other_keys_are_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="key of"):
        Rc4(key)


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises((BufferError, TypeError, ValueError)):
        Rc4(b"key").apply(b"constant")  # type: ignore[arg-type]
