"""ut_metadata (BEP 9): what clients send is read, anything else is one clear error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast.errors import RemoteError
from btfast.wire.ut_metadata import DATA, PIECE, REJECT, REQUEST, MetadataMessage, decode_metadata, encode_metadata


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"d8:msg_typei0e5:piecei0ee", MetadataMessage(REQUEST, 0)),
        (b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxxxxxx", MetadataMessage(DATA, 0, 34256, b"xxxxxxxx")),
        (b"d8:msg_typei2e5:piecei7ee", MetadataMessage(REJECT, 7)),
        # libtorrent echoes the size on rejects; a request may be followed by anything.
        (b"d8:msg_typei2e5:piecei7e10:total_sizei9ee", MetadataMessage(REJECT, 7, 9)),
        (b"d8:msg_typei0e5:piecei0eejunk", MetadataMessage(REQUEST, 0)),
        # rTorrent's last piece of a size that is a multiple of 16 KiB
        (b"d8:msg_typei1e5:piecei2e10:total_sizei32768ee", MetadataMessage(DATA, 2, 32768, b"")),
        (b"d5:piecei3e8:msg_typei0ee", MetadataMessage(REQUEST, 3)),
        (b"d8:msg_typei1e5:piecei0e10:total_size3:abcee", MetadataMessage(DATA, 0, None, b"e")),
        (b"d8:msg_typei1e5:piecei0e10:total_sizei-5eex", MetadataMessage(DATA, 0, None, b"x")),
    ],
)
def test_what_clients_send_is_read(body: bytes, message: MetadataMessage) -> None:
    assert decode_metadata(body) == message


def test_an_unknown_type_is_ignored() -> None:
    for kind in (b"i3e", b"i-1e", b"1:0", b"le"):
        assert decode_metadata(b"d8:msg_type" + kind + b"5:piecei0ee") is None


@pytest.mark.parametrize(
    "body",
    [
        b"", b"d", b"i0e", b"le", b"d8:msg_typei0ee", b"d8:msg_typei0e5:piecei-1ee", b"d8:msg_typei0e5:piecei65536ee",
        b"d8:msg_typei0e5:piece1:0e", b"d8:msg_typei1e5:piecei0ee" + bytes(PIECE + 1), bytes(PIECE + 2000),
        b"d" * 5000, b"99999999999:", b"d8:msg_typei0e5:piecei99999999999999999999ee",
    ],
)  # fmt: skip
def test_what_breaks_the_protocol_is_a_remote_error(body: bytes) -> None:
    with pytest.raises(RemoteError, match=r"ut_metadata: .*: the peer is dropped") as caught:
        decode_metadata(body)
    assert "\n" not in str(caught.value)


@given(
    st.builds(
        MetadataMessage,
        st.just(DATA),
        st.integers(0, 65535),
        st.none() | st.integers(1, 1 << 40),
        st.binary(max_size=PIECE),
    )
    | st.builds(MetadataMessage, st.sampled_from([REQUEST, REJECT]), st.integers(0, 65535), st.none(), st.just(b""))
)
def test_what_is_written_is_read_back(message: MetadataMessage) -> None:
    assert decode_metadata(encode_metadata(message)) == message


@given(st.binary(max_size=200) | st.binary(max_size=50).map(lambda tail: b"d8:msg_typei1e5:piece" + tail))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(RemoteError):
        decode_metadata(body)
