"""What the engine does with hashes (BEP 52): layers that come, leaves that name a sender, and connections that are not v2."""

from __future__ import annotations

import random
import socket
from typing import Any

import pytest
from engine_parts import Owner, connected, small_context
from support.v2_torrents import beyond_its_end, make_v2

from btfast.engine.connection import PeerConnection
from btfast.engine.hash_exchange import HashExchange
from btfast.errors import Error
from btfast.metainfo import merkle
from btfast.metainfo.hash_range import HashRange
from btfast.metainfo.merkle import HASH, LEAF, Tree
from btfast.metainfo.torrent import Torrent
from btfast.swarm.blocks import BlockRun
from btfast.wire import ids, messages

PIECE = 65536


class Bench:
    """An exchange with peers, whose ends the test reads."""

    def __init__(self, torrent: bytes) -> None:
        self.context: Any = small_context()
        self.torrent = Torrent.parse(torrent)
        self.connections: dict[int, PeerConnection] = {}
        self.banned: list[int] = []
        self.learned: list[bytes] = []
        self.judged: list[tuple[int, int, list[int]]] = []
        self.failed: list[Error] = []
        self.ends: dict[int, socket.socket] = {}
        self.exchange = HashExchange(
            self.context, self.torrent, self, self.learned.append, self.failed.append, lambda *said: self.judged.append(said)
        )

    @property
    def now(self) -> float:
        return float(self.context.loop.time())

    def ban(self, number: int, reason: str) -> None:
        self.banned.append(number)
        self.connections[number].close(reason)

    def peer(self, number: int, *, v2: bool = True) -> PeerConnection:
        peer, self.ends[number] = connected(self.context, Owner(), port=5000 + number)
        peer.number = number
        peer.v2 = v2
        self.connections[number] = peer
        self.exchange.peer_joined(peer, self.now)
        return peer

    def asked(self, number: int) -> list[HashRange]:
        """The requests that have gone to a peer."""
        self.ends[number].setblocking(False)
        try:
            data = self.ends[number].recv(1 << 20)
        except BlockingIOError:
            return []
        events = [messages.decode_message(body) for body in messages.split_messages(data)[0]]
        return [HashRange(*event[1:]) for event in events if event[0] == ids.HASH_REQUEST]

    def answer(self, number: int, asked: HashRange, hashes: bytes) -> None:
        self.exchange.handle_hashes(self.connections[number], (ids.HASHES, *asked, hashes), self.now)

    def close(self) -> None:
        self.exchange.close()
        for peer in self.connections.values():
            peer.close("over")
        for end in self.ends.values():
            end.close()


def right(tree: Tree, asked: HashRange) -> bytes:
    uncles = tree.uncles(asked.base, asked.index, 1 << asked.steps)
    return tree.run(asked.base, asked.index, asked.length) + uncles[: asked.uncles * HASH]


async def test_layers_that_are_missing_are_learned_and_whoever_lies_is_banned() -> None:
    made = make_v2(900_001, layers=False)
    tree = Tree(merkle.leaf_hashes(made.data), 0, 900_001)
    bench = Bench(made.torrent)
    for number in (1, 2, 3):
        bench.peer(number, v2=number != 2)
    ((asked,), others) = bench.asked(1), bench.asked(3)
    assert others == [] == bench.asked(2), "one run is asked of one peer, and of none that speaks v1"
    bench.answer(1, asked, bytes((asked.length + asked.uncles) * HASH))
    assert bench.banned == [1]
    assert bench.asked(3) == [asked]
    bench.answer(3, asked, right(tree, asked))
    assert bench.learned == [tree.root]
    assert bench.torrent.hashes.complete
    bench.close()


@pytest.mark.parametrize("hybrid", [False, True], ids=["v2", "hybrid"])
async def test_a_root_over_more_than_its_file_ends_the_torrent_and_blames_no_peer(hybrid: bool) -> None:
    made, layer = beyond_its_end(hybrid=hybrid)
    bench = Bench(made.torrent)
    peer = bench.peer(1)
    (asked,) = bench.asked(1)
    assert asked.length == 4
    bench.answer(1, asked, layer)
    (error,) = bench.failed
    assert "data.bin: its piece layer cannot lead to its root" in str(error)
    assert bench.learned == [] == bench.banned
    assert not peer.closed
    assert not bench.torrent.hashes.complete
    bench.close()


