"""When to give a torrent up: nobody has had anything for us for too long, or nobody is left who could."""

from __future__ import annotations

from btfast.engine.context import Context
from btfast.engine.peer_set import PeerSet
from btfast.engine.swarms import Swarms
from btfast.errors import Error, IncompleteError, VerificationError

TYPE_CHECKING = False
if TYPE_CHECKING:  # they are loaded when a torrent has a v2 half, or web seeds
    from btfast.engine.hash_exchange import HashExchange
    from btfast.engine.hashless import Hashless
    from btfast.engine.web_seeds import WebSeeds

CHOKED = 3  # times as long: in a busy swarm a place in somebody's queue is worth waiting for
NEWCOMERS = 3  # times as long at most: those who come and go, and never send anything, are not waited for any longer
UNSEEN = 5.0  # seconds between two looks that none of us lived through: we were stopped, or the machine was
RECHECK = 10.0  # seconds without a connected peer before those who name peers are asked again


class Patience:
    """Asked once a second."""

    def __init__(
        self, context: Context, name: str, peers: PeerSet, finding: Swarms, web: WebSeeds | None = None,
        hashes: HashExchange | None = None, hashless: Hashless | None = None,
    ) -> None:
        self._context = context
        self._web = web
        self._hashes = hashes
        self._hashless = hashless
        self._name = name
        self._peers = peers
        self._finding = finding
        self._alone_since = self._fruitless_since = self._asked = context.loop.time()

    def verdict(self, now: float, *, busy: bool, done: int, total: int) -> Error | None:
        """Why to give up now, or None. `busy`: it is the memory or the disk that the torrent waits for."""
        patience = self._context.settings.peer_timeout
        recent, young = min(5.0, patience), min(20.0, patience)
        peers = [peer for peer in self._peers.connections.values() if peer.greeted]
        passed, self._asked = now - self._asked, now
        held_up = passed if self._peers.held_up or passed > UNSEEN else 0.0
        web = self._web
        came = any(now - peer.last_payload < recent for peer in peers)
        came = came or (self._hashes is not None and now - self._hashes.progress_at < recent)
        if busy or came or (web is not None and web.hopeful(now, recent)):
            self._alone_since = self._fruitless_since = now
        elif now - self._fruitless_since < NEWCOMERS * patience and any(
            now - peer.connected_at < young and (peer.have is None or peer.am_interested) for peer in peers
        ):
            self._alone_since = now
        else:  # time in which it could do nothing does not count: nobody is to lose the peer that was never dialed
            self._alone_since += held_up
            self._fruitless_since += held_up
        if any(peer.am_interested and peer.peer_choking for peer in peers):
            patience *= CHOKED
        alone = now - self._alone_since
        known = len(self._peers.known)
        nothing = not known and not self._peers.connections and self._finding.exhausted
        nothing = nothing and (web is None or web.exhausted)
        if alone > RECHECK and not self._peers.connections:
            self._finding.want_peers()
        if nothing and self._peers.banned:
            return VerificationError(
                f"{self._name}: all sources are banned: {self._peers.banned} sent wrong data and nobody else is known: "
                "name another peer with --peer",
                done=done, total=total,
            )  # fmt: skip
        if alone <= patience and not nothing:
            return None
        lacks = self._lacks()
        if lacks and self._hashless is not None and self._hashless.stuck:
            return IncompleteError(
                f"{self._name}: {lacks}: try again later, or name a peer that has them with --peer", done=done, total=total
            )
        if web is not None:
            return web.verdict(self._name, peers=len(peers), done=done, total=total)
        why = f"{known} known, {len(peers)} connected, none of them sends what is missing" if known else "none is known"
        if known and not peers and self._peers.last_failure:
            why += f"; {self._peers.last_failure}"
        if lacks:
            why += f"; {lacks}"
        tracker = f" ({self._finding.last_error})" if self._finding.last_error else ""
        return IncompleteError(
            f"{self._name}: no peers: {why}{tracker}: try again later, or name one with --peer", done=done, total=total
        )

    def _lacks(self) -> str:
        """Which files wait for their hashes, and who was asked; "" where none does."""
        if self._hashless is None or self._hashes is None or not (paths := self._hashless.lacking()):
            return ""
        from btfast.engine.hashless import missing_hashes

        return missing_hashes(paths, self._hashes.facts)
