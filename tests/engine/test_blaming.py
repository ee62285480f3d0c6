"""Who is to blame for wrong data: never those who are not known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from btfast.engine.blaming import Blaming
from btfast.errors import Error
from btfast.events import PieceFailed
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.blocks import NOBODY


def test_what_an_earlier_run_has_left_wrong_puts_nothing_else_of_it_in_doubt() -> None:
    events: list[Any] = []
    failed: list[Error] = []
    banned: list[int] = []
    disbelieved: list[int] = []
    addresses = {7: PeerAddress("127.0.0.1", 7000)}
    peers: Any = SimpleNamespace(address_of=addresses.get, ban=lambda number, reason: banned.append(number))
    context: Any = SimpleNamespace(emit=events.append)
    blaming = Blaming(context, 1, "t", peers, failed.append)
    blaming.disbelieve = disbelieved.append
    blaming.handle_bad_piece(3, [NOBODY], [NOBODY])
    blaming.handle_guilty([NOBODY, 7])
    assert (banned, disbelieved, failed) == ([7], [7], [])
    assert [(event.index, event.peers) for event in events if isinstance(event, PieceFailed)] == [(3, [])]
