"""Peers that lie about hashes of v2 torrents, hold them back, or flood us with requests for them (BEP 52)."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest
from support.commands import get, run
from support.scripted_peer import Gone, Link
from support.torrents import Made, assert_arrived
from support.v2_peers import HashPeer
from support.v2_torrents import beyond_its_end, make_v2

from btfast import Session, Settings
from btfast._bencode import decode, encode
from btfast.metainfo import merkle
from btfast.metainfo.hash_range import HashRange
from btfast.metainfo.merkle import HASH, LEAF, Tree
from btfast.metainfo.torrent import Torrent
from btfast.wire import ids, messages
from btfast.wire.handshake import decode_handshake, encode_handshake

SIZE = 900_001
MADE = make_v2(SIZE)
BARE = make_v2(SIZE, layers=False)
PIECES = -(-SIZE // 65536)


class LiesOfHashes(HashPeer):
    """Every answer has one wrong byte."""

    def hashes(self, asked: HashRange) -> bytes | None:
        answer = super().hashes(asked)
        assert answer is not None
        return answer[:-1] + bytes([answer[-1] ^ 1])


class TooManyHashes(HashPeer):
    """Announces a message of 4 GiB of hashes."""

    def on_hash_request(self, link: Link, asked: HashRange) -> None:
        link.send(struct.pack(">IB32sIIII", 0xFFFFFFF1, ids.HASHES, *asked) + bytes(1 << 18))
        link.drain()


class WrongCount(HashPeer):
    """Its layer is one hash short."""

    def hashes(self, asked: HashRange) -> bytes | None:
        answer = super().hashes(asked)
        assert answer is not None
        return answer[:-HASH]


class Unasked(HashPeer):
    """Answers with thousands of hashes that nobody asked for."""

    def on_hash_request(self, link: Link, asked: HashRange) -> None:
        other = asked._replace(index=asked.index + 2, length=2)
        for _ in range(1000):
            link.send(messages.encode_hashes(*other, bytes(64)))
        link.drain()


class Keeps(HashPeer):
    """Rejects every request for hashes."""

    def hashes(self, asked: HashRange) -> bytes | None:
        return None


def changes(outcome: object) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for event in outcome.all("peer"):  # type: ignore[attr-defined]
        found.setdefault(event["change"], set()).add(event["address"])
    return found


@pytest.mark.parametrize("liar", [LiesOfHashes, WrongCount])
def test_who_lies_about_hashes_is_banned_and_the_honest_one_is_enough(tmp_path: Path, liar: type[HashPeer]) -> None:
    with liar(MADE) as bad, HashPeer(MADE) as good:
        outcome = run(tmp_path, *get(BARE.save(tmp_path), peers=(bad.address, good.address)))
    assert outcome.code == 0, outcome
    assert_arrived(MADE, tmp_path / "out")
    assert changes(outcome).get("banned", set()) <= {bad.address}
    if bad.hash_requests:
        assert changes(outcome)["banned"] == {bad.address}


@pytest.mark.parametrize("bad", [TooManyHashes, Unasked, Keeps])
def test_who_breaks_the_protocol_or_keeps_hashes_to_itself_holds_nobody_up(tmp_path: Path, bad: type[HashPeer]) -> None:
    with bad(MADE) as first, HashPeer(MADE) as good:
        outcome = run(tmp_path, *get(BARE.save(tmp_path), peers=(first.address, good.address)))
    assert outcome.code == 0, outcome
    assert_arrived(MADE, tmp_path / "out")


class Silent(HashPeer):
    """Never answers a request for hashes."""

    def on_hash_request(self, link: Link, asked: HashRange) -> None:
        pass


class Never(HashPeer):
    """Has the hashes and no data to give."""

    def on_interested(self, link: Link) -> None:
        pass


def test_of_several_who_lie_all_are_banned_who_were_asked(tmp_path: Path) -> None:
    with LiesOfHashes(MADE) as one, WrongCount(MADE) as two, LiesOfHashes(MADE) as three, HashPeer(MADE) as good:
        peers = tuple(peer.address for peer in (one, two, three, good))
        outcome = run(tmp_path, *get(BARE.save(tmp_path), peers=peers))
        asked = {peer.address for peer in (one, two, three) if peer.hash_requests}
    assert outcome.code == 0, outcome
    assert_arrived(MADE, tmp_path / "out")
    assert changes(outcome).get("banned", set()) == asked


def test_who_never_answers_holds_nobody_up(tmp_path: Path) -> None:
    """It has the data, and the other one only the hashes: another is asked, and nobody is to blame."""
    with Silent(MADE) as silent, Never(MADE) as other:
        outcome = run(tmp_path, *get(BARE.save(tmp_path), peers=(silent.address, other.address)))
        assert other.hash_requests
        assert other.blocks_sent == 0
    assert outcome.code == 0, outcome
    assert_arrived(MADE, tmp_path / "out")
    assert "banned" not in changes(outcome)


def test_a_layer_longer_than_an_answer_may_be_comes_in_several(tmp_path: Path) -> None:
    made = make_v2(1200 * LEAF + 5, piece_length=LEAF)
    bare = make_v2(1200 * LEAF + 5, piece_length=LEAF, layers=False)
    with HashPeer(made) as peer:
        outcome = run(tmp_path, *get(bare.save(tmp_path), peers=(peer.address,)))
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    assert sorted((asked.base, asked.index, asked.length) for asked in peer.hash_requests) == [
        (0, 0, 512), (0, 512, 512), (0, 1024, 512),
    ]  # fmt: skip


class Late(HashPeer):
    """Gives hashes when half of the data has gone, which a hybrid does not wait for. `tree`: what they are made of."""

    def __init__(self, made: Made, tree: Tree) -> None:
        super().__init__(made)
        self.tree = tree
        self.held: list[tuple[Link, HashRange]] = []

    def on_hash_request(self, link: Link, asked: HashRange) -> None:
        self.held.append((link, asked))

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        if self.blocks_sent >= SIZE // 32768:
            while self.held:
                super().on_hash_request(*self.held.pop())
        super().on_request(link, index, begin, length)


@pytest.mark.parametrize("wrong", [None, 3])
def test_what_of_a_hybrid_came_before_its_hashes_is_held_against_them(tmp_path: Path, wrong: int | None) -> None:
    data = bytearray(make_v2(SIZE, hybrid=True).data)
    if wrong is not None:
        data[wrong * 65536] ^= 1
    tree = Tree(merkle.leaf_hashes(bytes(data)), 0, SIZE)
    files = {"data.bin": {"": {"length": SIZE, "pieces root": tree.root}}}
    made = make_v2(SIZE, hybrid=True, layers=False, change={"file tree": files})
    with Late(made, tree) as peer:
        outcome = run(tmp_path, *get(made.save(tmp_path), "--sequential", peers=(peer.address,)))
    assert peer.hash_requests
    assert peer.held == [], "the hashes were given"
    if wrong is None:
        assert outcome.code == 0, outcome
        assert_arrived(made, tmp_path / "out")
    else:
        assert f"piece {wrong} is right by one half of this hybrid torrent and wrong by the other" in outcome.error(4)


def test_nothing_is_fetched_that_cannot_be_verified_and_the_reason_is_said(tmp_path: Path) -> None:
    with Keeps(MADE) as peer:
        outcome = run(tmp_path, *get(BARE.save(tmp_path), "--peer-timeout", "4", peers=(peer.address,)))
        assert "the hashes of 1 file are missing (data.bin), and no peer sends them" in outcome.error(3)
        assert peer.blocks_sent == 0


def test_all_who_lie_are_banned_and_that_is_the_reason(tmp_path: Path) -> None:
    with LiesOfHashes(MADE) as peer:
        outcome = run(tmp_path, *get(BARE.save(tmp_path), peers=(peer.address,)))
        assert "all sources are banned" in outcome.error(4)
        assert peer.blocks_sent == 0


@pytest.mark.parametrize("magnet", [False, True], ids=["torrent", "metadata only"])
def test_a_root_that_no_layer_can_lead_to_is_said_and_no_peer_is_blamed(tmp_path: Path, magnet: bool) -> None:
    made, layer = beyond_its_end()
    meta = Torrent.parse(made.torrent)
    with HashPeer(made) as peer:
        peer.tree = Tree(layer, 2, 4 * made.piece_length)
        link = f"magnet:?xt=urn:btmh:1220{(meta.info_hash_v2 or b'').hex()}"
        source = [link, "--metadata-only"] if magnet else [str(made.save(tmp_path))]
        outcome = run(tmp_path, *get(*source, peers=(peer.address,)))
        assert "data.bin: its piece layer cannot lead to its root" in outcome.error(4)
        assert peer.blocks_sent == 0
    assert "banned" not in changes(outcome)


class OneBadBlock(HashPeer):
    """Two blocks of each piece are wrong."""

    def block(self, index: int, begin: int, length: int) -> bytes:
        data = super().block(index, begin, length)
        return bytes(length) if begin in (LEAF, 128 * LEAF) else data


def test_a_layer_of_a_torrent_file_that_does_not_lead_to_the_root_is_refused(tmp_path: Path) -> None:
    for damage in (lambda layer: layer[:-32], lambda layer: layer + bytes(32), lambda layer: bytes(len(layer))):
        top = decode(MADE.torrent)
        top[b"piece layers"] = {root: damage(layer) for root, layer in top[b"piece layers"].items()}
        (tmp_path / "bad.torrent").write_bytes(encode(top))
        line = run(tmp_path, *get("bad.torrent")).error(2)
        assert "a piece layer is wrong" in line


@pytest.mark.parametrize("kind", ["v2", "hybrid"])
def test_metadata_only_saves_a_torrent_with_its_piece_layers(tmp_path: Path, kind: str) -> None:
    made = make_v2(SIZE, hybrid=kind == "hybrid")
    meta = Torrent.parse(made.torrent)
    links = {f"urn:btmh:1220{(meta.info_hash_v2 or b'').hex()}"}
    if kind == "hybrid":
        links.add(f"urn:btih:{made.info_hash.hex()}")
    for number, topic in enumerate(sorted(links)):
        home = tmp_path / str(number)
        home.mkdir()
        with HashPeer(made) as peer:
            outcome = run(home, *get(f"magnet:?xt={topic}", "--metadata-only", peers=(peer.address,)))
        assert outcome.code == 0, outcome
        assert outcome.warnings == []
        assert Torrent.load(home / "out" / "data.bin.torrent").hashes.complete


class Dawdles(HashPeer):
    """Takes its time for each answer."""

    def on_hash_request(self, link: Link, asked: HashRange) -> None:
        self.wait(2.0)
        super().on_hash_request(link, asked)


class OfV1(HashPeer):
    """Does not know that a torrent has a v2 half."""

    def on_handshake(self, link: Link) -> None:
        said = link.handshake = decode_handshake(link.read(68))
        if said.info_hash != self.made.info_hash:
            raise Gone
        link.send(encode_handshake(said.info_hash, self.peer_id, v2_upgrade=False))

    def handshake(self) -> bytes:
        raise AssertionError("it dials nobody")


def test_layers_are_waited_for_as_long_as_they_come(tmp_path: Path) -> None:
    made = make_v2(1200 * LEAF + 5, piece_length=LEAF)
    link = f"magnet:?xt=urn:btmh:1220{(Torrent.parse(made.torrent).info_hash_v2 or b'').hex()}"
    with Dawdles(made) as peer:
        outcome = run(tmp_path, *get(link, "--metadata-only", "--peer-timeout", "4", peers=(peer.address,)))
    assert outcome.code == 0, outcome
    assert outcome.warnings == []
    assert Torrent.load(tmp_path / "out" / "data.bin.torrent").hashes.complete


def test_a_hybrids_torrent_is_saved_without_the_layers_that_v1_peers_do_not_have(tmp_path: Path) -> None:
    made = make_v2(SIZE, hybrid=True)
    with OfV1(made) as peer:
        link = f"magnet:?xt=urn:btih:{made.info_hash.hex()}"
        outcome = run(tmp_path, *get(link, "--metadata-only", "--peer-timeout", "600", peers=(peer.address,)))
    assert outcome.code == 0, outcome
    assert any("the hashes of 1 file are missing (data.bin)" in warning for warning in outcome.warnings)
    assert Torrent.load(tmp_path / "out" / "data.bin.torrent").info_hash_v1 == made.info_hash


def test_a_second_run_does_not_ask_for_the_layers_again(tmp_path: Path) -> None:
    meta = Torrent.parse(MADE.torrent)
    link = f"magnet:?xt=urn:btmh:1220{(meta.info_hash_v2 or b'').hex()}"
    with HashPeer(MADE) as peer:
        assert run(tmp_path, *get(link, peers=(peer.address,))).code == 0
        assert peer.hash_requests
    (tmp_path / "out" / "data.bin").write_bytes(MADE.data[: SIZE // 2] + bytes(SIZE - SIZE // 2))
    with Keeps(MADE) as peer:
        outcome = run(tmp_path, *get(link, "--check", peers=(peer.address,)))
        assert outcome.code == 0, outcome
        assert peer.hash_requests == []
    assert 0 < outcome.one("complete")["downloaded"] < SIZE
    assert_arrived(MADE, tmp_path / "out")


# serving

LOCAL = Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", trackers=False)
TREE = Tree(merkle.leaf_hashes(MADE.data), 0, SIZE)


class Asker:
    """A connection to a seed, in plain asyncio."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def greet(cls, port: int, info_hash: bytes, *, upgrade: bool = False) -> tuple[Asker, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(encode_handshake(info_hash, b"-XX0001-" + bytes(12), v2_upgrade=upgrade))
        answer = await reader.readexactly(68)
        return cls(reader, writer), answer[28:48]

    async def next(self, *kinds: int) -> bytes:
        """The next message of one of these ids."""
        while True:
            size = int.from_bytes(await self.reader.readexactly(4), "big")
            body = await self.reader.readexactly(size)
            if body and body[0] in kinds:
                return body

    async def rest(self) -> bytes:
        """All that comes until the other side closes."""
        found = b""
        try:
            while data := await self.reader.read(1 << 16):
                found += data
        except ConnectionError:
            pass
        return found

    async def ask(self, asked: HashRange) -> bytes | None:
        """The hashes, or None for a reject."""
        self.writer.write(messages.encode_hash_request(*asked))
        body = await self.next(ids.HASHES, ids.HASH_REJECT)
        assert body[1:49] == messages.encode_hash_request(*asked)[5:]
        return body[49:] if body[0] == ids.HASHES else None


