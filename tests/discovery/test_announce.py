from __future__ import annotations

import math
import string
from ipaddress import ip_address
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast._bencode import encode
from btfast.discovery.announce import (
    DEFAULT_INTERVAL,
    LONGEST_INTERVAL,
    MAX_PEERS,
    SHORTEST_INTERVAL,
    AnnounceRequest,
    AnnounceResponse,
    announce_url,
    parse_announce,
    safe_url,
    tracker_name,
)
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress, encode_compact

INFO_HASH = bytes(range(120, 140))
PEER_ID = b"-BF0001-abcdefghij+/"


def request(**changes: object) -> AnnounceRequest:
    values: dict[str, object] = {"info_hash": INFO_HASH, "peer_id": PEER_ID, "port": 6881, "left": 1000}
    return AnnounceRequest(**(values | changes))  # type: ignore[arg-type]


def query(url: str) -> dict[str, bytes]:
    pairs = [part.partition("=")[::2] for part in urlsplit(url).query.split("&")]
    assert len({name for name, _ in pairs}) == len(pairs)
    return {name: unquote_to_bytes(value) for name, value in pairs}


def test_url_carries_every_field_of_bep_3() -> None:
    url = announce_url("http://t.example/announce", request(uploaded=5, downloaded=6, event="started", key="00ff00ff"))
    assert query(url) == {
        "info_hash": INFO_HASH,
        "peer_id": PEER_ID,
        "port": b"6881",
        "uploaded": b"5",
        "downloaded": b"6",
        "left": b"1000",
        "compact": b"1",
        "no_peer_id": b"1",
        "numwant": b"200",
        "key": b"00ff00ff",
        "event": b"started",
    }


def test_periodic_announce_has_no_event() -> None:
    assert "event" not in query(announce_url("http://t/announce", request()))


@given(st.binary(min_size=20, max_size=20), st.binary(min_size=20, max_size=20), st.binary(min_size=1, max_size=30))
def test_any_bytes_come_back_out_of_the_url(info_hash: bytes, peer_id: bytes, trackerid: bytes) -> None:
    url = announce_url("http://t/announce", request(info_hash=info_hash, peer_id=peer_id, trackerid=trackerid))
    assert set(url) <= set(string.ascii_letters + string.digits + string.punctuation)
    fields = query(url)
    assert (fields["info_hash"], fields["peer_id"], fields["trackerid"]) == (info_hash, peer_id, trackerid)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://t/announce", "http://t/announce?info_hash="),
        ("http://t/announce?", "http://t/announce?info_hash="),
        ("http://t/announce?passkey=abc", "http://t/announce?passkey=abc&info_hash="),
        ("http://t/announce?passkey=abc&", "http://t/announce?passkey=abc&info_hash="),
        ("  http://t/announce#part ", "http://t/announce?info_hash="),
    ],
)
def test_the_trackers_own_query_is_kept(base: str, expected: str) -> None:
    assert announce_url(base, request()).startswith(expected)


def test_a_url_cannot_carry_header_lines() -> None:
    url = safe_url("http://t/announce\r\nHost: other\r\n\r\n?a=\u00e9 b")
    assert url == "http://t/announce%0D%0AHost:%20other%0D%0A%0D%0A?a=%C3%A9%20b"


def test_addresses_of_both_families_may_be_told() -> None:
    fields = query(announce_url("http://t/announce", request(ipv4="192.0.2.1", ipv6="2001:db8::1")))
    assert (fields["ipv4"], fields["ipv6"]) == (b"192.0.2.1", b"2001:db8::1")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://user:secret@t.example:8080/PASSKEY/announce?key=s", "https://t.example:8080"),
        ("http://t.example", "http://t.example"),
        ("http://[::1]:80/announce", "http://[::1]:80"),
        ("nonsense", "tracker"),
        ("", "tracker"),
    ],
)
def test_messages_name_a_tracker_without_its_secrets(url: str, name: str) -> None:
    assert tracker_name(url) == name


