from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast.errors import RemoteError
from btfast.wire import extensions
from btfast.wire.extensions import ExtendedHandshake, decode_extended_handshake, encode_extended_handshake, merge_names
from btfast.wire.messages import decode_message

ports = st.one_of(st.none(), st.integers(1, 65535))
said = st.builds(
    ExtendedHandshake,
    m=st.dictionaries(st.text(min_size=1, max_size=20), st.integers(0, 255), max_size=5),
    client=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
    port=ports,
    reqq=ports,
    metadata_size=ports,
    upload_only=st.booleans(),
    yourip=st.one_of(st.none(), st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)),
    ipv4=st.one_of(st.none(), st.binary(min_size=4, max_size=4)),
    ipv6=st.one_of(st.none(), st.binary(min_size=16, max_size=16)),
    encryption=st.booleans(),
)


def body_of(message: bytes) -> bytes:
    kind, ext_id, body = decode_message(message[4:])
    assert (kind, ext_id) == (20, 0)
    assert int.from_bytes(message[:4], "big") == len(message) - 4
    assert isinstance(body, bytes)
    return body


@given(said)
def test_what_is_encoded_decodes_to_the_same(value: ExtendedHandshake) -> None:
    fields = {name: getattr(value, name) for name in value.__struct_fields__}
    assert decode_extended_handshake(body_of(encode_extended_handshake(**fields))) == value


@given(st.binary(max_size=200))
def test_garbage_is_a_remote_error_and_nothing_else(data: bytes) -> None:
    try:
        decode_extended_handshake(data)
    except RemoteError:
        return


def test_our_own_handshake_names_our_extensions() -> None:
    read = decode_extended_handshake(body_of(encode_extended_handshake(client="btfast 0.1.0", port=6881)))
    assert read.m == {"ut_pex": 1, "ut_metadata": 2, "upload_only": 3, "lt_donthave": 7}
    assert (read.client, read.port, read.reqq, read.upload_only) == ("btfast 0.1.0", 6881, 2000, False)


def test_values_of_a_wrong_kind_or_range_count_as_absent() -> None:
    read = decode_extended_handshake(
        b"d1:ei0e4:ipv43:abc1:md1:ai256e1:bi-1e1:c1:x1:di9ee13:metadata_sizei-5e1:pi70000e4:reqqi0e"
        b"11:upload_onlyi2e1:vi4e6:yourip5:abcdee"
    )
    assert read == ExtendedHandshake(m={"d": 9})


@pytest.mark.parametrize("data", [b"", b"i1e", b"le", b"d1:m", b"9" * 300, b"d" * 500, b"d1:md99999999999:"])
def test_a_malformed_handshake_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteError):
        decode_extended_handshake(data)


def test_an_endless_handshake_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(RemoteError, match="above"):
        decode_extended_handshake(bytes(extensions.MAX_EXTENDED + 1))


def test_a_hostile_client_name_is_cut_and_made_printable() -> None:
    read = decode_extended_handshake(b"d1:v300:" + b"\x1b[2J\xff" * 60 + b"e")
    assert len(read.client) <= 256
    assert "\x1b" not in read.client


def test_names_add_up_and_zero_removes() -> None:
    assert merge_names({"ut_pex": 1, "ut_metadata": 2}, {"ut_pex": 0, "lt_donthave": 3}) == {"ut_metadata": 2, "lt_donthave": 3}


def test_names_that_we_do_not_speak_are_not_kept() -> None:
    assert merge_names({"ut_pex": 1}, {f"name {number}": 9 for number in range(256)}) == {"ut_pex": 1}


def test_small_bodies() -> None:
    for said in (True, False):
        assert extensions.decode_upload_only(extensions.encode_upload_only(said)) is said
    for body in (b"", b"\0\1"):
        with pytest.raises(RemoteError, match="upload_only"):
            extensions.decode_upload_only(body)
    assert extensions.decode_dont_have(bytes.fromhex("00000009")) == 9
    with pytest.raises(RemoteError):
        extensions.decode_dont_have(b"\0")