async def seed(session: Session, made: Made, folder: Path) -> tuple[int, Torrent]:
    made.lay_out(folder)
    await session.add(made.torrent, folder, seed=True)
    return await session.port(), Torrent.parse(made.torrent)


async def test_layers_and_leaves_are_served_with_their_proofs(tmp_path: Path) -> None:
    async with Session(LOCAL) as session, asyncio.timeout(60):
        port, meta = await seed(session, MADE, tmp_path)
        asker, _ = await Asker.greet(port, meta.info_hash)
        for base, index, length, proof in (
            (2, 0, 16, 3), (2, 0, 16, 0), (2, 8, 2, 3), (2, 12, 4, 3), (0, 0, 4, 5), (0, 52, 4, 5), (0, 52, 2, 1), (0, 4, 4, 0),
            (2, 13, 1, 3),
        ):  # fmt: skip
            asked = HashRange(TREE.root, base, index, length, proof)
            answer = await asker.ask(asked)
            assert answer is not None, asked
            run_ = TREE.run(base, index, length)
            uncles = TREE.uncles(base, index, 1 << asked.steps)[HASH if length == 1 else 0 :]
            assert answer == run_ + uncles[: asked.uncles * HASH], asked
        asker.writer.close()


@pytest.mark.parametrize(
    "asked",
    [
        HashRange(b"?" * 32, 2, 0, 2, 0),
        HashRange(TREE.root, 1, 0, 2, 0),
        HashRange(TREE.root, 2, 1, 2, 0),
        HashRange(TREE.root, 2, 0, 32, 0),
        HashRange(TREE.root, 2, 0, 2, 9),
        HashRange(TREE.root, 2, 2**32 - 2, 2, 0),
        HashRange(TREE.root, 2, 0, 2**31, 0),
        HashRange(TREE.root, 2, 0, 2**32 - 1, 2**32 - 1),
        HashRange(TREE.root, 0, 0, 8, 0),  # leaves of two pieces
        HashRange(TREE.root, 0, 56, 4, 0),  # of none
        HashRange(TREE.root, 5, 0, 2, 0),
    ],
    ids=str,
)
async def test_what_is_not_ours_not_aligned_or_too_large_is_rejected(tmp_path: Path, asked: HashRange) -> None:
    async with Session(LOCAL) as session, asyncio.timeout(60):
        port, meta = await seed(session, MADE, tmp_path)
        asker, _ = await Asker.greet(port, meta.info_hash)
        assert await asker.ask(asked) is None
        asker.writer.close()