def test_compact_answer() -> None:
    body = encode(
        {
            "interval": 900,
            "min interval": 300,
            "complete": 3,
            "incomplete": 4,
            "downloaded": 5,
            "tracker id": b"\x00id",
            "warning message": "slow\ndown",
            "external ip": bytes([192, 0, 2, 7]),
            "peers": bytes([127, 0, 0, 1, 0x1A, 0xE1, 10, 0, 0, 2, 0, 0]),
            "peers6": ip_address("2001:db8::5").packed + b"\x1a\xe1",
        }
    )
    assert parse_announce(body) == AnnounceResponse(
        interval=900.0,
        min_interval=300.0,
        peers=(PeerAddress("127.0.0.1", 6881), PeerAddress("2001:db8::5", 6881)),
        tracker_id=b"\x00id",
        warning_message="slow down",
        external_ip="192.0.2.7",
        complete=3,
        incomplete=4,
        downloaded=5,
    )


def test_list_of_dicts_with_names_and_both_families() -> None:
    entries = [
        {"ip": "192.0.2.1", "port": 1000, "peer id": b"x" * 20},
        {"ip": "2001:DB8:0::1", "port": 1001},
        {"ip": "::ffff:192.0.2.9", "port": 1002},
        {"ip": "seed.example.org", "port": 1003},
        {"ip": "192.0.2.2", "port": 0},
        {"ip": "192.0.2.3", "port": 65536},
        {"ip": "evil.example/\r\nHost: x", "port": 80},
        {"ip": "fe80::1%eth0", "port": 80},
        {"port": 80},
        {"ip": "192.0.2.4"},
        "not a dict",
        {"ip": "192.0.2.5", "port": "1004"},
    ]
    response = parse_announce(encode({"interval": 1800, "peers": entries}))
    assert response.peers == (
        PeerAddress("192.0.2.1", 1000),
        PeerAddress("2001:db8::1", 1001),
        PeerAddress("192.0.2.9", 1002),
        PeerAddress("192.0.2.5", 1004),
    )
    assert response.hostnames == (("seed.example.org", 1003),)


def test_our_own_entry_is_left_out() -> None:
    entries = [{"ip": "192.0.2.1", "port": 1, "peer id": PEER_ID}, {"ip": "192.0.2.2", "port": 2, "peer id": b"y" * 20}]
    response = parse_announce(encode({"peers": entries}), own_peer_id=PEER_ID)
    assert response.peers == (PeerAddress("192.0.2.2", 2),)


@pytest.mark.parametrize(
    "body",
    [
        b"d5:peers0:6:peers60:e",
        b"d6:peers60:5:peers0:e",  # keys out of order
        b"d5:peersdee",  # an empty PHP array
        b"d5:peerslee",
        b"de",
        b"d5:peers0:e\n",  # bytes after the end
    ],
)
def test_answers_without_peers_are_answers(body: bytes) -> None:
    assert parse_announce(body) == AnnounceResponse()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1800, 1800.0),
        (b"120", 120.0),
        (0, DEFAULT_INTERVAL),
        (-5, DEFAULT_INTERVAL),
        (1, SHORTEST_INTERVAL),
        (10**30, DEFAULT_INTERVAL),
        (10**9, LONGEST_INTERVAL),
        (b"soon", DEFAULT_INTERVAL),
        ([], DEFAULT_INTERVAL),
    ],
)
def test_intervals_are_sane(value: object, seconds: float) -> None:
    assert parse_announce(encode({"interval": value})).interval == seconds


def test_min_interval_is_at_most_the_interval() -> None:
    assert parse_announce(encode({"interval": 60, "min interval": 600})).min_interval == 60.0


