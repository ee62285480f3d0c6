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
    """Serves metadata, hashes and data of a v2 torrent or hybrid of one file. Override `hashes` to misbehave."""

    def __init__(self, made: Made, **more: object) -> None:
        super().__init__(made, **more)  # type: ignore[arg-type]
        self.torrent = Torrent.parse(made.torrent)
        self.tree = Tree(merkle.leaf_hashes(made.data), 0, len(made.data))
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
        uncles = self.tree.uncles(asked.base, asked.index, 1 << asked.steps)
        return self.tree.run(asked.base, asked.index, asked.length) + uncles[: asked.uncles * HASH]
