"""Asking peers for hashes of v2 files (BEP 52): whom for which run, how long to wait, and who lies.

Theory of operation. Each run is asked for with its proof, so that every answer is judged alone, by the one hash that it
must lead to: a wrong answer convicts its sender at once, and nobody else's work is lost. What is urgent goes first; the
rest goes in order. A peer may lack the hashes of pieces that it lacks, so a reject is no failure: that run is asked from
others, and from the same peer again later.

Memory: an answer that is right is handed on at once; of what is open, only the questions are held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from btfast.errors import RemoteError
from btfast.metainfo.hash_range import HashRange
from btfast.metainfo.merkle import HASH

FIRST_WINDOW = 2  # requests at a peer at once, to begin with
LAST_WINDOW = 16
SLOW = 3.0  # seconds after which a run is asked from another peer as well
AT_ONCE = 3  # peers that are asked for one run at the same time
UNANSWERED = 20.0  # seconds after which a peer has failed us
REST = 30.0  # seconds that a peer is left alone after that, or not asked again for what it has rejected
REFUSALS = 64  # runs that a peer has rejected and that are remembered; one that rejects more is left alone
UNASKED = 200  # answers that nobody asked for before a peer is dropped

Request = tuple[int, HashRange]  # peer, what to ask it


class _Question:
    __slots__ = ("anchor", "askers")

    def __init__(self, anchor: bytes) -> None:
        self.anchor = anchor  # what the answer must lead to
        self.askers: dict[int, float] = {}  # peer: when

    @property
    def last(self) -> float:
        """When somebody was asked last who has not given up; there is somebody."""
        return max(self.askers.values())


class _Peer:
    __slots__ = ("asked", "number", "owed", "refused", "rests_until", "unasked", "window")

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.asked: dict[HashRange, float] = {}
        self.refused: OrderedDict[HashRange, float] = OrderedDict()  # until when it is not asked again
        self.rests_until = now
        self.window = FIRST_WINDOW
        self.owed = 0  # answers that may still come, and that nobody waits for any more
        self.unasked = 0


class HashRequests:
    """`poll_requests` says what to ask; `handle_hashes` gives back what was right. Peers are numbers; all speak v2."""

    def __init__(self) -> None:
        self._peers: dict[int, _Peer] = {}
        self._open: dict[HashRange, _Question] = {}  # asked or to be asked
        self._waiting: OrderedDict[HashRange, None] = OrderedDict()  # of these, those that nobody is asked for
        self._asked: OrderedDict[HashRange, _Question] = OrderedDict()  # those that one more may be asked for, in turn
        self._liars: list[int] = []
        self.unanswered = 0
        self.rejects = 0

    def __len__(self) -> int:
        """Runs that have not come yet."""
        return len(self._open)

    @property
    def peers(self) -> int:
        """How many may be asked."""
        return len(self._peers)

    # questions

    def add(self, wanted: HashRange, anchor: bytes, *, urgent: bool = False) -> None:
        """Asks for a run until it has come; `anchor` is the hash that it must lead to."""
        if wanted not in self._open:
            self._open[wanted] = _Question(anchor)
            self._waiting[wanted] = None
        if urgent and wanted in self._waiting:
            self._waiting.move_to_end(wanted, last=False)

    def forget(self, wanted: HashRange) -> None:
        """It is not needed any more."""
        question = self._open.pop(wanted, None)
        if question is not None:
            self._waiting.pop(wanted, None)
            self._asked.pop(wanted, None)
            for number in question.askers:
                self._peers[number].asked.pop(wanted, None)
                self._peers[number].owed += 1

    def hopeless(self, wanted: HashRange, now: float) -> bool:
        """Whether a run is wanted, nobody is asked for it, and nobody of those who are here can be for now."""
        question = self._open.get(wanted)
        return (
            question is not None
            and not question.askers
            and bool(self._peers)
            and all(peer.rests_until > now or peer.refused.get(wanted, now) > now for peer in self._peers.values())
        )

    # peers

    def peer_joined(self, number: int, now: float) -> None:
        """It speaks v2."""
        if number not in self._peers:
            self._peers[number] = _Peer(number, now)

    def peer_left(self, number: int) -> None:
        """Its connection has ended, or is about to."""
        peer = self._peers.pop(number, None)
        if peer is not None:
            self._withdraw(peer)

    def _withdraw(self, peer: _Peer) -> None:
        for wanted in list(peer.asked):
            self._give_up(peer, wanted)

    def _give_up(self, peer: _Peer, wanted: HashRange) -> None:
        """It does not bring this: whoever is next is asked."""
        del peer.asked[wanted]
        question = self._open[wanted]
        when = question.askers.pop(peer.number)
        if not question.askers:
            self._asked.pop(wanted, None)
            self._waiting[wanted] = None
            self._waiting.move_to_end(wanted, last=False)
        elif when > question.last or wanted not in self._asked:
            # The others were slow already when this one was asked: the next is asked now. Where it is not the last who
            # gives up, the run takes its place in the order again, or waits SLOW more.
            oldest = next(iter(self._asked.values()), question)
            self._asked[wanted] = question
            self._asked.move_to_end(wanted, last=when <= question.last and question.last > oldest.last)

    def _rest(self, peer: _Peer, now: float) -> None:
        peer.rests_until = now + REST
        peer.window = FIRST_WINDOW
        peer.owed += len(peer.asked)
        self._withdraw(peer)

    # requests

    def poll_requests(self, now: float) -> list[Request]:
        """What to ask now. Call it after each event and about once a second."""
        if not self._open:
            return []
        for peer in self._peers.values():
            if peer.asked and now - next(iter(peer.asked.values())) > UNANSWERED:  # the first is the oldest
                self.unanswered += 1
                self._rest(peer, now)
        found: list[Request] = []
        # One request each in turn, so that nobody has a full queue while others have none.
        able = [peer for peer in self._peers.values() if peer.rests_until <= now]
        while able:
            able = [peer for peer in able if self._ask(peer, now, found)]
        return found

    def _ask(self, peer: _Peer, now: float, found: list[Request]) -> bool:
        if len(peer.asked) >= peer.window:
            return False
        wanted = self._next_for(peer, now)
        if wanted is None:
            return False
        question = self._open[wanted]
        question.askers[peer.number] = peer.asked[wanted] = now
        self._waiting.pop(wanted, None)
        self._asked.pop(wanted, None)
        if len(question.askers) < AT_ONCE:
            self._asked[wanted] = question
        found.append((peer.number, wanted))
        return True

    def _next_for(self, peer: _Peer, now: float) -> HashRange | None:
        """A run that nobody is asked for, or one that others are slow to bring."""
        for wanted in self._waiting:  # no more than REFUSALS of them are passed over
            if peer.refused.get(wanted, now) <= now:
                return wanted
        if self._waiting:
            return None
        for wanted, question in self._asked.items():  # nor more than REFUSALS and LAST_WINDOW of these
            if now - question.last <= SLOW:
                return None
            if peer.number not in question.askers and peer.refused.get(wanted, now) <= now:
                return wanted
        return None

    # answers

    def handle_hashes(self, number: int, asked: HashRange, hashes: bytes, now: float) -> bool:
        """An answer has come. True: it was wanted and is right. Raises RemoteError for a peer that is to be dropped.

        A peer whose answer is wrong is a liar, and is not asked any more.
        """
        peer = self._peers.get(number)
        if peer is None:
            return False
        if asked not in peer.asked:
            late = peer.owed > 0
            peer.owed -= late
            peer.unasked += not late
            if peer.unasked > UNASKED:
                raise RemoteError("hashes: sends what nobody asked for: the peer is dropped")
            return False
        if asked.ancestor(hashes) != self._open[asked].anchor:
            self._liars.append(number)
            self.peer_left(number)
            return False
        peer.window = min(LAST_WINDOW, peer.window + 1)
        self.forget(asked)
        peer.owed -= 1  # it has just come
        return True

    def handle_reject(self, number: int, asked: HashRange, now: float) -> None:
        """It does not have it, or does not want to give it."""
        peer = self._peers.get(number)
        if peer is None or asked not in peer.asked:
            if peer is not None:
                peer.owed -= peer.owed > 0
            return
        self.rejects += 1
        self._give_up(peer, asked)
        peer.refused[asked] = now + REST
        peer.refused.move_to_end(asked)
        if len(peer.refused) > REFUSALS:
            peer.refused.popitem(last=False)
            self._rest(peer, now)

    def poll_liars(self) -> Iterator[int]:
        """Peers that have sent wrong hashes, each once."""
        liars, self._liars = self._liars, []
        yield from liars


def run_of(asked: HashRange, hashes: bytes) -> bytes:
    """Of a right answer, what was asked for, without its proof."""
    return hashes[: asked.length * HASH]
