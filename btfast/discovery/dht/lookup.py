"""One iterative search in one address family: ask the nearest known, who name nearer ones, until the nearest have answered.

ALPHA questions are under way at a time. One without an answer after a short time makes room for another, and counts
again if it answers later; after a longer time nothing waits for it any more, unless nobody has answered yet. The search
ends when the K nearest that are alive have answered, and of those whose id fits their address (BEP 42) the K nearest as
well: nodes that give themselves ids at will cannot end it before honest ones were asked, and where nobody's id fits it
costs nothing.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from itertools import islice

from btfast.discovery.dht.endpoints import Endpoint, host_key, network_key
from btfast.discovery.dht.krpc import Contact
from btfast.discovery.dht.node_id import fits

K = 8
ALPHA = 4
MAX_CANDIDATES = 100  # that were not asked yet; the nearest stay
MAX_QUESTIONS = 200  # of one search
MAX_NAMED = 16  # nodes of one answer that are looked at
PER_NETWORK = 2  # candidates of one /24 or /48

FRESH, ASKED, SLOW, LATE, ANSWERED, FAILED = range(6)


class Candidate:
    """A node of a search. `hop`: how many answers away from what we knew; `rank`: its distance.

    One whose id is not known (b"") comes first.
    """

    __slots__ = ("contact", "fits", "hop", "rank", "state", "token")

    def __init__(self, contact: Contact, rank: int, hop: int) -> None:
        self.contact = contact
        self.rank = rank
        self.hop = hop
        self.fits = rank >= 0 and fits(contact.node_id, contact.endpoint[:-2])
        self.state = FRESH
        self.token: bytes | None = None


def _rank(candidate: Candidate) -> int:
    return candidate.rank


class Lookup:
    """`target`: 20 bytes. `unnamed`: endpoints whose ids are not known, asked first."""

    def __init__(self, target: bytes, contacts: Iterable[Contact], unnamed: Iterable[Endpoint] = ()) -> None:
        self.target = target
        self._number = int.from_bytes(target, "big")
        self._order: list[Candidate] = []
        self._met: set[Endpoint] = set()
        self._hosts: set[bytes] = set()
        self._networks: dict[bytes, int] = {}
        self._under_way = 0  # asked and not slow
        self._slow = 0
        self._late = 0
        self._fresh = 0
        self.ended = False  # nothing more is wanted
        self.questions = 0
        self.answers = 0
        self.hops = 0  # of the farthest that answered
        self.add([Contact(b"", endpoint) for endpoint in unnamed], 0)
        self.add(contacts, 0)

    def add(self, contacts: Iterable[Contact], hop: int) -> None:
        """Nodes that somebody named."""
        for contact in contacts:
            host = host_key(contact.endpoint)
            if host in self._hosts or contact.endpoint in self._met:
                continue
            network = network_key(contact.endpoint)
            if network is not None:
                count = self._networks.get(network, 0)
                if count >= PER_NETWORK:
                    continue
                self._networks[network] = count + 1
            self._hosts.add(host)
            self._met.add(contact.endpoint)
            insort(self._order, Candidate(contact, self._rank(contact.node_id), hop), key=_rank)
            self._fresh += 1
            if self._fresh > MAX_CANDIDATES:
                self._drop_farthest()

    def _rank(self, node_id: bytes) -> int:
        return int.from_bytes(node_id, "big") ^ self._number if node_id else -1

    def _drop_farthest(self) -> None:
        for place in range(len(self._order) - 1, -1, -1):
            candidate = self._order[place]
            if candidate.state == FRESH:
                del self._order[place]
                self._met.discard(candidate.contact.endpoint)
                self._release(candidate.contact.endpoint)
                self._fresh -= 1
                return

    def _release(self, endpoint: Endpoint) -> None:
        self._hosts.discard(host_key(endpoint))
        network = network_key(endpoint)
        if network is not None:
            self._networks[network] -= 1

    def _window(self) -> list[Candidate]:
        """Those that decide: the K nearest alive, and the K nearest alive whose id fits."""
        window: list[Candidate] = []
        alive = fitting = 0
        for candidate in self._order:
            if candidate.state in (LATE, FAILED):
                continue
            if alive >= K and not candidate.fits:
                continue
            window.append(candidate)
            if candidate.state != SLOW and candidate.rank >= 0:
                alive += 1
                fitting += candidate.fits
                if alive >= K and fitting >= K:
                    break
        return window

    def poll(self) -> list[Candidate]:
        """Candidates to ask now."""
        if self.ended or self._under_way >= ALPHA or not self._fresh:
            return []
        asked = []
        for candidate in self._window():
            if candidate.state == FRESH:
                if self._under_way >= ALPHA or self.questions >= MAX_QUESTIONS:
                    break
                candidate.state = ASKED
                self._fresh -= 1
                self._under_way += 1
                self.questions += 1
                asked.append(candidate)
        return asked

    @property
    def done(self) -> bool:
        """Nothing is under way that could change the result. After a `poll` only."""
        if self.ended:
            return True
        if self._under_way:
            return False
        if self._late and not self.answers:
            return False
        return not self._slow or not any(
            candidate.state == SLOW and (candidate.rank >= 0 or not self.answers) for candidate in self._window()
        )

    def handle_answer(
        self, candidate: Candidate, node_id: bytes, contacts: Iterable[Contact], token: bytes | None
    ) -> None:
        """It has answered, and named others. One that is another than we were told counts as who it says it is."""
        if node_id != candidate.contact.node_id:
            self._order.remove(candidate)
            candidate.contact = Contact(node_id, candidate.contact.endpoint)
            candidate.rank = self._rank(node_id)
            candidate.fits = fits(node_id, candidate.contact.endpoint[:-2])
            insort(self._order, candidate, key=_rank)
        self._leave(candidate)
        candidate.state = ANSWERED
        candidate.token = token
        self.answers += 1
        self.hops = max(self.hops, candidate.hop + 1)
        if not self.ended:
            self.add(islice(contacts, MAX_NAMED), candidate.hop + 1)

    def handle_slow(self, candidate: Candidate) -> None:
        """It has not answered yet; the second time nothing waits for it any more."""
        if candidate.state == ASKED:
            candidate.state = SLOW
            self._under_way -= 1
            self._slow += 1
        elif candidate.state == SLOW:
            candidate.state = LATE
            self._slow -= 1
            self._late += 1

    def handle_failure(self, candidate: Candidate) -> None:
        """It has not answered. Another endpoint of its host may be tried: perhaps somebody named a wrong one on purpose."""
        self._leave(candidate)
        candidate.state = FAILED
        self._release(candidate.contact.endpoint)

    def _leave(self, candidate: Candidate) -> None:
        if candidate.state == ASKED:
            self._under_way -= 1
        elif candidate.state == SLOW:
            self._slow -= 1
        elif candidate.state == LATE:
            self._late -= 1

    def closest(self) -> list[Candidate]:
        """Those to store something at: of the ones that answered with a token the K nearest, and the K nearest that fit."""
        answered = [candidate for candidate in self._order if candidate.state == ANSWERED and candidate.token]
        fitting = [candidate for candidate in answered if candidate.fits][:K]
        chosen = answered[:K]
        return chosen + [candidate for candidate in fitting if candidate not in chosen]
