"""Hashes of v2 files among peers (BEP 52): piece layers that are missing, leaves that name who sent a bad block, and serving.

Only connections on which both sides have said the v2 hash speak of hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.errors import Error, RemoteError, VerificationError
from btfast.metainfo import merkle
from btfast.metainfo.hash_range import HashRange
from btfast.metainfo.torrent import Torrent
from btfast.swarm.bad_leaves import BadLeaves
from btfast.swarm.blocks import BlockRun
from btfast.swarm.hash_requests import HashRequests
from btfast.swarm.piece_layers import PieceLayers
from btfast.wire.messages import encode_hash_reject, encode_hash_request

if TYPE_CHECKING:  # it is loaded where there is something to give
    from btfast.engine.hash_serving import HashServing
    from btfast.engine.second_look import SecondLook


class Peers(Protocol):
    """Who knows the connections."""

    connections: dict[int, PeerConnection]

    def ban(self, number: int, reason: str) -> None: ...


class HashExchange:
    """Of one torrent that has a v2 half. `learned(root)`: the piece layer of the files with that root is known now.

    `judged(index, bad, guilty)`: a mask of the blocks of a piece that are wrong, and who has sent them; 0: nobody can say.
    `failed(error)`: the torrent's maker is to blame, and it can never be verified. No `serving`: we have nothing to give.
    `look`: at pieces that are here before their hashes. `first`: roots of files whose layers are asked for before others.
    """

    def __init__(
        self, context: Context, torrent: Torrent, peers: Peers, learned: Callable[[bytes], None], failed: Callable[[Error], None],
        judged: Callable[[int, int, list[int]], None] = lambda index, bad, guilty: None, serving: HashServing | None = None,
        look: SecondLook | None = None, first: Iterable[bytes] = (),
    ) -> None:  # fmt: skip
        self._context = context
        self._torrent = torrent
        self._peers = peers
        self._serving = serving
        self._look = look
        self._learned = learned
        self._failed = failed
        self._judged = judged
        self._level = merkle.piece_level(torrent.piece_length)
        self._requests = HashRequests()
        lengths = {file.pieces_root: file.length for file in torrent.files if file.pieces_root is not None}
        missing = dict.fromkeys([*first, *torrent.hashes.missing])
        self._layers = PieceLayers(self._requests, [(root, lengths[root]) for root in missing], self._level)
        self._leaves = BadLeaves(self._requests)
        self.progress_at = float("-inf")  # when a right answer came last

    @property
    def proved(self) -> bool:
        """Whether no piece has to be looked at again."""
        return self._look is None or not self._look.busy

    @property
    def facts(self) -> str:
        """Who was asked for what is missing."""
        count = self._requests.peers
        facts = [f"{count} {'peer speaks' if count == 1 else 'peers speak'} v2"]
        if self._requests.rejects:
            facts.append(f"{self._requests.rejects} requests rejected")
        if self._requests.unanswered:
            facts.append(f"{self._requests.unanswered} not answered")
        return ", ".join(facts)

    # peers

    def peer_joined(self, peer: PeerConnection, now: float) -> None:
        """It has greeted us."""
        if peer.v2:
            self._requests.peer_joined(peer.number, now)
            self.ask(now)

    def peer_left(self, peer: PeerConnection) -> None:
        self._requests.peer_left(peer.number)
        if self._serving is not None:
            self._serving.peer_left(peer)

    # messages

    def handle_request(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        """HASH REQUEST."""
        if not self._speaks(peer):
            return
        if self._serving is not None:
            self._serving.handle_request(peer, HashRange(*event[1:]))
        else:
            peer.send(encode_hash_reject(*event[1:]))

    def handle_hashes(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        """HASHES."""
        if not self._speaks(peer):
            return
        asked, hashes = HashRange(*event[1:6]), event[6]
        try:
            right = self._requests.handle_hashes(peer.number, asked, hashes, now)
        except RemoteError as error:
            peer.close(str(error))
            return
        if right:
            self.progress_at = now
            if not self._layers.handle(asked, hashes):
                self._leaves.handle(asked, hashes)
        for root, layer in self._layers.poll_whole():
            try:
                self._torrent.hashes.add_layer(root, layer)
            except ValueError:
                # Each run has led to the root, so the hashes beyond the end of the file are none of a file's.
                self._failed(cannot_lead(self._torrent, root))
                continue
            if self._look is not None:
                self._look.handle_learned(root)
            self._learned(root)
        self.ask(now)

    def handle_reject(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        """HASH REJECT."""
        if self._speaks(peer):
            self._requests.handle_reject(peer.number, HashRange(*event[1:]), now)
            self.ask(now)

    def _speaks(self, peer: PeerConnection) -> bool:
        if not peer.v2:
            peer.close("it speaks of v2 hashes on a v1 connection")
        return peer.v2

    def ask(self, now: float) -> None:
        """Sends the requests that are due, and bans who has lied. After each event, and once a second."""
        for number, wanted in self._requests.poll_requests(now):
            peer = self._peers.connections.get(number)
            if peer is not None:
                peer.send(encode_hash_request(*wanted))
                peer.flush()
        for number in self._requests.poll_liars():
            self._peers.ban(number, "it sent wrong hashes")
        self._leaves.review(now)
        for judged in self._leaves.poll_judged():
            self._judged(*judged)

    # pieces

    def handle_bad_piece(self, index: int) -> None:
        """The hash of a piece is wrong."""
        if self._look is not None:
            self._look.handle_bad(index)

    def tells_apart(self, index: int) -> bool:
        """Whether right leaves of a piece would say which of its blocks are wrong."""
        place = self._place(index)
        return place is not None and place[2] > 0 and bool(self._torrent.hashes.v2_digest(index))

    @property
    def peers(self) -> int:
        """Those who may be asked."""
        return self._requests.peers

    def bytes_of_file(self, index: int) -> int:
        """How many bytes of a piece are its file's, and not a pad's."""
        place = self._place(index)
        return place[3] if place is not None else 0

    def handle_doubt(self, index: int, leaves: bytes, senders: Sequence[tuple[int, BlockRun]], now: float) -> bool:
        """The hash of a piece is wrong, and its blocks hash to `leaves`: which of them are wrong is asked. False: it can't be."""
        place = self._place(index)
        anchor = self._torrent.hashes.v2_digest(index)
        if place is None or not anchor:
            return False
        root, first, level, _ = place
        asked = self._leaves.failed(index, root, first, level, anchor, leaves, senders, now)
        self.ask(now)
        return asked

    def handle_good_piece(self, index: int) -> None:
        """It has come, perhaps again, and is right."""
        if self._look is not None:
            self._look.handle_verified(index)
        self._leaves.forget(index)

    def _place(self, index: int) -> tuple[bytes, int, int, int] | None:
        """Of a piece: its file's root, its first leaf there, the level of its own hash, how many bytes of it are the file's."""
        geometry = self._torrent.geometry
        number = geometry.piece_files(index)[0]
        file = self._torrent.files[number]
        if file.pieces_root is None:
            return None
        within = index - geometry.file_pieces(number)[0]
        size = min(self._torrent.piece_length, file.length - within * self._torrent.piece_length)
        return file.pieces_root, within << self._level, min(self._level, merkle.height_of(file.length)), size

    def close(self) -> None:
        if self._look is not None:
            self._look.close()
        if self._serving is not None:
            self._serving.close()


def cannot_lead(torrent: Torrent, root: bytes) -> VerificationError:
    """The error for a root that was made over more hashes than its file has."""
    name = next("/".join(file.path) for file in torrent.files if file.pieces_root == root)
    return VerificationError(
        f"{torrent.name}: {name}: its piece layer cannot lead to its root, so nothing can be right: get the torrent anew "
        "from where it came from"
    )
