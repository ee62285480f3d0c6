"""What local discovery does for one info-hash."""

from __future__ import annotations

from typing import Protocol

from btfast.engine.context import Context
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.peers import Source


class Owner(Protocol):
    """Who the peers are sought for."""

    @property
    def info_hash(self) -> bytes: ...

    @property
    def private(self) -> bool: ...

    def handle_peers(self, addresses: list[PeerAddress], source: Source) -> None: ...


class LsdFinding:
    """Runs from the start until `stop`; does nothing for a private torrent (BEP 27) or with --no-lsd."""

    def __init__(self, context: Context, owner: Owner) -> None:
        self._lsd = context.lsd
        self._owner = owner
        self._info_hash = owner.info_hash
        if context.settings.lsd and not owner.private:
            self._lsd.add(self._info_hash, self._found)

    def _found(self, address: PeerAddress) -> None:
        self._owner.handle_peers([address], Source.LSD)

    def hand_over(self, owner: Owner) -> None:
        self._owner = owner
        if owner.private:
            self.stop()

    @property
    def exhausted(self) -> bool:
        """Nobody will answer any more, or nobody was asked."""
        return not self._lsd.may_answer(self._info_hash)

    def want_peers(self) -> None:
        self._lsd.want_peers(self._info_hash)

    def stop(self) -> None:
        self._lsd.remove(self._info_hash)
