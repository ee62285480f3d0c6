"""One torrent at work: opened, checked, fetched, finished, served. Holds the parts; each decides for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from functools import partial
from typing import TYPE_CHECKING

from btfast._bitfield import Bitfield
from btfast.discovery.announce import AnnounceRequest
from btfast.engine.account import Account
from btfast.engine.blaming import Blaming
from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.engine.control import Add
from btfast.engine.conversation import Conversation
from btfast.engine.dialing import Dialer
from btfast.engine.disk_work import DiskWork
from btfast.engine.early import EarlyPeers
from btfast.engine.exchange import PeerExchange
from btfast.engine.extended import Extended
from btfast.engine.fetching import Fetching
from btfast.engine.finished import introduce
from btfast.engine.finishing import Finishing
from btfast.engine.flag import Flag
from btfast.engine.hash_opening import open_exchange
from btfast.engine.likeness import marks_to_seek
from btfast.engine.limits import Stopwatch
from btfast.engine.lost_pieces import LostPieces
from btfast.engine.metadata_serving import MetadataServing
from btfast.engine.opening import Found, check_pieces, hold_place, survey_and_check
from btfast.engine.partial import PartialPieces, resume
from btfast.engine.patience import Patience
from btfast.engine.peer_events import PeerEvents
from btfast.engine.peer_set import PeerSet
from btfast.engine.placing import order_of
from btfast.engine.preparing import prepare
from btfast.engine.recording import MOST_PEERS, Figures, TorrentRecord
from btfast.engine.seeding_plans import open_plans
from btfast.engine.selected import Selected
from btfast.engine.serving import Serving
from btfast.engine.serving_time import ServingTime
from btfast.engine.sharing import Share
from btfast.engine.swarm_names import SwarmNames
from btfast.engine.swarms import Swarms
from btfast.engine.taken import Taken
from btfast.engine.taking_over import take_over
from btfast.engine.telling import Telling
from btfast.engine.unchoking import Unchoking
from btfast.engine.web_opening import open_web_seeds
from btfast.engine.whole_files import WholeFile
from btfast.errors import Error, VerificationError
from btfast.events import Complete, FileDone, Peer, Warning
from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout
from btfast.storage.lock import PlaceLock
from btfast.storage.messages import Known
from btfast.swarm.peers import Source
from btfast.swarm.pieces import Pieces

if TYPE_CHECKING:  # it is loaded when the first magnet link comes
    from btfast.engine.resolving import Resolving
    from btfast.engine.web_seeds import WebSeeds


class ActiveTorrent:
    """`number` names it to the workers; `run` returns when it is done.

    `resolved`: peers from before it had its metadata, which it takes over. `known`: what earlier runs have recorded.
    """

    def __init__(
        self, context: Context, dialer: Dialer, number: int, add: Add, torrent: Torrent, taken: Taken, selection: Selection,
        resolved: Resolving | None = None, known: Known | None = None,
    ) -> None:  # fmt: skip
        self.number = number
        self.torrent = torrent
        self._context = context
        self._add = add
        geometry = torrent.geometry
        self._taken = taken
        self._selection = selection
        self._order = order_of(number, add, torrent, self._selection, context.settings)
        self._layout = Layout(self._order)
        self._state = "queued"
        self.ended = Flag()  # nothing of it is under way any more
        self.handle_serving: Callable[[], None] = lambda: None  # is called when nothing is left but to serve
        self.handle_layers: Callable[[], None] = lambda: None  # is called when piece layers have come
        self.wake: Callable[[], None] = lambda: None  # is called when something has happened to it while it may have rested
        self._done: asyncio.Future[None] = context.loop.create_future()
        wanted = True if (levels := self._selection.piece_levels) is None else levels
        self._pieces = Pieces(geometry, Bitfield(geometry.piece_count), wanted=wanted, has_hash=torrent.hashes.digest)
        self._selected = Selected(context, torrent, self._selection, self._layout, self._pieces)
        self._resolved = resolved
        names = self._names = SwarmNames(torrent.swarm_hashes, v2=torrent.info_hash_v2 is not None)
        self._peers = resolved.peers if resolved is not None else PeerSet(context, dialer, names, self._report_peer)
        self._peers.names = names
        self._lines = context.lines()
        self._peers.cap(*self._lines)
        self._web: WebSeeds | None = None
        self._enough: ServingTime | None = None
        self._exchange: PeerExchange | None = None
        self._account = Account(context, add, torrent, self._selected, self._peers.connections)
        self._early = EarlyPeers()
        self._finishing = Finishing(context, self._layout, geometry, torrent.files, self._file_finished)
        self._share = Share(
            context, torrent, self._layout, self._pieces, partial(check_pieces, context, torrent, self._layout),
            received=lambda: self._account.downloaded, has=self._finishing.has, handle_found=self.handle_verified, fail=self.fail,
        )  # fmt: skip
        self._known = known
        self._record = TorrentRecord(torrent, self._layout, self._pieces, known, self._figures, context.resuming.changed)
        self._whole: WholeFile | None = None
        if add.whole:
            self._whole = WholeFile(context, torrent, self._layout, add.whole, self._finishing, self._record, self.fail)
        self.disk = DiskWork(context, add.id, self._layout, self._finishing, self._record, self)
        self._blaming = Blaming(context, add.id, torrent.name, self._peers, self.fail)
        self._telling = Telling(self._peers.connections)
        self._fetching: Fetching | None = None
        self._lost: LostPieces | None = None
        self._finding: Swarms | None = None
        self._place: PlaceLock | None = None
        self._watch = Stopwatch(context, self._lines[1])
        self._answered: list[str] = []  # trackers
        self._reused = 0  # bytes copied from other files of this machine
        self._left = False  # all goodbyes have been said

    @property
    def name(self) -> str:
        """For messages."""
        return self.torrent.name

    @property
    def seeds(self) -> bool:
        """Whether it serves complete data and does not end by itself."""
        return self._add.seed

    # life

    async def run(self) -> Complete:
        """From nothing to complete (and served for as long as was asked). Raises btfast.Error."""
        context, torrent = self._context, self.torrent
        introduce(context.emit, self._add.id, torrent, self._taken.wanted)
        self._state = "checking"
        context.workers.open_torrent(self._order)
        try:
            await self._start(await self._open())
            await self._done
            if self._whole is not None and not self._taken.any:
                complete, self._record.complete = self._record.complete, False
                await self._whole.verify()
                self._record.complete = complete
            if not self._add.seed:  # who serves reads there what the files do not have
                await self._selected.tidy()
            self._release_place()
            self._taken.tell()
            context.reusing.remember(torrent, self._layout, list(filter(self._finishing.has, self._selection.files)))
            account = self._account
            verdict, seconds = self._watch.verdict(account.downloaded, account.from_web), self._watch.seconds
            if (self._add.seed or context.settings.seeds) and not self._taken.any:  # stale files are not what peers ask for
                await self._serve()
                if self._lost is not None and self._lost.error is not None:
                    raise self._lost.error
            await self._farewell()
        finally:
            await self._leave("stopped")
        return Complete(
            id=self._add.id, source=self._add.source, name=torrent.name, info_hash=torrent.info_hash.hex(),
            directory=self._add.directory, files=[*self._finishing.names, *self._taken.names], bytes=self._taken.wanted.total,
            downloaded=account.downloaded, uploaded=account.uploaded, wasted=account.wasted,
            reused=self._reused + self._share.copied, seconds=seconds, rate=account.downloaded / seconds, limited_by=verdict,
        )  # fmt: skip

    async def _farewell(self) -> None:
        """What is complete stays complete: a cancel that comes while trackers are told changes nothing."""
        leaving = asyncio.ensure_future(self._leave("done"))
        try:
            await asyncio.shield(leaving)
        except asyncio.CancelledError:
            await leaving

    async def _open(self) -> Found:
        if not self._add.seed:
            self._place = hold_place(self._layout)
            files = self._selection.files
            earlier = await self._context.resuming.seek(marks_to_seek(self.torrent, self._layout, files, self._known))
            self._reused = await self._context.reusing.take(self.torrent, self._layout, files, earlier)
        found = await survey_and_check(
            self._context, self._add.id, self.torrent, self._layout, self._selection, writing=not self._add.seed,
            known=self._known, whole=self._whole,
        )  # fmt: skip
        indexes = found.have.indices()
        self._pieces.found(indexes)
        self._selected.handle_found(indexes)
        self._selected.parts_there = found.parts
        if self._add.seed and not self._pieces.complete:
            raise VerificationError(
                f"{self._add.source}: {(bad := self._selected.lacks())} of {self.torrent.piece_count} pieces in "
                f"{self._add.directory} are missing or wrong: only complete data can be served",
                bad=bad,
            )
        self._record.begin(found.named, found.unchanged, found.there, found.seen)
        return found

    async def _start(self, found: Found) -> None:
        context, torrent = self._context, self.torrent
        self._watch = Stopwatch(context, self._lines[1])
        self._fetching = Fetching(context, self.number, torrent, self._pieces, self, self._peers.connections, self._selection)
        self._blaming.disbelieve = self._fetching.disbelieve
        self._partial = PartialPieces(context, self.number, torrent.geometry, self._fetching)
        self._record.partial = self._partial.kept
        self.disk.fetching, self.disk.partial = self._fetching, self._partial
        revealing, suggesting = open_plans(context, torrent, self._peers.connections, seed=self._add.seed)
        self._serving = Serving(context, self._layout, torrent.geometry, self._pieces, revealing=revealing, suggesting=suggesting)
        self._account.fetching, self._account.serving = self._fetching, self._serving
        self._unchoking = Unchoking(context, self._peers.connections, suggesting)
        self._extended = Extended(context, lambda: self._pieces.complete and self._serving.revealing is None)
        if context.settings.pex and not torrent.private:
            self._exchange = PeerExchange(self._extended, self._peers)
        hashes = open_exchange(context, torrent, self._layout, self._selection, found, self._peers, self._fetching, self)
        self._conversation = Conversation(
            context, torrent, self._pieces, self._fetching, self._serving, self._extended, self._names,
            PeerEvents(self._peers, self._unchoking, self._exchange), hashes,
        )  # fmt: skip
        self._lost = LostPieces(
            context, self._add.id, torrent.name, self._layout, self._selection, self._pieces, self._selected, self._finishing,
            self._record, self._telling, self._fetching, self._serving, self,
            lambda index: self._conversation.announce_lost(index, list(self._peers.connections.values())),
        )  # fmt: skip
        MetadataServing(torrent, self._extended)
        self._state = "downloading"
        self._finishing.start(found.have, found.final, found.wrong_size)
        if not await prepare(self._finishing, self._selected, found.restore, self._done):
            return
        await resume(self._partial, self._known.partial if self._known is not None else [], self._done)
        self._share.begin(found.there)
        self._check_done()
        if self._done.done() and not self._add.seed and not context.settings.seeds:
            return
        self._peers.talk = self._conversation
        resolved, self._resolved = self._resolved, None
        self._finding = take_over(
            context, resolved, self, torrent, self._conversation, self._peers, complete=self._pieces.complete
        ) or Swarms(
            context, self, self._names, torrent.announce_list, named=self._add.peers, complete=self._pieces.complete,
            together=bool(self._add.magnet) and not torrent.private, nodes=torrent.nodes, first=self._record.trackers,
        )  # fmt: skip
        web = self._web = open_web_seeds(context, self._add, torrent, self._fetching, self._lines[1])
        self._account.web = self._blaming.web = web
        if web is not None:
            web.mtimes = self._finishing.mtimes
            web.fill(context.loop.time())
        self._patience = Patience(context, torrent.name, self._peers, self._finding, web, hashes, self._fetching.hashless)
        self._early.release(self._peers, context.loop.time())
        if not self._pieces.complete:
            self._peers.add(self._record.peers(), Source.EARLIER)

    def _release_place(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            place.release()

    async def _serve(self) -> None:
        self._state = "seeding"
        self.handle_serving()
        self._enough = ServingTime(self._context, self._record.uploaded, self._selected.total)
        await self._enough.enough()

    async def _leave(self, reason: str) -> None:
        """Says goodbye to peers, trackers and workers; may be called again, and is safe to cancel."""
        if self._left:
            return
        try:
            if self._fetching is not None:
                self._fetching.pause()
            if self._lost is not None:
                self._lost.close()
            self._early.close()
            self._peers.close(reason)
            self._taken.close()
            if self._whole is not None:
                self._whole.close()
            if self._web is not None:
                self._web.close(reason)
            await self._share.close()
            if self._fetching is not None:
                for index in self._partial.save():
                    self._record.handle_written(index)
                self._fetching.close()
                self._serving.close()
            self._figures()  # who answered
            if self._settled:
                self._context.resuming.ended(self._record)
                await self._say_goodbye()
            else:  # slow trackers must not keep the record from the disk
                await asyncio.gather(self._say_goodbye(), self._settle())
            self._left = True
        finally:
            self._context.resuming.ended(self._record)
            self._context.workers.close_torrent(self.number)
            self._release_place()

    async def _say_goodbye(self) -> None:
        finding, self._finding = self._finding, None
        if finding is not None:
            await finding.stop()
        resolved, self._resolved = self._resolved, None
        if resolved is not None:
            await resolved.leave()

    @property
    def _settled(self) -> bool:
        """What came is written, and may be recorded later with others: a run that is killed meanwhile loses nothing."""
        return self._pieces.complete and not self._finishing.left and self._record.complete

    async def _settle(self) -> None:
        """What came is written, and recorded."""
        if not self._pieces.complete or self._finishing.left:
            await self._context.workers.settle(self.number)
        self._context.resuming.ended(self._record)
        if not self._record.complete:
            await self._context.resuming.settle()

    def fail(self, error: Error) -> None:
        if not self._done.done():
            self._done.set_exception(error)

    # what the parts say

    def handle_verified(self, index: int) -> None:
        self._selected.handle_verified(index)
        self._telling.add(index)
        self._record.handle_written(index)
        self._finishing.handle_verified(index)

    # lost_pieces.Owner

    @property
    def may_write(self) -> bool:
        return not self._add.seed and not self._done.done()

    def handle_incomplete(self) -> None:
        self._state = "downloading"
        self.wake()

    def handle_batch_end(self) -> None:
        """The completions of one wake-up have been handled."""
        self._telling.tell(self._context.loop.time())

    def handle_restored(self, index: int, *, whole: bool) -> None:
        """Of a piece that the parts file had; `whole`: it was there and right."""
        if self._selected.handle_restored(index, whole=whole):
            self._record.handle_written(index)
            self._finishing.handle_verified(index)

    def handle_answered(self) -> None:
        """disk_work.Owner"""
        self._check_done()

    def _check_done(self) -> None:
        proved = self._fetching is None or self._fetching.proved
        if self._pieces.complete and self._finishing.left == 0 and proved and not self._done.done():
            self._record.complete = self._pieces.seeding
            if self._finding is not None and self._pieces.seeding:
                self._finding.completed()
            self._peers.known.seeds_wanted = False
            self._conversation.handle_complete(list(self._peers.connections.values()))
            self._done.set_result(None)

    def _file_finished(self, file: int) -> None:
        self._share.handle_file(file)
        self._context.emit(FileDone(id=self._add.id, path=self._order.paths[file], size=self._order.lengths[file]))

    def handle_bad_piece(self, index: int, senders: list[int], guilty: list[int]) -> None:
        self._blaming.handle_bad_piece(index, senders, guilty)

    def handle_disagreement(self, index: int) -> None:
        self._blaming.handle_disagreement(index)

    def handle_guilty(self, guilty: list[int]) -> None:
        self._blaming.handle_guilty(guilty)

    def _report_peer(self, peer: PeerConnection, change: str, reason: str) -> None:
        self._context.emit(Peer(id=self._add.id, address=str(peer.address), change=change, reason=reason, client=peer.client))

    # swarms.Owner

    @property
    def private(self) -> bool:
        return self.torrent.private

    def announce_request(self, event: str | None) -> AnnounceRequest:
        return self._account.announce_request(event)

    def handle_peers(self, addresses: list[PeerAddress], source: Source, sender: str = "") -> None:
        self._peers.add(addresses, source, sender=sender)
        self.wake()

    def drop_peers(self, reason: str, keep: Container[Source]) -> None:
        self._peers.drop(reason, keep)

    def handle_tracker_warning(self, message: str) -> None:
        self._context.emit(Warning(id=self._add.id, message=message))

    # figures

    def _figures(self) -> Figures:
        if self._finding is not None:
            self._answered = self._finding.answered()
        none = self.torrent.private or self._record.complete
        peers = [] if none else self._peers.known.proved(MOST_PEERS)
        return Figures(uploaded=self._account.uploaded, downloaded=self._account.downloaded, peers=peers, trackers=self._answered)

    @property
    def done_bytes(self) -> int:
        return self._selected.done

    @property
    def wanted_bytes(self) -> int:
        """Bytes of the files that are wanted."""
        return self._selected.total

    def handle_incoming(self, peer: PeerConnection, events: list[tuple[object, ...]], now: float) -> None:
        """listening.Host"""
        self.wake()
        ready = self._finding is not None or self._resolved is not None
        (self._peers if ready else self._early).handle_incoming(peer, events, now)

    def give_memory_back(self) -> None:
        """Other torrents wait for memory that half-fetched pieces hold here."""
        if self._fetching is not None:
            self._fetching.give_memory_back()

    @property
    def idle(self) -> bool:
        """Whether it needs no nudge: everything is here and told."""
        return self._pieces.complete and not self._telling.waits

    def nudge(self, now: float) -> None:
        """Ten times a second."""
        if self._finding is not None and self._fetching is not None:
            self._fetching.nudge(now)
            if self._web is not None:
                self._web.fill(now)
            self._telling.tell(now)

    def tick(self, now: float) -> float:
        """Once a second. Until when it may rest unless it is woken: `now` where it is to be looked after each second."""
        if self._fetching is None:
            self._progress()
            return now
        peers = list(self._peers.connections.values())
        self._conversation.tick(peers, now)
        self._unchoking.tick(now, seeding=self._pieces.complete)
        self._serving.tick(now)
        self.disk.tick(now)
        self._share.tick(now)
        if not self._pieces.complete:
            self._fetching.tick(now)
            if self._web is not None:
                self._web.tick(now)
            for index in self._partial.tick(now):
                self._record.handle_written(index)
            self._lose_patience(now)
        if self._state == "downloading" and self._pieces.complete:
            self._state = "finishing"
        self._peers.tick(now)
        if self._exchange is not None:
            self._exchange.tick(now)
        if self._enough is not None:
            self._enough.tick()
        news = self._progress(self._fetching.rate.value(now), self._unchoking.rate(now))
        return now if news or self._state != "seeding" or self.disk.paused or not self.idle else self._peers.next_time(now)

    def _lose_patience(self, now: float) -> None:
        if self._finding is None or self._done.done() or self._taken.taking:
            return
        hashless = self._fetching.hashless if self._fetching is not None else None
        waits = bool(self._share.waits) or bool(self._context.starved) or (hashless is not None and hashless.busy)
        busy = waits or self.disk.paused or self._context.workers.busy_with(self.number)
        error = self._patience.verdict(now, busy=busy, done=self.done_bytes, total=self._selected.total)
        if error is not None and not self._accept(error):
            self.fail(error)

    def _accept(self, error: Error) -> bool:
        """Begins to take files as they are where that is asked for; False where nothing is to be taken."""
        if self._web is None or not isinstance(error, VerificationError):
            return False
        began = self._taken.begin(self._layout, self._web, self._finishing, self._record, error, self._done)
        if began:  # pieces with bytes of what is taken are here no more
            self._peers.close("done")
        return began

    def _progress(self, down: float = 0.0, up: float = 0.0) -> bool:
        """Whether anything has changed since it was told last."""
        return self._account.tell_progress("paused" if self.disk.paused else self._state, down, up)
