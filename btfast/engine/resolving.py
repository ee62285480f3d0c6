"""An item that has no more than an info-hash: finds peers and has them send the metadata (BEP 9), or says why not.

Trackers, DHT, LSD and the peers that the magnet link names are asked at the same time. What was found goes on to the
torrent: the known addresses, the connections, and who is asked for more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Container
from typing import Any

from btfast.discovery.announce import AnnounceRequest
from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.engine.control import Add
from btfast.engine.dialing import Dialer
from btfast.engine.exchange import PeerExchange
from btfast.engine.flag import Flag
from btfast.engine.peer_set import PeerSet
from btfast.engine.preface import Preface
from btfast.engine.swarm_names import SwarmNames
from btfast.engine.swarms import Swarms
from btfast.errors import Error, InputError, SourceNotFoundError, VerificationError
from btfast.events import Peer, Progress, Warning
from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.magnet import Magnet
from btfast.metainfo.torrent import Torrent
from btfast.swarm.metadata import MetadataFetch
from btfast.swarm.peers import Source

LEFT = 16384  # bytes that trackers are told are missing: of a torrent with 0 left we would be a seed
RECHECK = 10.0  # seconds without a peer that has metadata before those who name peers are asked again
AT_MOST = 5  # times the peers' time-out in all, however much of use seems to come: liars can drag on
HYBRID_LAYERS = 10.0  # seconds without a hash of a hybrid's v2 half: v1 peers have none, and its .torrent is of use without
NAMED_PEERS = 5  # addresses that the reason of a failure lists

_SOURCES = {
    Source.OPTION: "named", Source.TRACKER: "from trackers", Source.LSD: "from the local network", Source.DHT: "from the DHT",
    Source.EARLIER: "from an earlier run",
    Source.PEX: "from other peers", Source.INCOMING: "that came to us",
}  # fmt: skip


class Resolving:
    """`run` returns the torrent. After it, `peers`, `finding` and `preface` go on until `leave`, or serve the torrent."""

    private = False  # nobody knows yet
    seeds = False

    def __init__(self, context: Context, dialer: Dialer, add: Add, magnet: Magnet) -> None:
        self._context = context
        self._add = add
        self._magnet = magnet
        self._began = context.loop.time()
        self._rechecked = self._began
        self._asked = self._began
        self._held_up = 0.0  # seconds in which other torrents kept us from dialing
        self._arrived: asyncio.Future[None] = context.loop.create_future()
        self._tried: dict[PeerAddress, Source] = {}
        self._found: Counter[Source] = Counter()
        self._fetch = MetadataFetch(magnet.names, context.metadata_room, self._began)
        self._names = SwarmNames(magnet.swarm_hashes, v2=magnet.info_hash_v2 is not None)
        self.ended = Flag()
        self.peers = PeerSet(context, dialer, self._names, self._report_peer)
        self.preface = Preface(context, self._names, self._fetch, self.peers, self._metadata_arrived)
        self.peers.talk = self.preface
        self.peers.hopeful = self._fetch
        if context.settings.pex:
            PeerExchange(self.preface.extended, self.peers, telling=False)
        self.finding: Swarms | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return name_of(self._magnet)

    @property
    def received(self) -> int:
        """Bytes of metadata."""
        return self._fetch.received

    @property
    def seconds(self) -> float:
        """Since it began."""
        return max(1e-6, self._context.loop.time() - self._began)

    async def run(self) -> Torrent:
        """From an info-hash to a torrent. Raises btfast.Error."""
        trackers = [[url] for url in self._magnet.trackers]
        self.finding = Swarms(self._context, self, self._names, trackers, named=self._add.peers, together=True)
        try:
            await self._arrived
            torrent = torrent_of(self._magnet, self._fetch.metadata or b"")
            if self._add.metadata_only and torrent.hashes.missing:
                await self._complete(torrent)
            return torrent
        except BaseException:
            await self.leave()
            raise

    async def _complete(self, torrent: Torrent) -> None:
        """A .torrent of v2 has its piece layers in it, but for those that nobody sends in time."""
        whole: asyncio.Future[None] = self._context.loop.create_future()

        def learned(root: bytes) -> None:
            if torrent.hashes.complete and not whole.done():
                whole.set_result(None)

        def failed(error: Error) -> None:
            if not whole.done():
                whole.set_exception(error)

        from btfast.engine.hash_exchange import HashExchange
        from btfast.engine.hashless import missing_hashes

        exchange = HashExchange(self._context, torrent, self.peers, learned, failed)
        self.preface.hashes = exchange
        self.preface.names = self.peers.names = SwarmNames(torrent.swarm_hashes, v2=True)
        now = self._context.loop.time()
        for peer in list(self.peers.connections.values()):
            if peer.greeted:
                peer.v2 = peer.v2 or (torrent.info_hash_v2 or b"").startswith(peer.info_hash)
                exchange.peer_joined(peer, now)
        self.peers.speak_v2()
        patience = self._context.settings.peer_timeout
        if torrent.info_hash_v1 is not None:
            patience = min(patience, HYBRID_LAYERS)
        while (idle := self._context.loop.time() - max(now, exchange.progress_at)) < patience and not whole.done():
            await asyncio.wait((whole,), timeout=patience - idle)
        if whole.done():
            await whole
            return
        missing = set(torrent.hashes.missing)
        paths = ["/".join(file.path) for file in torrent.files if file.pieces_root in missing]
        why = missing_hashes(paths, exchange.facts)
        self._context.emit(Warning(id=self._add.id, message=f"{torrent.name}: {why}"))

    async def leave(self) -> None:
        """Ends all connections; trackers are told."""
        self._fetch.close()
        self.peers.close("done")
        if self.finding is not None:
            await self.finding.stop()

    def _metadata_arrived(self) -> None:
        self.peers.hopeful = ()
        if not self._arrived.done():
            self._arrived.set_result(None)

    def _report_peer(self, peer: PeerConnection, change: str, reason: str) -> None:
        self._context.emit(
            Peer(id=self._add.id, address=str(peer.address), change=change, reason=reason, client=peer.client)
        )

    # listening.Host

    def handle_incoming(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        self._found[Source.INCOMING] += 1
        self.peers.handle_incoming(peer, events, now)

    @property
    def swarm_hashes(self) -> tuple[bytes, ...]:
        """By which the link names it."""
        return self._names.hashes

    # swarms.Owner

    def announce_request(self, event: str | None) -> AnnounceRequest:
        return AnnounceRequest(
            info_hash=self._magnet.info_hash, peer_id=self._context.peer_id, port=self._context.port, left=LEFT, uploaded=0,
            downloaded=0, event=event, numwant=0 if event == "stopped" else 200, key=self._context.key,
            encryption=self._context.settings.encryption,
        )  # fmt: skip

    def handle_peers(self, addresses: list[PeerAddress], source: Source, sender: str = "") -> None:
        self._found[source] += len(addresses)
        for address in addresses[: NAMED_PEERS + 1]:
            if len(self._tried) <= NAMED_PEERS:
                self._tried[address] = source
        self.peers.add(addresses, source, sender=sender)

    def drop_peers(self, reason: str, keep: Container[Source]) -> None:
        self.peers.drop(reason, keep)

    def handle_tracker_warning(self, message: str) -> None:
        self._context.emit(Warning(id=self._add.id, message=message))

    # time

    def tick(self, now: float) -> None:
        """Once a second."""
        peers = list(self.peers.connections.values())
        self.preface.tick(peers, now)
        self.peers.tick(now)
        self._context.emit(
            Progress(
                id=self._add.id, state="metadata", done=0, total=0, rate_down=0.0, rate_up=0.0,
                peers=sum(peer.greeted for peer in peers), seeds=0, eta=None,
            )
        )  # fmt: skip
        error = self._verdict(now)
        if error is not None:
            self.fail(error)

    def fail(self, error: Error) -> None:
        if not self._arrived.done():
            self._arrived.set_exception(error)

    def _verdict(self, now: float) -> Error | None:
        """Why to give up now, or None."""
        finding = self.finding
        if finding is None:
            return None
        patience = self._context.settings.peer_timeout
        if not len(self._fetch) and now - self._rechecked > RECHECK:
            self._rechecked = now
            finding.want_peers()
        alone = not len(self.peers.known) and not self.peers.connections
        nobody = alone and finding.exhausted
        if self.peers.held_up:
            self._held_up += now - self._asked
        self._asked = now
        counted = now - self._held_up
        if counted - self._fetch.progress_at <= patience and counted - self._began <= AT_MOST * patience and not nobody:
            return None
        if alone and self.peers.banned:
            return VerificationError(
                f"{self.name}: all sources are banned: {self.peers.banned} sent metadata of another hash and nobody else is "
                "known: name another peer with --peer"
            )
        when = "" if nobody else f" within {now - self._began:.0f} s"
        why = f"no metadata came{when}: {self._peers_tried()}{self._trackers_tried(finding)}"
        return SourceNotFoundError(f"{self.name}: {why}: check the link, or name a peer with --peer")

    def _peers_tried(self) -> str:
        if not self._found:
            return "nobody knows a peer"
        listed = ", ".join(map(str, list(self._tried)[:NAMED_PEERS]))
        more = ", ..." if len(self._tried) > NAMED_PEERS else ""
        counts = ", ".join(f"{count} {_SOURCES[source]}" for source, count in sorted(self._found.items()))
        greeted = sum(peer.greeted for peer in self.peers.connections.values())
        facts = [f"peers: {counts}" + (f" ({listed}{more})" if listed else ""), f"{greeted} connected now"]
        if self._fetch.oversize:
            facts.append(f"one claims {self._fetch.oversize} bytes of metadata, which is above the limit")
        if self._fetch.rejects:
            facts.append(f"{self._fetch.rejects} requests rejected")
        if self._fetch.unanswered:
            facts.append(f"{self._fetch.unanswered} not answered")
        if self.peers.banned:
            facts.append(f"{self.peers.banned} banned for wrong metadata")
        if greeted and not len(self._fetch):
            facts.append("none of them has metadata")
        return ", ".join(facts)

    def _trackers_tried(self, finding: Swarms) -> str:
        count = len(self._magnet.trackers)
        if not count:
            return "; the link names no tracker"
        if not self._context.settings.trackers:
            return "; its trackers were not asked (--no-trackers)"
        last = f", the last error: {finding.last_error}" if finding.last_error else ""
        return f"; {count} tracker{'s' if count > 1 else ''} asked{last}"


def name_of(magnet: Magnet) -> str:
    """For messages."""
    return f"magnet {magnet.name or magnet.info_hash.hex()!r}"


def torrent_of(magnet: Magnet, metadata: bytes) -> Torrent:
    """The torrent that `metadata`, whose hash is right, makes with what the link says. Raises InputError."""
    name = name_of(magnet)
    torrent = Torrent.from_metadata(metadata, trackers=magnet.trackers, web_seeds=magnet.web_seeds, what=name)
    if torrent.info_raw != metadata:
        raise InputError(f"{name}: its metadata is not one dictionary: the torrent was made by a broken tool")
    if not set(magnet.swarm_hashes) <= set(torrent.swarm_hashes):
        if len(magnet.swarm_hashes) > 1:
            raise InputError(f"{name}: its btih and btmh name two different torrents: get the link anew")
        raise InputError(f"{name}: its info-hash is of another version than its metadata: get the link anew")
    return torrent