async def test_leaves_that_are_not_on_disk_any_more_are_rejected_and_the_rest_is_served(tmp_path: Path) -> None:
    async with Session(LOCAL) as session, asyncio.timeout(60):
        port, meta = await seed(session, MADE, tmp_path)
        asker, _ = await Asker.greet(port, meta.info_hash)
        data = bytearray(MADE.data)
        data[70_000] ^= 1
        (tmp_path / "data.bin").write_bytes(data)
        assert await asker.ask(HashRange(TREE.root, 0, 4, 4, 0)) is None
        assert await asker.ask(HashRange(TREE.root, 0, 0, 4, 0)) == TREE.run(0, 0, 4)
        (tmp_path / "data.bin").unlink()
        assert await asker.ask(HashRange(TREE.root, 0, 8, 4, 0)) is None
        assert await asker.ask(HashRange(TREE.root, 2, 0, 16, 0)) is not None
        asker.writer.close()


async def test_who_fetches_nothing_has_leaves_of_a_few_pieces_and_who_floods_is_closed(tmp_path: Path) -> None:
    made = make_v2(5_000_000)
    tree = Tree(merkle.leaf_hashes(made.data), 0, 5_000_000)
    async with Session(LOCAL) as session, asyncio.timeout(60):
        port, meta = await seed(session, made, tmp_path)
        asker, _ = await Asker.greet(port, meta.info_hash)
        given = [await asker.ask(HashRange(tree.root, 0, 4 * n, 4, 0)) is not None for n in range(40)]
        assert given == [True] * 16 + [False] * 24
        flood = messages.encode_hash_request(tree.root, 2, 0, 64, 0) * 3000
        asker.writer.write(flood)
        assert len(await asker.rest()) < 300 * (5 + 48 + 64 * 32) + 3000 * 53
        asker.writer.close()
        other, _ = await Asker.greet(port, meta.info_hash)
        assert await other.ask(HashRange(tree.root, 2, 0, 128, 0)) is not None
        other.writer.close()


