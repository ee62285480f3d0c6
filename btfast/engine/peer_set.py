"""The peers of one torrent: known addresses, connections out and in, limits, bans."""

from __future__ import annotations

import ipaddress
import itertools
import socket
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any, Protocol

from btfast.engine.connecting import Connecting
from btfast.engine.connection import Owner, PeerConnection
from btfast.engine.context import Context
from btfast.engine.dialing import Dialer
from btfast.engine.swarm_names import SwarmNames
from btfast.engine.throttle import Line
from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.reach import reach_of
from btfast.swarm.peers import KnownPeers, Source, host_group
from btfast.swarm.priority import peer_priority
from btfast.swarm.source_policy import may_name

if TYPE_CHECKING:
    from btfast.wire.mse import Secured

REMEMBERED = 1000  # peers that have left
OURS = 3  # one in so many places is kept for connections out: who floods us with connections must not choose our peers
PER_HOST = 8  # connections from one host, the loopback excepted
AGAIN = 4  # connections of v1 that are made anew for v2
USELESS = 60.0  # seconds without data either way after which a connection may have to make room for another
PATIENT = 3  # times as long for one that has something for us and lets us wait
TRIED = 4  # one in so many places may be taken from who is of no use for addresses that may not answer


class Talk(Owner, Protocol):
    """The conversation that connections are handed to."""

    def greet(self, peer: PeerConnection) -> None: ...

    def handshake(self, info_hash: bytes, *, outgoing: bool) -> bytes: ...