@pytest.mark.parametrize(
    ("retry", "seconds"),
    [
        (5, 300.0),
        ("5", 300.0),
        ("never", math.inf),
        (0, 60.0),
        (10**9, 86400.0),
        ("x", None),
        (None, None),
    ],
)
def test_failure_reason_and_retry_in(retry: object, seconds: float | None) -> None:
    answer: dict[str, object] = {"failure reason": "unregistered\x1b[31m torrent"}
    if retry is not None:
        answer["retry in"] = retry
    response = parse_announce(encode(answer))
    assert response.failure_reason == "unregistered [31m torrent"
    assert response.retry_in == seconds


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"<html><body>It works!</body></html>", "web page"),
        (b"\n <!DOCTYPE html>", "web page"),
        (b"not a tracker", "not an announce response"),
        (b"d8:intervali1800e", "broken bencode"),
        (b"d5:peers99999999999:", "broken bencode"),
        (b"d5:peers" + b"l" * 100_000, "broken bencode"),
        (b"d5:peers5:12345e", "bad list of peers"),
        (b"d6:peers67:1234567e", "bad list of peers"),
    ],
)
def test_what_is_not_an_answer_is_one_clear_line(body: bytes, words: str) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_announce(body, tracker="tracker http://t")
    message = str(caught.value)
    assert message.startswith("tracker http://t: ")
    assert words in message
    assert "\n" not in message
    assert len(message) < 300


def test_the_number_of_peers_is_capped() -> None:
    body = encode({"peers": b"".join(bytes([10, i >> 16 & 255, i >> 8 & 255, i & 255, 0, 9]) for i in range(10_000))})
    assert len(parse_announce(body).peers) == MAX_PEERS


def test_repeated_peers_count_once() -> None:
    assert len(parse_announce(encode({"peers": bytes([10, 0, 0, 1, 0, 9]) * 50})).peers) == 1


addresses = st.builds(
    PeerAddress,
    st.one_of(
        st.ip_addresses(v=4).map(str),
        st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None).map(lambda a: a.compressed),  # type: ignore[union-attr]
    ),
    st.integers(1, 65535),
)


@given(st.lists(addresses, unique=True, max_size=20))
def test_compact_peers_survive_the_round_trip(peers: list[PeerAddress]) -> None:
    v4, v6 = encode_compact(peers)
    response = parse_announce(encode({"peers": v4, "peers6": v6}))
    assert sorted(response.peers) == sorted(peers)


values = st.recursive(
    st.one_of(st.integers(), st.binary(max_size=40)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.binary(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
keys = st.sampled_from(
    [b"interval", b"min interval", b"peers", b"peers6", b"failure reason", b"retry in", b"external ip", b"tracker id",
     b"complete", b"incomplete", b"warning message"]
)  # fmt: skip
entry = st.dictionaries(st.sampled_from([b"ip", b"port", b"peer id"]), values, max_size=3)
answers = st.dictionaries(keys, st.one_of(values, st.lists(entry, max_size=4)), max_size=11).map(encode)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda b: b"d" + b), answers))
def test_any_body_parses_or_raises_remote_error(body: bytes) -> None:
    failure = ""
    try:
        response = parse_announce(body)
    except RemoteError as error:
        failure = str(error)
        response = AnnounceResponse()
    assert failure.isprintable()
    assert SHORTEST_INTERVAL <= response.interval <= LONGEST_INTERVAL
    assert response.min_interval is None or SHORTEST_INTERVAL <= response.min_interval <= response.interval
    for peer in response.peers:
        assert ip_address(peer.host)
        assert 0 < peer.port < 65536
    for text in (response.failure_reason, response.warning_message):
        assert text is None or (0 < len(text) <= 200 and "\n" not in text)
    assert response.retry_in is None or response.retry_in >= 60


@given(answers.filter(lambda body: len(body) > 2), st.data())
def test_a_cut_answer_never_parses(body: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(RemoteError):
        parse_announce(body[:cut])


def test_query_values_need_no_decoding_twice() -> None:
    url = announce_url("http://t/announce?a=%2B", request())
    assert parse_qsl(urlsplit(url).query)[0] == ("a", "+")
