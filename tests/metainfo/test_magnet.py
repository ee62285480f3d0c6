"""Magnet links: what each parameter means, what is refused, and that writing is the inverse of reading."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast.errors import InputError
from btfast.metainfo.magnet import MAX_LENGTH, Magnet

HEX = "c9e15763f722f23e98a29decdfae341b98d53056"
HASH = bytes.fromhex(HEX)
V2 = "1220" + "ab" * 32
XT = f"xt=urn:btih:{HEX}"

calm = settings(deadline=None, derandomize=True)
words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Cn", "Cf", "Co", "Zl", "Zp"]), min_size=1, max_size=30
)
magnets = st.builds(
    Magnet,
    info_hash=st.binary(min_size=20, max_size=20),
    info_hash_v2=st.none() | st.binary(min_size=32, max_size=32),
    name=st.none() | words,
    trackers=st.lists(words, max_size=4, unique=True).map(tuple),
    web_seeds=st.lists(words, max_size=4, unique=True).map(tuple),
    peers=st.lists(
        st.tuples(st.sampled_from(["1.2.3.4", "::1", "host.example"]), st.integers(1, 65535)), max_size=4, unique=True
    ).map(tuple),
    select_only=st.lists(st.tuples(st.integers(0, 9), st.integers(9, 99)), max_size=4).map(tuple),
).filter(lambda magnet: magnet.info_hash_v1 is not None)


def test_every_parameter_is_read() -> None:
    magnet = Magnet.parse(
        f"magnet:?{XT}&xt=urn:btmh:{V2}&dn=A%20name+here&xl=5&tr=http%3A%2F%2Ft%2Fannounce&tr.1=udp://u:1&tr=http://t/announce"
        "&ws=http://w/&as=http://a/&x.pe=1.2.3.4:5&x.pe=[::1]:6&x.pe=host:7&x.pe=nonsense&so=0,2,4-6&kt=x&flag#fragment"
    )
    assert magnet == Magnet(
        info_hash=HASH,
        info_hash_v2=bytes.fromhex(V2[4:]),
        name="A name here",
        trackers=("http://t/announce", "udp://u:1"),
        web_seeds=("http://w/", "http://a/"),
        peers=(("1.2.3.4", 5), ("::1", 6), ("host", 7)),
        select_only=((0, 0), (2, 2), (4, 6)),
    )


@pytest.mark.parametrize(
    "text", [HEX, HEX.upper(), base64.b32encode(HASH).decode(), base64.b32encode(HASH).decode().lower()]
)
def test_the_info_hash_is_read_in_all_its_spellings(text: str) -> None:
    assert Magnet.from_info_hash(f" {text}\n") == Magnet(info_hash=HASH)
    assert Magnet.parse(f"  MAGNET:?XT=URN:BTIH:{text}\n").info_hash == HASH
    assert Magnet.parse(f"magnet:?xt.1=urn%3Abtih%3A{text}").info_hash == HASH


def test_the_same_hash_twice_is_one_torrent() -> None:
    assert Magnet.parse(f"magnet:?{XT}&xt=urn:btih:{base64.b32encode(HASH).decode()}").info_hash == HASH


def test_a_tracker_keeps_its_plus_and_its_escapes() -> None:
    magnet = Magnet.parse(f"magnet:?{XT}&tr=http%3A%2F%2Ft%2Fa%2Bb%3Fk%3D1%2526&tr=http://t/c+d")
    assert magnet.trackers == ("http://t/a+b?k=1%26", "http://t/c+d")


def test_text_that_is_not_utf8_or_not_printable_does_no_harm() -> None:
    magnet = Magnet.parse(f"magnet:?{XT}&dn=%ff&tr=http://t/%0d%0aHost:x&tr=%20&tr=")
    assert magnet.name == "\ufffd"
    assert magnet.trackers == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "magnet:",
        "magnet:?",
        f"magnet:{XT}",
        f"http://x/?{XT}",
        "magnet:?dn=x",
        "magnet:?xt=urn:sha1:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C",
        "magnet:?xt=urn:btih:",
        f"magnet:?{XT[:-1]}",
        f"magnet:?{XT}0",
        "magnet:?xt=urn:btih:" + "g" * 40,
        "magnet:?xt=urn:btih:" + "1" * 32,
        f"magnet:?{XT}&xt=urn:btih:{'0' * 40}",
        f"magnet:?{XT}&xt=urn:btmh:1220ab",
        f"magnet:?xt=urn:btmh:{V2[4:]}",
        f"magnet:?xt=urn:btmh:{V2}&xt=urn:btmh:1220{'cd' * 32}",
        f"magnet:?{XT}&xt=urn:btmh:1114{'ab' * 32}",
        f"magnet:?{XT}&so=x",
        f"magnet:?{XT}&so=5-2",
        f"magnet:?{XT}&so=-1",
        f"magnet:?{XT}&so=1,,2",
        f"magnet:?{XT}&so={'9' * 5000}",
        f"magnet:?{XT}&dn={'x' * MAX_LENGTH}",
    ],
)
def test_what_is_no_magnet_of_ours_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Magnet.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        HEX[:-1],
        HEX + "0",
        "g" * 40,
        "\u0661" * 40,
        f"magnet:?{XT}",
        "ab" * 31,
        "ab" * 33,
        "1220" + "ab" * 31,
        "1114" + "ab" * 32,
    ],
)
def test_what_is_no_info_hash_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Magnet.from_info_hash(text)


def test_a_v2_magnet_is_of_one_swarm_and_one_with_both_hashes_of_two() -> None:
    v2 = bytes.fromhex(V2[4:])
    alone = Magnet.parse(f"magnet:?xt=urn:btmh:{V2}")
    assert (alone.info_hash, alone.info_hash_v1, alone.info_hash_v2) == (v2[:20], None, v2)
    assert alone.swarm_hashes == (v2[:20],)
    assert alone.uri() == f"magnet:?xt=urn:btmh:{V2}"
    both = Magnet.parse(f"magnet:?{XT}&xt=urn:btmh:{V2}")
    assert (both.info_hash, both.info_hash_v1, both.info_hash_v2) == (HASH, HASH, v2)
    assert both.swarm_hashes == (HASH, v2[:20])
    assert Magnet.parse(f"magnet:?{XT}").swarm_hashes == (HASH,)


@pytest.mark.parametrize("text", [V2, V2[4:], V2.upper(), f" {V2}\n"])
def test_a_v2_info_hash_is_read_with_and_without_its_prefix(text: str) -> None:
    assert Magnet.from_info_hash(text) == Magnet.parse(f"magnet:?xt=urn:btmh:{V2}")


def test_metadata_is_known_by_the_hashes_that_the_link_gives() -> None:
    data, other = b"d4:name1:xe", b"d4:name1:ye"
    v1, v2 = hashlib.sha1(data).digest(), hashlib.sha256(data).digest()
    for link in (
        Magnet(info_hash=v1),
        Magnet(info_hash=v1, info_hash_v2=v2),
        Magnet(info_hash=v2[:20], info_hash_v2=v2),
    ):
        assert link.names(data)
        assert not link.names(other)
    assert Magnet(info_hash=v2[:20]).names(data), "a v2 hash that was cut off looks like one of v1"
    contradictory = Magnet(info_hash=v1, info_hash_v2=hashlib.sha256(other).digest())
    assert contradictory.names(data), "no peer is to blame for it"
    assert contradictory.names(other)


def test_repeated_parameters_are_bounded() -> None:
    magnet = Magnet.parse(f"magnet:?{XT}" + "".join(f"&tr=u{n}" for n in range(5000)))
    assert len(magnet.trackers) == 1000


def test_the_link_is_written_in_a_form_that_all_clients_read() -> None:
    magnet = Magnet(
        info_hash=HASH, name="a b&c", trackers=("http://t/?k=1",), peers=(("::1", 5),), select_only=((1, 1), (3, 5))
    )
    assert magnet.uri() == f"magnet:?{XT}&dn=a%20b%26c&tr=http%3A%2F%2Ft%2F%3Fk%3D1&x.pe=[::1]:5&so=1,3-5"
    assert str(magnet) == magnet.uri()


@calm
@given(magnets)
def test_reading_undoes_writing(magnet: Magnet) -> None:
    assert Magnet.parse(magnet.uri()) == magnet


@calm
@given(st.text(max_size=80), st.booleans())
def test_any_text_is_read_or_refused(text: str, prefixed: bool) -> None:
    try:
        magnet = Magnet.parse(f"magnet:?{XT}&{text}" if prefixed else f"magnet:?{text}")
    except InputError as error:
        refusal = str(error)
        assert "\n" not in refusal
    else:
        assert Magnet.parse(magnet.uri()) == magnet
