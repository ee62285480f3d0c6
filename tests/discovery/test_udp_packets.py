"""UDP tracker datagrams as bytes (BEP 15, 41), right ones, short ones, and any."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast.discovery import udp_tracker as packets
from btfast.discovery.announce import LONGEST_INTERVAL, MAX_PEERS, SHORTEST_INTERVAL, AnnounceRequest, ScrapedSwarm
from btfast.errors import InputError, RemoteError
from btfast.metainfo.addresses import PeerAddress

INFO_HASH, PEER_ID = bytes(range(120, 140)), b"-BF0001-abcdefghij+/"


def request(**changes: object) -> AnnounceRequest:
    values: dict[str, object] = {"info_hash": INFO_HASH, "peer_id": PEER_ID, "port": 6881, "left": 1000}
    return AnnounceRequest(**(values | changes))  # type: ignore[arg-type]


def test_an_announce_has_each_field_in_its_place() -> None:
    body = packets.announce_body(
        request(downloaded=1, left=2, uploaded=3, event="started", key="deadbeef", numwant=50, port=0x1AE1)
    )
    datagram = packets.HEADER.pack(b"c" * 8, packets.ANNOUNCE, 7) + body
    assert len(datagram) == 98
    assert datagram[:16] == b"c" * 8 + bytes((0, 0, 0, 1, 0, 0, 0, 7))
    assert (datagram[16:36], datagram[36:56]) == (INFO_HASH, PEER_ID)
    assert struct.unpack_from("!QQQ", datagram, 56) == (1, 2, 3)
    assert struct.unpack_from("!IIIiH", datagram, 80) == (2, 0, 0xDEADBEEF, 50, 0x1AE1)


@pytest.mark.parametrize(("event", "number"), [(None, 0), ("completed", 1), ("started", 2), ("stopped", 3)])
def test_events_have_their_numbers(event: str | None, number: int) -> None:
    assert struct.unpack_from("!I", packets.announce_body(request(event=event)), 64) == (number,)


def test_numbers_too_large_for_a_field_are_cut() -> None:
    body = packets.announce_body(request(left=1 << 70, uploaded=1 << 64, key="x" * 50))
    assert struct.unpack_from("!QQQ", body, 40) == (0, (1 << 63) - 1, (1 << 63) - 1)
    assert packets.announce_body(request(numwant=200), v6=True)[-6:-2] == (75).to_bytes(4, "big")


def test_the_path_and_query_go_as_url_data() -> None:
    options = packets.announce_body(request(), b"/dir?a=b&c=d")[82:]
    assert options == bytes.fromhex("020c2f6469723f613d6226633d64")
    assert packets.url_data(options) == b"/dir?a=b&c=d"
    assert packets.url_data(options + bytes.fromhex("010100") + b"\2\1x") == b"/dir?a=b&c=d"
    long = b"/" + b"k" * 600
    assert packets.url_data(packets.announce_body(request(), long)[82:]) == long


@given(st.binary(max_size=600))
def test_any_options_can_be_read(data: bytes) -> None:
    assert len(packets.url_data(data)) <= len(data)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("udp://tracker.example:6969", ("tracker.example", 6969, b"")),
        ("UDP://tracker.example:80/announce?key=ü", ("tracker.example", 80, b"/announce?key=%C3%BC")),
        ("udp://[::1]:6969/announce#part", ("::1", 6969, b"/announce")),
        ("udp://user@127.0.0.1:1/", ("127.0.0.1", 1, b"/")),
    ],
)
def test_urls(url: str, parts: tuple[str, int, bytes]) -> None:
    assert packets.parse_url(url, "tracker") == parts


@pytest.mark.parametrize(
    "url",
    [
        "udp://", "udp://host", "udp://host:0", "udp://host:65536", "udp://:80", "udp://[::1:80", "http://a:1",
        "udp://a b:1", "udp://a:1x",
    ],
)  # fmt: skip
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(InputError, match=r"^tracker x: not a usable udp address"):
        packets.parse_url(url, "tracker x")


def test_an_answer_of_either_family() -> None:
    head = struct.pack("!III", 1800, 4, 9)
    v4 = packets.parse_announce(head + bytes((10, 0, 0, 1, 0, 80, 10, 0, 0, 2, 0, 0, 9)), "t", v6=False)
    assert (v4.interval, v4.incomplete, v4.complete, v4.min_interval) == (1800.0, 4, 9, None)
    assert v4.peers == (PeerAddress("10.0.0.1", 80),)
    v6 = packets.parse_announce(head + bytes(15) + bytes((1, 0, 80)) + b"cut", "t", v6=True)
    assert v6.peers == (PeerAddress("::1", 80),)


@pytest.mark.parametrize("size", range(12))
def test_a_short_answer_is_a_failure(size: int) -> None:
    with pytest.raises(RemoteError, match=r"^tracker x: the answer is cut short"):
        packets.parse_announce(bytes(size), "tracker x", v6=False)


@given(st.binary(max_size=400), st.booleans())
def test_any_answer_is_read_or_refused(data: bytes, v6: bool) -> None:
    if len(data) < 12:
        with pytest.raises(RemoteError):
            packets.parse_announce(data, "tracker x", v6=v6)
        return
    answer = packets.parse_announce(data, "tracker x", v6=v6)
    assert SHORTEST_INTERVAL <= answer.interval <= LONGEST_INTERVAL
    assert all(peer.port for peer in answer.peers)


def test_a_huge_answer_is_cut() -> None:
    data = bytes(12) + b"".join(struct.pack("!IH", number, 80) for number in range(10_000))
    assert len(packets.parse_announce(data, "t", v6=False).peers) == MAX_PEERS


def test_scrapes() -> None:
    hashes = [bytes([number]) * 20 for number in range(100)]
    assert len(packets.scrape_body(hashes)) == packets.MAX_SCRAPED * 20
    answer = struct.pack("!IIIIII", 1, 2, 3, 4, 5, 6)
    assert packets.parse_scrape(answer + b"more", hashes[:2], "t") == {
        hashes[0]: ScrapedSwarm(complete=1, downloaded=2, incomplete=3),
        hashes[1]: ScrapedSwarm(complete=4, downloaded=5, incomplete=6),
    }
    with pytest.raises(RemoteError, match=r"^t: the answer to the scrape is cut short"):
        packets.parse_scrape(answer[:-1], hashes[:2], "t")


@pytest.mark.parametrize(
    ("body", "text"),
    [(b"not registered\0", "not registered"), (b"", "no reason given"), (b"a\nb\x1b[31m", "a b [31m"), (b"\xff", "\ufffd")],
)
def test_errors_become_one_line(body: bytes, text: str) -> None:
    assert packets.parse_error(body) == text


@given(st.binary(max_size=300))
def test_any_error_becomes_one_line(body: bytes) -> None:
    reading: Callable[[bytes], str] = packets.parse_error
    assert 0 < len(reading(body)) <= 200
    assert "\n" not in reading(body)
