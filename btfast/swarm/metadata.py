"""Fetching the metadata of an info-hash from its peers (BEP 9): whom to ask for which piece, and who lies.

Theory of operation. The size of the metadata is only ever claimed by peers, so those that claim the same size form a
camp, and each camp fetches for itself: a crowd of liars with one size cannot keep an honest peer with another waiting.
Within a camp all peers share the work. When the hash of what came is wrong and one peer sent all of it, that peer lies.
When several did, the camp is spoiled: from then on each of its peers is asked for everything alone, a few at a time,
until one brings what is right; then what the others had sent is compared with it. So n liars cost n attempts, and the
swarm's honest peers never share an attempt with them.

Memory: a camp holds what was received, not what was claimed; sizes above the limit are not asked for at all; all items
of a process share one Room, and a camp that finds it full drops what it has and tries again later.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from btfast.errors import RemoteError

PIECE: Final = 16384
LIMIT: Final = 16 << 20  # bytes of metadata: 800,000 pieces, or a quarter of a million files

FIRST_WINDOW = 2  # requests at a peer at once, to begin with: libtorrent's own number
LAST_WINDOW = 16
SLOW = 3.0  # seconds after which a piece is asked from another peer as well
AT_ONCE = 3  # peers that are asked for one piece at the same time
UNANSWERED = 20.0  # seconds after which a request has failed
REST = 30.0  # seconds that a peer is left alone after it has failed us
TURN = 30.0  # seconds after which a lone attempt gives way to others that wait
PROBE = 10.0  # seconds after which peers are asked that did not tell the size
CAMPS = 3  # that fetch at the same time
ALONE = 2  # peers of a spoiled camp that are tried at the same time
STRIKES = 3  # pieces of a wrong length before a peer is dropped
FORMER_CAMPS = 16  # without peers, remembered for what they had sent
UNASKED = 200  # pieces that nobody asked for before a peer is dropped

Request = tuple[int, int]  # peer, piece


class Room:
    """Bytes of metadata that all items of a process may hold before they are verified."""

    def __init__(self, limit: int = 128 << 20) -> None:
        self.free = limit

    def take(self, size: int) -> bool:
        if size > self.free:
            return False
        self.free -= size
        return True

    def give_back(self, size: int) -> None:
        self.free += size


class _Attempt:
    """One assembly of the whole: what has come and from whom, what is asked from whom, what is left to ask."""

    def __init__(self, size: int, room: Room, now: float) -> None:
        self.size = size
        self.began = now
        self.pieces: dict[int, tuple[bytes, int]] = {}
        self.asked: dict[int, dict[int, float]] = {}  # piece: peer: when
        self._room = room
        self._left: deque[int] = deque(range(-(-size // PIECE)))

    def length(self, piece: int) -> int:
        return min(PIECE, self.size - piece * PIECE)

    def next_for(self, peer: int, now: float) -> int | None:
        """A piece to ask this peer for: one that nobody was asked for, or one that others are slow to bring."""
        if self._left:
            return self._left.popleft()
        for piece, askers in self.asked.items():
            if peer not in askers and len(askers) < AT_ONCE and now - max(askers.values()) > SLOW:
                return piece
        return None

    def ask(self, piece: int, peer: int, now: float) -> None:
        self.asked.setdefault(piece, {})[peer] = now

    def give_up(self, piece: int, peer: int) -> None:
        """The peer does not bring it."""
        askers = self.asked.get(piece)
        if askers is not None and askers.pop(peer, None) is not None and not askers:
            del self.asked[piece]
            self._left.appendleft(piece)

    def add(self, piece: int, data: bytes, peer: int) -> bool:
        """Keeps a piece of the right length. False: there is no room."""
        if piece in self.pieces:
            return True
        if not self._room.take(len(data)):
            return False
        self.pieces[piece] = (data, peer)
        self.asked.pop(piece, None)
        return True

    @property
    def whole(self) -> bool:
        return len(self.pieces) * PIECE >= self.size

    @property
    def senders(self) -> set[int]:
        return {peer for _, peer in self.pieces.values()}

    def joined(self) -> bytes:
        return b"".join(self.pieces[piece][0] for piece in range(len(self.pieces)))

    def close(self) -> None:
        self._room.give_back(sum(len(data) for data, _ in self.pieces.values()))
        self.pieces = {}


class _Peer:
    __slots__ = ("alone", "asked", "failures", "most", "number", "rests_until", "since", "size", "strikes", "unasked", "window")

    def __init__(self, number: int, now: float, most: int) -> None:
        self.number = number
        self.since = now
        self.most = most  # requests that it bears at once
        self.size: int | None = None
        self.asked: dict[int, tuple[float, _Attempt | None]] = {}  # piece: when, and for which attempt
        self.window = min(FIRST_WINDOW, most)
        self.rests_until = now
        self.failures = 0  # in a row
        self.strikes = 0
        self.unasked = 0
        self.alone: _Attempt | None = None

    def able(self, now: float) -> bool:
        return self.rests_until <= now


class _Camp:
    """The peers that claim one size."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.members: dict[int, _Peer] = {}
        self.together: _Attempt | None = None
        self.spoiled = False
        self.full_until = 0.0  # there was no room for it
        self.evidence: list[tuple[int, bytes, int]] = []  # of an attempt that failed: piece, its digest, sender

    def able(self, now: float) -> bool:
        return self.full_until <= now and any(peer.able(now) for peer in self.members.values())

    def failures(self, now: float) -> int:
        """Of the one of its peers that has failed us least."""
        return min(peer.failures for peer in self.members.values() if peer.able(now))

    def fetching(self) -> bool:
        return self.together is not None or any(peer.alone is not None for peer in self.members.values())

    def close(self) -> None:
        """Drops what has come."""
        if self.together is not None:
            self.together.close()
            self.together = None
        for peer in self.members.values():
            if peer.alone is not None:
                peer.alone.close()
                peer.alone = None