async def test_a_hybrid_is_met_by_either_hash_and_upgrades_who_may_be(tmp_path: Path) -> None:
    made = make_v2(SIZE, hybrid=True)
    async with Session(LOCAL) as session, asyncio.timeout(60):
        port, meta = await seed(session, made, tmp_path)
        v1, v2 = meta.swarm_hashes
        for said, upgrade, answer in ((v1, False, v1), (v1, True, v2), (v2, False, v2)):
            asker, answered = await Asker.greet(port, said, upgrade=upgrade)
            assert answered == answer
            asked = HashRange(TREE.root, 2, 0, 16, 0)
            if answer == v2:
                assert await asker.ask(asked) is not None
            else:
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await asker.ask(asked)  # hashes are no part of v1
            asker.writer.close()


def test_one_bad_block_bans_its_sender_before_the_piece_is_there(tmp_path: Path) -> None:
    """A file of one piece, which both send at the same time; the honest one's leaves tell them apart."""
    made = make_v2(4 << 20, piece_length=4 << 20)
    with OneBadBlock(made, rate=3_000_000) as bad, HashPeer(made, rate=3_000_000) as good:
        outcome = run(tmp_path, *get(made.save(tmp_path), peers=(bad.address, good.address)))
        asked = [*bad.hash_requests, *good.hash_requests]
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    assert changes(outcome).get("banned", set()) <= {bad.address}
    if outcome.all("piece_failed") and len(outcome.one("piece_failed")["peers"]) > 1:
        assert changes(outcome)["banned"] == {bad.address}
        assert any(wanted.base == 0 for wanted in asked)
