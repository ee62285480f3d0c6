"""Scripted peers that speak v2 and answer hash requests (BEP 52), honestly or as a test bends them."""

from __future__ import annotations

from support.metadata_peers import MetadataPeer
from support.scripted_peer import Link
from support.torrents import Made

from btfast.metainfo import merkle
from btfast.metainfo.hash_range import HashRange
from btfast.metainfo.merkle import HASH, Tree
from btfast.metainfo.torrent import Torrent
from btfast.wire import ids, messages
from btfast.wire.handshake import INFO_HASH, decode_handshake, encode_handshake


class HashPeer(MetadataPeer):
    """Serves metadata, hashes and data of a v2 torrent or hybrid. Override `hashes` to misbehave.

    `tree`: of whatever file is asked for that has none of its own among the `trees` of its data.
    """

    def __init__(self, made: Made, **more: object) -> None:
        super().__init__(made, **more)  # type: ignore[arg-type]
        self.torrent = Torrent.parse(made.torrent)
        self.contents = made.contents()
        whole = [Tree(merkle.leaf_hashes(content), 0, len(content)) for content in self.contents.values() if content]
        self.trees = {tree.root: tree for tree in whole}
        self.tree = whole[0]
        self.hash_requests: list[HashRange] = []
        self.blocks_before = 0  # that were sent before the last of them came

    def on_handshake(self, link: Link) -> None:
        said = link.handshake = decode_handshake(link.read(68))
        v2 = self.torrent.swarm_hashes[-1]
        upgrade = said.v2_upgrade or said.info_hash == v2
        link.send(encode_handshake(v2 if upgrade else said.info_hash, self.peer_id))

    def handshake(self) -> bytes:
        whole = super().handshake()
        return whole[: INFO_HASH.start] + self.torrent.swarm_hashes[-1] + whole[INFO_HASH.stop :]

    def on_messages(self, link: Link, found: list[tuple[object, ...]]) -> None:
        for message in found:
            if message and message[0] == ids.HASH_REQUEST:
                asked = HashRange(*message[1:])  # type: ignore[arg-type]
                self.hash_requests.append(asked)
                self.blocks_before = self.blocks_sent
                self.on_hash_request(link, asked)
        super().on_messages(link, found)

    def on_hash_request(self, link: Link, asked: HashRange) -> None:
        answer = self.hashes(asked)
        if answer is None:
            link.send(messages.encode_hash_reject(*asked))
        else:
            link.send(messages.encode_hashes(*asked, answer))

    def hashes(self, asked: HashRange) -> bytes | None:
        """The answer; None for a reject."""
        tree = self.trees.get(asked.root, self.tree)
        uncles = tree.uncles(asked.base, asked.index, 1 << asked.steps)
        return tree.run(asked.base, asked.index, asked.length) + uncles[: asked.uncles * HASH]

    def block(self, index: int, begin: int, length: int) -> bytes:
        torrent, found = self.torrent, b""
        for number, offset, size in torrent.geometry.spans(index * torrent.piece_length + begin, length):
            pad = torrent.files[number].pad
            found += bytes(size) if pad else self.contents[torrent.path_text(number)][offset : offset + size]
        return found


def root_of(made: Made, path: str) -> bytes:
    """Of a file, by its path below the torrent's directory."""
    torrent = Torrent.parse(made.torrent)
    return next(file.pieces_root or b"" for file in torrent.files if "/".join(file.path) == path)


class Withholds(HashPeer):
    """Rejects requests for hashes of the `kept` files."""

    def __init__(self, made: Made, *kept: str, **more: object) -> None:
        super().__init__(made, **more)
        self.kept = {root_of(made, path) for path in kept}

    def on_hash_request(self, link: Link, asked: HashRange) -> None:
        if asked.root in self.kept:
            self.withhold(link, asked)
        else:
            super().on_hash_request(link, asked)

    def withhold(self, link: Link, asked: HashRange) -> None:
        link.send(messages.encode_hash_reject(*asked))


class Delays(Withholds):
    """Answers them when `blocks` blocks have gone."""

    def __init__(self, made: Made, *kept: str, blocks: int, **more: object) -> None:
        super().__init__(made, *kept, **more)
        self.blocks = blocks
        self.waiting: list[tuple[Link, HashRange]] = []

    def withhold(self, link: Link, asked: HashRange) -> None:
        self.waiting.append((link, asked))
        self.give()

    def on_requests(self, link: Link, requests: list[tuple[int, int, int]]) -> None:
        super().on_requests(link, requests)
        self.give()

    def give(self) -> None:
        while self.waiting and self.blocks_sent >= self.blocks:
            HashPeer.on_hash_request(self, *self.waiting.pop())
