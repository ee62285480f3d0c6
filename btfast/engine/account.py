"""What one torrent has moved in this run and what is left of it, as users, trackers and the resume store are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btfast.discovery.announce import AnnounceRequest
from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.engine.control import Add
from btfast.engine.fetching import Fetching
from btfast.engine.selected import Selected
from btfast.engine.serving import Serving
from btfast.events import Progress
from btfast.metainfo.torrent import Torrent

if TYPE_CHECKING:  # it is loaded when a torrent has one
    from btfast.engine.web_seeds import WebSeeds


class Account:
    """The parts that count are named to it when they begin; until then all that they count is 0."""

    def __init__(
        self, context: Context, add: Add, torrent: Torrent, selected: Selected, peers: dict[int, PeerConnection]
    ) -> None:
        self._context = context
        self._add = add
        self._torrent = torrent
        self._selected = selected
        self._peers = peers
        self.fetching: Fetching | None = None
        self.serving: Serving | None = None
        self.web: WebSeeds | None = None
        self._told: Progress | None = None

    @property
    def downloaded(self) -> int:
        """Payload bytes that came, from peers and web seeds."""
        return self.fetching.downloaded if self.fetching is not None else 0

    @property
    def wasted(self) -> int:
        """Of them, those that were wrong or came twice."""
        return self.fetching.wasted if self.fetching is not None else 0

    @property
    def from_web(self) -> int:
        """Of them, those from web seeds."""
        return self.web.received if self.web is not None else 0

    @property
    def uploaded(self) -> int:
        """Payload bytes sent to peers."""
        return self.serving.uploaded(list(self._peers.values())) if self.serving is not None else 0

    def announce_request(self, event: str | None) -> AnnounceRequest:
        """What a tracker is told. Who leaves when all is there wants no peers any more."""
        context = self._context
        leaves = event == "stopped" or (event == "completed" and not (self._add.seed or context.settings.seeds))
        return AnnounceRequest(
            info_hash=self._torrent.info_hash, peer_id=context.peer_id, port=context.port, left=self._selected.missing,
            uploaded=self.uploaded, downloaded=self.downloaded, event=self._selected.announce_event(event),
            numwant=0 if leaves else 200, key=context.key, encryption=context.settings.encryption,
        )  # fmt: skip

    def tell_progress(self, state: str, down: float, up: float) -> bool:
        """Tells the user; `down` and `up` in bytes/s. Whether anything is not as it was told last."""
        peers = self._peers.values()
        progress = Progress(
            id=self._add.id, state=state, done=self._selected.done, total=self._selected.total, rate_down=down, rate_up=up,
            peers=sum(peer.greeted for peer in peers), seeds=sum(peer.is_seed for peer in peers),
            eta=self._selected.eta(down), uploaded=self.uploaded, web_seeds=self.web.active if self.web is not None else 0,
        )  # fmt: skip
        before, self._told = self._told, progress
        self._context.emit(progress)
        return progress != before
