"""Whether a torrent has a v2 half (BEP 52); only then what speaks of hashes is loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from btfast.engine.context import Context
from btfast.engine.fetching import Fetching
from btfast.engine.opening import Found, check_pieces
from btfast.errors import Error
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout

if TYPE_CHECKING:
    from btfast.engine.hash_exchange import HashExchange, Peers


class Owner(Protocol):
    """The torrent."""

    handle_layers: Callable[[], None]

    def handle_verified(self, index: int) -> None: ...

    def handle_answered(self) -> None:
        """Something that may have been the last was looked at."""

    def fail(self, error: Error) -> None: ...


def open_exchange(
    context: Context, torrent: Torrent, layout: Layout, selection: Selection, found: Found, peers: Peers, fetching: Fetching,
    owner: Owner,
) -> HashExchange | None:  # fmt: skip
    """A torrent of v1 alone has none. `found`: what was on disk when it began."""
    if torrent.info_hash_v2 is None:
        return None
    from btfast.engine.hash_exchange import HashExchange
    from btfast.engine.hash_serving import HashServing
    from btfast.engine.mending import Mending

    pieces, look, learned = fetching.pieces, None, _nothing
    missing = torrent.hashes.missing
    if missing:  # also where all is here: something may be lost
        from btfast.engine.hashless import Hashless

        check = partial(check_pieces, context, torrent, layout)
        release = fetching.picker.hashes_came
        fetching.hashless = Hashless(context, torrent, pieces, found.there, check, owner, release, fetching.refill)
        learned = fetching.hashless.handle_learned
        if torrent.info_hash_v1 is not None and not pieces.complete:
            from btfast.engine.second_look import SecondLook

            look = SecondLook(context, torrent, layout, pieces, owner.fail, owner.handle_answered)
    fetching.hashes = HashExchange(
        context, torrent, peers, learned, owner.fail, fetching.handle_judged, HashServing(context, torrent, layout, pieces), look,
        wanted_first(torrent, selection.levels, missing),
    )  # fmt: skip
    fetching.mending = Mending(context, layout.torrent, torrent, fetching.hashes, fetching.handle_judged, owner.fail)
    return fetching.hashes


def wanted_first(torrent: Torrent, levels: bytes, roots: list[bytes]) -> list[bytes]:
    """These roots in the order in which their files are wanted."""
    highest = dict.fromkeys(roots, 0)
    for file, level in zip(torrent.files, levels, strict=True):
        if file.pieces_root in highest:
            highest[file.pieces_root] = max(level, highest[file.pieces_root])
    return sorted(roots, key=highest.__getitem__, reverse=True)


def _nothing(root: bytes) -> None:
    """Nothing waits for it."""