@pytest.mark.parametrize("hybrid", [False, True], ids=["v2", "hybrid"])
@pytest.mark.parametrize(("file", "within"), [("a", 3), ("a", 5), ("b", 0)], ids=["whole", "short", "below a piece"])
async def test_the_sender_of_a_bad_block_is_named_by_the_leaves_of_another_peer(
    hybrid: bool, file: str, within: int
) -> None:
    """In a hybrid the rest of a short piece is a pad file, of which the tree knows nothing."""
    lengths = {"a": 5 * PIECE + 2 * LEAF + 7, "b": 3 * LEAF - 1}
    made = make_v2(lengths, name="n", hybrid=hybrid)
    content = made.contents()[f"n/{file}"]
    tree = Tree(merkle.leaf_hashes(content), 0, len(content))
    bench = Bench(made.torrent)
    bench.peer(7)
    number = next(n for n, entry in enumerate(bench.torrent.files) if entry.path[-1] == file)
    index = bench.torrent.geometry.file_pieces(number)[within]
    piece = bytearray(content[within * PIECE : (within + 1) * PIECE])
    blocks = -(-len(piece) // LEAF)
    piece[LEAF + 5] ^= 1
    assert bench.exchange.tells_apart(index)
    assert bench.exchange.bytes_of_file(index) == len(piece)
    senders = [(1, BlockRun(index, 0, 1)), (2, BlockRun(index, 1, 1)), (3, BlockRun(index, 2, blocks - 2))]
    assert bench.exchange.handle_doubt(index, merkle.leaf_hashes(piece), senders, bench.now)
    (asked,) = bench.asked(7)
    assert (asked.root, asked.base, asked.index) == (tree.root, 0, within * PIECE // LEAF)
    bench.answer(7, asked, right(tree, asked))
    assert bench.judged == [(index, 0b10, [2])]
    bench.close()


async def test_a_piece_that_comes_right_meanwhile_is_asked_about_no_more() -> None:
    made = make_v2(900_001)
    bench = Bench(made.torrent)
    for index in (2, 3):
        assert bench.exchange.handle_doubt(index, bytes(4 * HASH), [(1, BlockRun(index, 0, 4))], bench.now)
        bench.exchange.handle_good_piece(index)
    bench.peer(7)
    assert bench.asked(7) == []
    bench.close()


@pytest.mark.parametrize("kind", [ids.HASH_REQUEST, ids.HASHES, ids.HASH_REJECT])
async def test_hashes_are_no_part_of_a_v1_connection(kind: int) -> None:
    bench = Bench(make_v2(900_001, hybrid=True).torrent)
    peer = bench.peer(1, v2=False)
    handler = {
        ids.HASH_REQUEST: bench.exchange.handle_request, ids.HASHES: bench.exchange.handle_hashes,
        ids.HASH_REJECT: bench.exchange.handle_reject,
    }[kind]  # fmt: skip
    handler(peer, (kind, bytes(32), 0, 0, 2, 0, b""), 0.0)
    assert peer.closed
    bench.close()


async def test_any_hash_message_at_any_time_does_no_harm() -> None:
    made = make_v2(900_001, layers=False)
    bench = Bench(made.torrent)
    rng = random.Random(5)
    root = bench.torrent.hashes.missing[0]
    for number in range(200):
        peer = bench.peer(number)
        for _ in range(5):
            fields = [rng.choice([0, 1, 2, 3, 512, rng.randrange(2**32), 2**32 - 1]) for _ in range(4)]
            asked = HashRange(rng.choice([root, bytes(32)]), *fields)
            if peer.closed:
                break
            match rng.randrange(3):
                case 0:
                    bench.exchange.handle_request(peer, (ids.HASH_REQUEST, *asked), 0.0)
                case 1:
                    bench.answer(number, asked, bytes(32 * rng.randrange(5)))
                case _:
                    bench.exchange.handle_reject(peer, (ids.HASH_REJECT, *asked), 0.0)
        bench.exchange.peer_left(peer)
    assert not bench.torrent.hashes.complete
    bench.close()