class MetadataFetch:
    """The metadata of one torrent. `poll_requests` says what to ask; `metadata` is there when it has come.

    `is_right(metadata)`: whether its hash is the torrent's. Peers are numbers; they join when they say that they speak
    ut_metadata.
    """

    def __init__(self, is_right: Callable[[bytes], bool], room: Room, now: float, *, limit: int = LIMIT) -> None:
        self._is_right = is_right
        self._room = room
        self._limit = limit
        self._peers: dict[int, _Peer] = {}
        self._camps: dict[int, _Camp] = {}
        self._liars: list[int] = []
        self._convicted: set[int] = set()
        self.metadata: bytes | None = None
        self.progress_at = now  # when a piece has come last
        self.received = 0  # bytes of pieces that were asked for
        self.oversize = 0  # the largest size above the limit that was claimed
        self.rejects = 0
        self.unanswered = 0

    # peers

    def peer_joined(self, number: int, size: int | None, now: float, *, most: int = LAST_WINDOW) -> None:
        """It speaks ut_metadata and says how large the metadata is, or that it does not know. May be said again.

        `most`: requests that it bears at once.
        """
        peer = self._peers.get(number)
        if peer is None:
            peer = self._peers[number] = _Peer(number, now, most)
        if size is None or size == peer.size or self.metadata is not None:
            return
        self._leave_camp(peer)
        if size > self._limit:
            self.oversize = max(self.oversize, size)
            peer.rests_until = math.inf  # until it says something else
            return
        peer.size = size
        peer.rests_until = min(peer.rests_until, now)
        self._camps.setdefault(size, _Camp(size)).members[number] = peer

    def peer_left(self, number: int) -> None:
        """Its connection has ended."""
        peer = self._peers.pop(number, None)
        if peer is not None:
            self._leave_camp(peer)

    def _leave_camp(self, peer: _Peer) -> None:
        self._withdraw(peer)
        camp = self._camps.get(peer.size) if peer.size is not None else None
        if camp is not None:
            camp.members.pop(peer.number, None)
            if not camp.members:
                camp.close()
                former = [other.size for other in self._camps.values() if not other.members]
                if not camp.evidence:
                    del self._camps[camp.size]
                elif len(former) > FORMER_CAMPS:
                    del self._camps[former[0]]
        peer.size = None

    def _withdraw(self, peer: _Peer) -> None:
        """What it was asked for is asked from others."""
        for piece, (_, attempt) in peer.asked.items():
            if attempt is not None:
                attempt.give_up(piece, peer.number)
        peer.asked = {}
        if peer.alone is not None:
            peer.alone.close()
            peer.alone = None

    def _rest(self, peer: _Peer, now: float) -> None:
        peer.rests_until = now + REST
        peer.failures += 1
        peer.window = min(FIRST_WINDOW, peer.most)
        self._withdraw(peer)

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, number: object) -> bool:
        """Whether a peer says that it has metadata."""
        return number in self._peers

    # requests

    def poll_requests(self, now: float) -> list[Request]:
        """What to ask now. Call it after each event and about once a second."""
        if self.metadata is not None:
            return []
        for peer in list(self._peers.values()):
            if any(now - when > UNANSWERED for when, _ in peer.asked.values()):
                self.unanswered += 1
                self._rest(peer, now)
        found: list[Request] = []
        active = self._active(now)
        for camp in active:
            if camp.spoiled:
                self._ask_alone(camp, now, found)
            else:
                self._ask_together(camp, now, found)
        if not active:
            self._probe(now, found)
        return found

    def _active(self, now: float) -> list[_Camp]:
        """The camps that fetch: first those that have not failed, of these the ones that have begun, then the large ones."""
        able = [camp for camp in self._camps.values() if camp.able(now)]
        able.sort(key=lambda camp: (camp.failures(now), not camp.fetching(), -len(camp.members)))
        chosen, claimed = able[:1], able[0].size if able else 0
        for camp in able[1:]:
            if len(chosen) < CAMPS and claimed + camp.size <= self._limit:
                chosen.append(camp)
                claimed += camp.size
        if len(chosen) < len(able):
            for camp in self._camps.values():
                if camp not in chosen and camp.fetching():
                    for peer in camp.members.values():
                        self._withdraw(peer)
                    camp.close()
        return chosen

    def _ask_together(self, camp: _Camp, now: float, found: list[Request]) -> None:
        if camp.together is None:
            camp.together = _Attempt(camp.size, self._room, now)
        # One request each in turn, so that nobody has a full queue while others have none.
        peers = [peer for peer in camp.members.values() if peer.able(now)]
        while peers:
            peers = [peer for peer in peers if self._ask(peer, camp.together, now, found)]

    def _ask_alone(self, camp: _Camp, now: float, found: list[Request]) -> None:
        guilty = {sender for _, _, sender in camp.evidence}
        trying = [peer for peer in camp.members.values() if peer.alone is not None]
        waiting = [peer for peer in camp.members.values() if peer.alone is None and peer.able(now)]
        waiting.sort(key=lambda peer: peer.number in guilty)
        if waiting:
            for peer in trying:
                if peer.alone is not None and now - peer.alone.began > TURN:
                    self._rest(peer, now)
        trying = [peer for peer in trying if peer.alone is not None]
        most = ALONE if 2 * camp.size <= self._limit else 1
        for peer in waiting[: max(0, most - len(trying))]:
            peer.alone = _Attempt(camp.size, self._room, now)
            trying.append(peer)
        for peer in trying:
            assert peer.alone is not None
            while self._ask(peer, peer.alone, now, found):
                pass

    def _ask(self, peer: _Peer, attempt: _Attempt, now: float, found: list[Request]) -> bool:
        if len(peer.asked) >= peer.window:
            return False
        piece = attempt.next_for(peer.number, now)
        if piece is None:
            return False
        attempt.ask(piece, peer.number, now)
        peer.asked[piece] = (now, attempt)
        found.append((peer.number, piece))
        return True

    def _probe(self, now: float, found: list[Request]) -> None:
        """Those that did not tell the size may have learned it since: an answer to piece 0 tells."""
        for peer in self._peers.values():
            if peer.size is None and not peer.asked and peer.able(now) and now - peer.since >= PROBE:
                peer.asked[0] = (now, None)
                found.append((peer.number, 0))

    # answers

    def handle_reject(self, number: int, piece: int, now: float) -> None:
        """It does not have it, or does not want to give it."""
        peer = self._peers.get(number)
        if peer is not None and piece in peer.asked:
            self.rejects += 1
            self._rest(peer, now)

    def handle_data(self, number: int, piece: int, total_size: int | None, data: bytes, now: float) -> None:
        """A piece has come. Raises RemoteError for a peer that is to be dropped."""
        peer = self._peers.get(number)
        if peer is None or self.metadata is not None:
            return
        if piece not in peer.asked:
            peer.unasked += 1
            if peer.unasked > UNASKED:
                raise RemoteError("ut_metadata: sends what nobody asked for: the peer is dropped")
            return
        _, attempt = peer.asked.pop(piece)
        if attempt is None:
            self._rest(peer, now)
            self.peer_joined(number, total_size, now)
            return
        if len(data) != attempt.length(piece):
            # rTorrent's last piece is empty when the size is a multiple of 16 KiB: another peer has to give it.
            attempt.give_up(piece, number)
            peer.strikes += 1
            if peer.strikes >= STRIKES:
                raise RemoteError("ut_metadata: its pieces have wrong lengths: the peer is dropped")
            self._rest(peer, now)
            return
        peer.window = min(peer.most, peer.window + 1)
        peer.failures = 0
        if piece not in attempt.pieces:
            self.progress_at = now
            self.received += len(data)
        camp = self._camps[attempt.size]
        if not attempt.add(piece, data, number):
            for member in camp.members.values():
                self._withdraw(member)
            camp.close()
            camp.full_until = now + SLOW
        elif attempt.whole:
            self._judge(camp, attempt)

    def _judge(self, camp: _Camp, attempt: _Attempt) -> None:
        metadata = attempt.joined()
        if self._is_right(metadata):
            self.metadata = metadata
            self._convict(metadata)
            self.close()
            return
        senders = attempt.senders
        for peer in camp.members.values():
            if attempt is camp.together or attempt is peer.alone:
                self._withdraw(peer)
        if len(senders) == 1:
            for number in senders:
                self._lied(number)
                self.peer_left(number)
        else:
            camp.spoiled = True
            for piece, (data, sender) in attempt.pieces.items():
                camp.evidence.append((piece, hashlib.sha1(data).digest(), sender))
        attempt.close()
        if attempt is camp.together:
            camp.together = None

    def _convict(self, metadata: bytes) -> None:
        """Who sent what is not in the right metadata?"""
        for camp in self._camps.values():
            for piece, digest, sender in camp.evidence:
                right = hashlib.sha1(metadata[piece * PIECE : (piece + 1) * PIECE]).digest()
                if camp.size != len(metadata) or digest != right:
                    self._lied(sender)

    def _lied(self, number: int) -> None:
        if number not in self._convicted:
            self._convicted.add(number)
            self._liars.append(number)

    def poll_liars(self) -> Iterator[int]:
        """Peers that have sent wrong data, each once."""
        liars, self._liars = self._liars, []
        yield from liars

    def close(self) -> None:
        """Gives the memory back."""
        for peer in self._peers.values():
            self._withdraw(peer)
        for camp in self._camps.values():
            camp.close()
        self._camps = {}
