"""The DHT of the network process: its state file, its life, PORT messages, and when it is asked at all."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import pytest
from engine_parts import small_context, until

from btfast.discovery.dht.events import Moved
from btfast.discovery.dht.items import Item, make_value
from btfast.discovery.dht.krpc import Contact
from btfast.discovery.dht.state import Saved, SavedFamily, decode_state, encode_state
from btfast.engine.dht import STATE_FILE, Dht, write_whole
from btfast.engine.dht_finding import GRACE, DhtFinding
from btfast.errors import InputError
from btfast.metainfo.addresses import PeerAddress

CONTACTS = tuple(Contact(bytes([n]) * 20, bytes([99, n, 1, 1, 26, 225])) for n in range(1, 30))
SAVED = Saved(SavedFamily(b"i" * 20, bytes([81, 2, 69, 142]), CONTACTS), SavedFamily(b"j" * 20, b"", ()))


class Listener:
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.ended: list[Any] = []

    def dht_found(self, event: Any) -> None:
        self.events.append(event)

    def dht_ended(self, event: Any) -> None:
        self.ended.append(event)


def node(**settings: Any) -> tuple[Any, Dht]:
    context = small_context(**({"dht": True} | settings))
    return context, context.dht


async def close(context: Any) -> None:
    await context.dht.close()
    context.udp.close()
    context.resolver.close()


def test_the_state_survives_the_way() -> None:
    assert decode_state(encode_state(SAVED)) == SAVED


def test_damaged_state_is_an_input_error() -> None:
    good, rng = encode_state(SAVED), random.Random(1)
    for _ in range(500):
        bad = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        try:
            decode_state(bytes(bad[: rng.randrange(len(bad) + 1)]))
        except InputError:
            continue
    short = encode_state(SAVED._replace(v4=SavedFamily(b"short")))
    for bad_bytes in (b"", b"i1e", b"de", b"x" * 100_000, good[:-1], good + b"e", short):
        with pytest.raises(InputError):
            decode_state(bad_bytes)


async def test_it_keeps_who_answered_and_begins_with_them(tmp_path: Path) -> None:
    server, there = node(state=str(tmp_path / "a"))
    assert there.start()
    there_at = f"127.0.0.1:{server.udp.port()}"
    client, here = node(state=str(tmp_path / "b"), dht_bootstrap=(there_at,))
    listener = Listener()
    assert here.find_peers(b"h" * 20, listener)
    await until(lambda: listener.ended, "the search ended")
    assert listener.ended[0].answers == 1
    await close(client)
    saved = decode_state((tmp_path / "b" / STATE_FILE).read_bytes())
    assert [contact.endpoint[-2:] for contact in saved.v4.contacts] == [server.udp.port().to_bytes(2, "big")]
    assert os.listdir(tmp_path / "b") == [STATE_FILE]

    again, once_more = node(state=str(tmp_path / "b"))
    assert not once_more.hopeless
    listener = Listener()
    assert once_more.find_peers(b"h" * 20, listener)
    await until(lambda: listener.ended, "the search ended")
    assert listener.ended[0].answers == 1
    await close(again)
    await close(server)
    assert client.warnings == again.warnings == server.warnings == []


async def test_a_damaged_state_file_is_told_of_and_left_behind(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_bytes(b"d4:junk")
    context, dht = node(state=str(tmp_path))
    assert dht.start()
    (warning,) = context.warnings
    assert STATE_FILE in warning
    assert "afresh" in warning
    await close(context)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_whole(str(path), b"one")
    write_whole(str(path), b"two")
    assert path.read_bytes() == b"two"
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(str(path), b"three")
    assert os.listdir(tmp_path / "deep") == ["file"]


async def test_nobody_is_asked_from_the_loopback_unless_somebody_was_named() -> None:
    context, dht = node()
    assert dht.hopeless
    listener = Listener()
    assert dht.find_peers(b"h" * 20, listener)
    await until(lambda: listener.ended, "there is nobody")
    assert listener.ended[0].questions == 0
    assert context.udp.unsent == 0
    dht.handle_port("127.0.0.1", 80)
    assert dht.hopeless
    dht.handle_port("127.0.0.1", 5000)
    assert not dht.hopeless
    await close(context)


async def test_items_and_samples_go_through_it_too(tmp_path: Path) -> None:
    server, there = node(state=str(tmp_path / "a"))
    there.start()
    client, here = node(state=str(tmp_path / "b"), dht_bootstrap=(f"127.0.0.1:{server.udp.port()}",))
    item = Item(make_value([b"kept", 5]))
    stored, found, sampled = Listener(), Listener(), Listener()
    assert here.put_item(item, stored)
    await until(lambda: stored.ended, "it is stored")
    assert stored.ended[0].stored == 1
    assert here.find_item(item.target, found)
    await until(lambda: found.ended, "it is found")
    assert [event.item for event in found.events] == [item]
    assert there.node is not None
    there.node.peers.announce(b"h" * 20, CONTACTS[0].endpoint, 0.0)
    assert here.sample_hashes(b"t" * 20, sampled)
    await until(lambda: sampled.ended, "the samples are there")
    assert [event.hashes for event in sampled.events] == [[b"h" * 20]]
    await close(client)
    await close(server)


class Peer:
    def __init__(self, host: str) -> None:
        self.address = PeerAddress(host, 1)
        self.dht_owed = True
        self.sent = b""

    def send(self, data: bytes) -> None:
        self.sent += data

    def flush(self) -> None: ...


async def test_a_peer_hears_of_our_node_once_it_is_there() -> None:
    context, dht = node()
    peer = Peer("127.0.0.1")
    dht.introduce(peer)
    assert peer.dht_owed
    dht.start()
    dht.introduce(peer)
    assert peer.sent == b"\0\0\0\3\x09" + context.udp.port().to_bytes(2, "big")
    assert not peer.dht_owed
    over6 = Peer("::1")
    dht.introduce(over6)
    assert over6.dht_owed
    assert over6.sent == b""
    await close(context)


class Owner:
    info_hash = b"h" * 20

    def __init__(self, *, private: bool = False) -> None:
        self.private = private
        self.asked = 0
        self.peers: list[PeerAddress] = []

    def announce_request(self, event: str | None) -> Any:
        from btfast.discovery.announce import AnnounceRequest

        self.asked += 1
        return AnnounceRequest(
            info_hash=self.info_hash, peer_id=bytes(20), port=7000, left=5, uploaded=0, downloaded=0, event=event,
            numwant=0, key="",
        )  # fmt: skip

    def handle_peers(self, addresses: list[PeerAddress], source: object) -> None:
        self.peers += addresses


async def test_a_torrent_finds_what_another_announced(tmp_path: Path) -> None:
    server, there = node(state=str(tmp_path / "a"))
    there.start()
    bootstrap = (f"127.0.0.1:{server.udp.port()}",)
    contexts = [node(state=str(tmp_path / str(n)), dht_bootstrap=bootstrap)[0] for n in range(2)]
    owners = [Owner(), Owner()]
    one = DhtFinding(contexts[0], owners[0], alone=True)
    assert not one.exhausted
    await until(lambda: there.node is not None and len(there.node.peers), "it is announced")
    other = DhtFinding(contexts[1], owners[1], alone=True)
    await until(lambda: owners[1].peers, "it is found")
    assert owners[1].peers == [PeerAddress("127.0.0.1", 7000)]
    for finding in (one, other):
        finding.stop()
        assert finding.exhausted
    for context in (*contexts, server):
        await close(context)


async def test_others_have_a_while_first_and_a_private_torrent_is_never_asked_about() -> None:
    context, dht = node(dht_bootstrap=("127.0.0.1:9",))
    owners = [Owner(), Owner(private=True), Owner()]
    patient = DhtFinding(context, owners[0], alone=False)
    private = DhtFinding(context, owners[1], alone=True)
    turned = DhtFinding(context, owners[2], alone=False)
    assert private.exhausted
    turned.hand_over(Owner(private=True))
    assert turned.exhausted
    private.want_peers()
    turned.want_peers()
    await asyncio.sleep(0)
    assert dht.node is None
    assert GRACE >= 1
    patient.want_peers()
    await until(lambda: owners[0].asked, "when peers are wanted it begins")
    assert owners[1].asked == owners[2].asked == 0
    patient.stop()
    await close(context)


async def test_where_the_dht_sees_us_decides_whom_we_prefer() -> None:
    context, dht = node(bind="127.0.0.1")
    assert dht.start()
    assert dht.node is not None
    dht.node.tell(Moved(bytes([81, 2, 69, 142]), b"i" * 20))
    dht.add_node(PeerAddress("127.0.0.1", 9999))
    await until(lambda: context.external.host(v6=False) == "81.2.69.142", "our address is known")
    await close(context)
