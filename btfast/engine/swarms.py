"""Where the peers of one torrent come from in each of its swarms: a hybrid is sought and announced by both of its hashes.

The trackers, the DHT and the local network know swarms by info-hash alone, so each swarm has a Finding of its own; whoever
is found goes into one set of peers.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from typing import Protocol

import msgspec

from btfast.discovery.announce import AnnounceRequest
from btfast.engine.context import Context
from btfast.engine.finding import Finding
from btfast.engine.swarm_names import SwarmNames
from btfast.engine.together import together
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.peers import Source


class Owner(Protocol):
    """Who the peers are sought for: a torrent, or an item that has no metadata yet."""

    @property
    def private(self) -> bool:
        """Only trackers and the user may name peers (BEP 27). False where it is not known yet."""
        ...

    def announce_request(self, event: str | None) -> AnnounceRequest:
        """Of any of its swarms: the info-hash is set for each."""
        ...

    def handle_peers(self, addresses: list[PeerAddress], source: Source, sender: str = "") -> None: ...

    def drop_peers(self, reason: str, keep: Container[Source]) -> None: ...

    def handle_tracker_warning(self, message: str) -> None: ...


class _Swarm:
    """finding.Owner: one swarm of the owner's."""

    def __init__(self, owner: Owner, names: SwarmNames, info_hash: bytes) -> None:
        self._owner = owner
        self._names = names
        self.info_hash = info_hash

    @property
    def private(self) -> bool:
        return self._owner.private

    def announce_request(self, event: str | None) -> AnnounceRequest:
        request = self._owner.announce_request(event)
        if request.info_hash == self.info_hash:
            return request
        return msgspec.structs.replace(request, info_hash=self.info_hash)

    def handle_peers(self, addresses: list[PeerAddress], source: Source, sender: str = "") -> None:
        if source != Source.OPTION:  # who was named may be in either
            self._names.found(addresses, self.info_hash)
        self._owner.handle_peers(addresses, source, sender)

    def drop_peers(self, reason: str, keep: Container[Source]) -> None:
        self._owner.drop_peers(reason, keep)

    def handle_tracker_warning(self, message: str) -> None:
        self._owner.handle_tracker_warning(message)


class Swarms:
    """Runs from the start until `stop`; parameters as Finding's, in every swarm of `names`."""

    def __init__(
        self, context: Context, owner: Owner, names: SwarmNames, announce_list: Sequence[Sequence[str]], *,
        named: Iterable[tuple[str, int]] = (), complete: bool = False, together: bool = False,
        nodes: Iterable[tuple[str, int]] = (), first: Collection[str] = (),
    ) -> None:  # fmt: skip
        self._context = context
        self._findings: dict[bytes, Finding] = {}
        named, nodes = list(named), list(nodes)
        for info_hash in names.hashes:
            self._findings[info_hash] = Finding(
                context, _Swarm(owner, names, info_hash), announce_list, named=named, complete=complete, together=together,
                nodes=nodes, first=first,
            )  # fmt: skip
            named, nodes = [], []  # both lead to one set of peers, and to one DHT

    def answered(self) -> list[str]:
        """Trackers that have answered."""
        return list(dict.fromkeys(url for finding in self._findings.values() for url in finding.answered()))

    def hand_over(
        self, owner: Owner, names: SwarmNames, announce_list: Sequence[Sequence[str]], *, complete: bool = False
    ) -> None:
        """Another one wants the peers from now on: what had no metadata has become a torrent, perhaps with more names."""
        for info_hash in names.hashes:
            swarm = _Swarm(owner, names, info_hash)
            finding = self._findings.get(info_hash)
            if finding is not None:
                finding.hand_over(swarm, complete=complete)
            else:
                self._findings[info_hash] = Finding(
                    self._context, swarm, announce_list, complete=complete, together=not owner.private
                )

    @property
    def exhausted(self) -> bool:
        """Nobody is left who could name another peer."""
        return all(finding.exhausted for finding in self._findings.values())

    @property
    def last_error(self) -> str | None:
        """What went wrong with the trackers last."""
        return next((finding.last_error for finding in self._findings.values() if finding.last_error), None)

    def want_peers(self) -> None:
        """Those that are known are not enough."""
        for finding in self._findings.values():
            finding.want_peers()

    def completed(self) -> None:
        """The last piece was verified in this session."""
        for finding in self._findings.values():
            finding.completed()

    async def stop(self) -> None:
        """Ends it all; trackers are told."""
        await together([finding.stop() for finding in self._findings.values()])
