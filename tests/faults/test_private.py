"""A private torrent (BEP 27) on the wire: its trackers are the only ones who hear of it, and who are heard."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import get, run, running
from support.gossip import Gossip
from support.scripted_peer import Gone, Link, ScriptedPeer
from support.scripted_tracker import ScriptedTracker
from support.scripted_udp_tracker import ScriptedUdpTracker
from support.torrents import Made, assert_arrived, make

from btfast.metainfo.addresses import PeerAddress
from btfast.wire import ids

PRIVATE = make(300_001, name="private.bin", private=True)
OPEN = make(300_001, name="open.bin")
BYTE, DHT = ids.RESERVED_DHT


class Tempting(Gossip):
    """Offers everything: PEX, the DHT, and its own port as a node. Notes what it is offered."""

    reserved = b""

    def __init__(self, made: Made, names: list[PeerAddress], node: int) -> None:
        super().__init__(made, names, have=set(range(made.pieces - 1)))  # so nobody is done
        self.node = node

    @property
    def ports(self) -> int:
        """How often it was told where our node is."""
        return sum(link.count(ids.PORT) for link in self.links)

    def handshake(self) -> bytes:
        whole = bytearray(super().handshake())
        whole[20 + BYTE] |= DHT
        return bytes(whole)

    def on_handshake(self, link: Link) -> None:
        said = link.read(68)
        if said[28:48] != self.made.info_hash:
            raise Gone  # every peer is asked for both torrents
        self.reserved = said[20:28]
        link.send(self.handshake())

    def on_greeted(self, link: Link) -> None:
        super().on_greeted(link)
        link.send(b"\0\0\0\3" + bytes([ids.PORT]) + self.node.to_bytes(2, "big"))


@pytest.fixture
def node() -> Iterator[socket.socket]:
    """Where a DHT node could be."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


def received(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(2000))
        except BlockingIOError:
            return found


def test_nobody_but_its_trackers_hears_of_it(tmp_path: Path, node: socket.socket) -> None:
    """Beside an open torrent, of which the DHT, the peers and whom they name all hear."""
    port: int = node.getsockname()[1]
    with ScriptedPeer(PRIVATE) as trap, ScriptedPeer(OPEN, have=set()) as named:
        closed = Tempting(PRIVATE, [PeerAddress("127.0.0.1", trap.port)], port)
        open_ = Tempting(OPEN, [PeerAddress("127.0.0.1", named.port)], port)
        words = get(
            PRIVATE.save(tmp_path), OPEN.save(tmp_path), "--dht-bootstrap", f"127.0.0.1:{port}",
            peers=(closed.address, open_.address),
        )  # fmt: skip
        datagrams: list[bytes] = []

        def heard() -> bool:
            datagrams.extend(received(node))
            return bool(open_.ports and named.links and datagrams)

        with closed, open_, running(tmp_path, *words) as command:
            command.until(lambda: closed.blocks_sent and heard(), "everybody has heard of the open torrent")
            command.process.terminate()
            command.end()
    (private_said,), (open_said,) = closed.introductions, open_.introductions
    assert "ut_pex" not in private_said.m
    assert "ut_pex" in open_said.m
    assert not closed.reserved[BYTE] & DHT
    assert open_.reserved[BYTE] & DHT
    assert not closed.ports
    assert not trap.links
    assert not [data for data in datagrams if PRIVATE.info_hash in data]


def test_the_tracker_that_lives_is_found_behind_silent_ones_and_first_the_next_time(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(ScriptedTracker(lambda exchange: exchange.hang())) for _ in range(3)]
        udp = stack.enter_context(ScriptedUdpTracker(lambda asked: [], connects=False))
        live = stack.enter_context(ScriptedTracker(lambda exchange: exchange.peers(peer.address)))
        urls = [*(tracker.url for tracker in silent), udp.url, live.url]
        made = make(300_001, name="behind.bin", private=True, announce=[[url] for url in urls])
        peer = stack.enter_context(ScriptedPeer(made))
        words = get(made.save(tmp_path), "--peer-timeout", "30", trackers=True)
        done = run(tmp_path, *words)
        assert (done.code, live.events()) == (0, ["started", "completed", "stopped"]), done.err
        assert_arrived(made, tmp_path / "out")
        asked = [len(tracker.exchanges) for tracker in silent]
        (tmp_path / "out" / made.name).unlink()
        assert run(tmp_path, *words).code == 0
        assert [len(tracker.exchanges) for tracker in silent] == asked
