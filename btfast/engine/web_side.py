"""The web seeds of a torrent as its receiving half sees them."""

from __future__ import annotations

from typing import Protocol

from btfast.swarm.blocks import BlockRun


class WebSide(Protocol):
    """The web seeds of the torrent, which the picker knows by their numbers as it knows peers."""

    def knows(self, number: int) -> bool: ...

    def pace(self, number: int, now: float) -> tuple[float, float]: ...

    def take_back(self, number: int, run: BlockRun) -> None: ...

    def handle_right(self, index: int, senders: set[int]) -> None: ...