class PeerSet:
    """`connections` holds the connected peers by number; other parts read it, only this one changes it."""

    def __init__(
        self, context: Context, dialer: Dialer, names: SwarmNames, report: Callable[[PeerConnection, str, str], None]
    ) -> None:
        self._context = context
        self._dialer = dialer
        self._report = report
        self._numbers = itertools.count()
        self._gone: dict[int, PeerAddress] = {}
        self._listening: dict[int, PeerAddress] = {}  # where connected peers that came to us listen
        self._closed = False
        self.names = names
        self.talk: Talk
        self.known = KnownPeers(priority=self._priority)
        self._connecting = Connecting(context, dialer, self)
        self.last_failure = ""  # why the last connection out led to nothing
        self.connections: dict[int, PeerConnection] = {}
        self._up: Line | None = None
        self._down: Line | None = None
        self.banned = 0  # peers
        self.hopeful: Container[int] = ()  # connections that may have what we want besides pieces

    def add(self, addresses: list[PeerAddress], source: Source, *, sender: str = "", seeds: bool = False) -> None:
        """Addresses to try. `sender`: the host that named them; `seeds`: they are said to want nothing."""
        now = self._context.loop.time()
        for address in addresses:
            self.known.add(address, source, now, sender=sender, seed=seeds)
        if addresses:
            self.dial()

    def tick(self, now: float) -> None:
        """Once a second: dials, at need in the place of one that is of no use."""
        if not self._closed and self._full:
            self._give_up_one(now)
        self.dial()

    @property
    def _full(self) -> bool:
        if self._context.places.full:
            return True
        return len(self.connections) + self.known.dialing >= self._context.settings.max_peers

    def dial(self) -> None:
        """Starts as many connections as the limits allow, in turn with other torrents."""
        if not self._closed and len(self.known):
            self._dialer.want(self)

    def dial_one(self) -> bool:
        """dialing.Wanting"""
        if self._closed or self._full:
            return False
        address = self.known.next_dial(self._context.loop.time())
        if address is None:
            return False
        self._connecting.dial(address)
        return True

    def next_time(self, now: float) -> float:
        """When there is something to do, as things stand: `now` with any connection or attempt, infinite for never."""
        due = now if self.connections or self.known.dialing else self.known.next_time()
        return float("inf") if due is None else due

    @property
    def held_up(self) -> bool:
        """Whether it has addresses and dials none of them, since other torrents take all the room."""
        if self.known.dialing or not self._dialer.waits(self):
            return False
        due = self.known.next_time()
        return due is not None and due <= self._context.loop.time()

    def _give_up_one(self, now: float) -> None:
        """While pieces are wanted, who has nothing for us must not keep out an address that may have them."""
        settings, known = self._context.settings, self.known
        if not known.seeds_wanted or not known.has_new(now) or known.dialing >= max(1, settings.max_peers // TRIED):
            return
        patience = min(USELESS, settings.peer_timeout / 2)
        useless = [
            (hope, _last_use(peer), number)
            for number, peer in self.connections.items()
            if peer.outgoing and (peer.peer_choking or not peer.am_interested)
            for hope in [peer.am_interested or number in self.hopeful]
            if now - _last_use(peer) > (patience * PATIENT if hope else patience)
        ]
        if useless:
            worst = self.connections[min(useless)[2]]
            worst.close("it has nothing for us, and another peer takes its place")
            known.set_aside(worst.address, now)

    # connecting.Owner

    def handshake(self, address: PeerAddress) -> bytes:
        return self.talk.handshake(self.names.hash_for(address), outgoing=True)

    def handle_connected(self, address: PeerAddress, sock: socket.socket, secured: Secured | None) -> None:
        now = self._context.loop.time()
        if self.known.source(address) is None:  # banned meanwhile, or not wanted any more
            sock.close()
            self._dialer.answered(address, None)
            self._connecting.unwanted(address)
            return
        try:
            peer = PeerConnection(
                self._context.loop, sock, address, self.talk, outgoing=True, secured=secured,
                info_hash=self.names.hash_for(address),
            )  # fmt: skip
        except OSError as error:
            sock.close()
            self._dialer.answered(address, None)
            self._connecting.unwanted(address)
            self.handle_failed(address, error.strerror or "broken")
            return
        self._adopt(peer)
        if secured is not None and secured.rest and not peer.closed:
            self.talk.handle_events(peer, peer.stream.handle_bytes(secured.rest), now)

    def handle_failed(self, address: PeerAddress, why: str) -> None:
        self.last_failure = f"{address}: {why}"
        self.known.failed(address, self._context.loop.time())

    def cap(self, up: Line | None, down: Line | None) -> None:
        """The torrent's caps."""
        self._up, self._down = up, down
        for peer in self.connections.values():
            peer.up, peer.down = up, down

    def _adopt(self, peer: PeerConnection) -> None:
        peer.number = next(self._numbers)
        if self._context.port:
            self.known.set_own(PeerAddress(peer.local_host, self._context.port))
        peer.up, peer.down = self._up, self._down
        self.connections[peer.number] = peer
        self._context.places.connected += 1
        self.talk.greet(peer)

    def handle_incoming(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        """A connection to us has named this torrent."""
        if self._closed:
            peer.close("too late")
        elif self.known.is_banned(peer.address):
            peer.close("it is banned")
        elif not self._host_has_room(peer.address.host):
            peer.close("too many connections from one host")
        elif not self._make_room(now):
            peer.close("too many peers")
        else:
            peer.owner = self.talk
            peer.info_hash = self.names.answer(peer.info_hash, events)
            self._adopt(peer)
            if not peer.closed:
                self.talk.handle_events(peer, events, now)

    def _host_has_room(self, host: str) -> bool:
        if ipaddress.ip_address(host).is_loopback:
            return True
        group = host_group(host)
        others = self.connections.values()
        return sum(not other.outgoing and host_group(other.address.host) == group for other in others) < PER_HOST

    def _make_room(self, now: float) -> bool:
        """Room for one connection in, at need in the place of the one that has been of no use for longest."""
        limit = self._context.settings.max_peers
        incoming = [peer for peer in self.connections.values() if not peer.outgoing]
        full = self._context.places.full
        if len(self.connections) < limit and len(incoming) < limit - limit // OURS and not full:
            return True
        useless = [peer for peer in incoming if now - _last_use(peer) > USELESS]
        if not useless:
            return False
        worst = min(
            useless,
            key=lambda peer: (
                peer.peer_interested or peer.am_interested, self._priority(peer.reached_at or peer.address), _last_use(peer)
            ),
        )  # fmt: skip
        worst.close("another peer takes its place")
        return True

    def greeted(self, peer: PeerConnection) -> str | None:
        """Its handshake has come. Why it is refused, or None."""
        now = self._context.loop.time()
        if peer.peer_id == self._context.peer_id:
            if peer.outgoing:
                self.known.set_own(peer.address)
            return "it is ourselves"
        for other in self.connections.values():
            if other is not peer and other.greeted and other.peer_id == peer.peer_id and _same_host(other, peer):
                return "it is connected already"
        if peer.outgoing:
            self._dialer.answered(peer.address, now - peer.connected_at)
            self._connecting.worked(peer.address, encrypted=peer.encrypted)
            self.known.connected(peer.address)
        self._report(peer, "connected", "")
        return None

    def introduced(self, peer: PeerConnection) -> None:
        """It may have said where it listens: nobody has to dial it there now, and we may later."""
        address = peer.reached_at
        if peer.outgoing or address is None or self._listening.get(peer.number) == address:
            return
        now = self._context.loop.time()
        self._leave_listening(peer, now)  # it says another port now: it is connected at one place only
        if may_name(Source.INCOMING, reach_of(peer.address.host), address):
            self.known.add(address, Source.INCOMING, now)
            if self.known.connected(address):
                self._listening[peer.number] = address

    def _leave_listening(self, peer: PeerConnection, now: float) -> None:
        listening = self._listening.pop(peer.number, None)
        if listening is not None:
            self.known.disconnected(listening, now, useful=peer.stream.payload > 0, seed=peer.is_seed or peer.upload_only)

    def _priority(self, address: PeerAddress) -> int:
        """BEP 40's, once we know what our own address is."""
        own = self._context.external.host(v6=":" in address.host)
        return peer_priority(PeerAddress(own, self._context.port), address) if own else 0

    def dropped(self, peer: PeerConnection, reason: str) -> None:
        """A connection has ended."""
        if self.connections.pop(peer.number, None) is not None:
            self._context.places.connected -= 1
        now = self._context.loop.time()
        self._leave_listening(peer, now)
        if peer.outgoing:
            if not peer.greeted:
                self._dialer.answered(peer.address, None)
            if peer.greeted:
                self.known.disconnected(
                    peer.address, now, useful=peer.stream.payload > 0, seed=peer.is_seed or peer.upload_only
                )
            else:
                silent = peer.stream.received == 0
                self.names.failed(peer.address)
                self._connecting.failed(peer.address, reason, encrypted=peer.encrypted, silent=silent)
        if peer.greeted:
            self._gone[peer.number] = peer.address
            if len(self._gone) > REMEMBERED:
                del self._gone[next(iter(self._gone))]
            self._report(peer, "disconnected", reason)

    def address_of(self, number: int) -> PeerAddress | None:
        """Where a peer is, or was: the last REMEMBERED that have gone can still be found guilty."""
        peer = self.connections.get(number)
        return peer.address if peer is not None else self._gone.get(number)

    def ban(self, number: int, reason: str) -> None:
        """Never again; on the loopback and in private networks only this address, since others may share the host."""
        peer = self.connections.get(number)
        address = self.address_of(number)
        if address is None:
            return
        self.banned += not self.known.is_banned(address)
        self.known.banned(address, whole_host=ipaddress.ip_address(address.host).is_global)
        if peer is not None:
            if peer.listen_port and peer.listen_port != address.port:
                self.known.banned(PeerAddress(address.host, peer.listen_port))
            self._report(peer, "banned", reason)
            peer.close(reason)

    def speak_v2(self) -> None:
        """What was v1 is a hybrid: some of those that were greeted as v1 are greeted again, for the hashes of the v2 half."""
        greeted = [peer for peer in self.connections.values() if peer.outgoing and peer.greeted and not peer.v2]
        for peer in greeted[:AGAIN]:
            peer.close("the torrent is a hybrid: it is asked for v2")
            self.known.renew(peer.address)
        self.dial()

    def drop(self, reason: str, keep: Container[Source]) -> None:
        """Forgets who was found so far, connected or not, but for those that the sources `keep` named."""
        self.known.forget_found(keep)
        for peer in list(self.connections.values()):
            if self.known.source(peer.address) not in keep:
                peer.close(reason)

    def close(self, reason: str) -> None:
        self._closed = True
        self._connecting.close()
        for peer in list(self.connections.values()):
            peer.close(reason)


def _last_use(peer: PeerConnection) -> float:
    """When data moved last between us, or when it came."""
    return max(peer.connected_at, peer.last_payload, peer.last_served)


def _same_host(one: PeerConnection, other: PeerConnection) -> bool:
    return one.address.host == other.address.host
