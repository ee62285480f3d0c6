"""Who is to blame for wrong pieces of one torrent: peers are banned, web seeds lose files, or the torrent is in doubt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from btfast.engine.context import Context
from btfast.engine.disagreement import halves_differ
from btfast.engine.peer_set import PeerSet
from btfast.errors import Error, VerificationError
from btfast.events import PieceFailed
from btfast.swarm.blocks import NOBODY
from btfast.swarm.peers import host_group

if TYPE_CHECKING:  # it is loaded when a torrent has web seeds
    from btfast.engine.web_seeds import WebSeeds

SAME_PIECE_FAILURES = 20  # hosts of which each sent the whole of one piece wrong: then the torrent itself is in doubt


class Blaming:
    """`number` is the item's, `name` the torrent's; `fail` ends it. `web`: its web seeds, once it has any."""

    def __init__(self, context: Context, number: int, name: str, peers: PeerSet, fail: Callable[[Error], None]) -> None:
        self._context = context
        self._number = number
        self._name = name
        self._peers = peers
        self._fail = fail
        self._failures: dict[int, set[str]] = {}
        self.web: WebSeeds | None = None
        self.disbelieve: Callable[[int], None] = lambda _: None  # hears of those who are banned

    def handle_bad_piece(self, index: int, senders: list[int], guilty: list[int]) -> None:
        """These sent a piece whose hash is wrong; the `guilty` ones sent what is wrong with it."""
        addresses = [address for number in senders if (address := self._peers.address_of(number)) is not None]
        servers = [name for number in senders if self.web is not None and (name := self.web.name(number))]
        named = [*map(str, addresses), *servers]
        self._context.emit(PieceFailed(id=self._number, index=index, peers=named))
        if servers and self.web is not None and self.web.handle_wrong(index, senders):
            guilty = []  # it has been told, and may have sent another file and no damage
        self.handle_guilty(guilty)
        if len(senders) != 1 or not addresses:
            return
        hosts = self._failures.setdefault(index, set())
        hosts.add(host_group(addresses[0].host))
        if len(hosts) >= SAME_PIECE_FAILURES:
            self._fail(
                VerificationError(
                    f"{self._name}: piece {index} came wrong from {SAME_PIECE_FAILURES} hosts: the torrent or all of its "
                    "sources are damaged",
                    index=index,
                )
            )

    def handle_disagreement(self, index: int) -> None:
        """A hybrid's piece is right by one half of its torrent and wrong by the other: nobody but its maker is to blame."""
        self._fail(halves_differ(self._name, index))

    def handle_guilty(self, guilty: list[int]) -> None:
        """These sent bad blocks. Nobody is known to have sent what an earlier run has left, and the rest of that stays."""
        for number in guilty:
            if number != NOBODY and (self.web is None or not self.web.handle_guilty(number)):
                self.disbelieve(number)
                self._peers.ban(number, "it sent wrong data")
