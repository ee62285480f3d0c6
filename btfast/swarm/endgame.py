"""Endgame: asking a second peer for blocks that would come late.

Every queue is taken to drain at its peer's pace. The blocks expected last stand at the end of the slowest queue. A peer
with room takes as many of them as make both queues end together, so that equal peers with equal queues ask for nothing
twice, and what a hanging peer holds moves to the fast ones at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil

from btfast.metainfo.geometry import BLOCK
from btfast.swarm.blocks import BlockRun, PeerWork, highest, runs_of

HOLDERS = 2  # of one block; one more when nothing else is left and the peer is idle
SLOWEST = 1e-3  # blocks a second below which a peer is no help
STALLED = 5.0  # seconds that a queue may be behind before others take over although it is not endgame yet
SOLO_PATIENCE = 20.0  # seconds that a piece which failed before is left to one peer

Pace = Callable[[int], tuple[float, float]]


def take_over(
    me: PeerWork, blocks: int, peers: Iterable[PeerWork], pace: Pace | None, *, gain: float = 0.0
) -> list[BlockRun]:
    """At most `blocks` blocks that are asked of others, for `me` to be asked as well; they count as asked.

    Only of queues that end more than `gain` seconds after that of `me`.
    """
    mine, delay = _rate(me, pace)
    others = [(other, *_rate(other, pace)) for other in peers if other is not me and other.outstanding]
    if not others or mine < SLOWEST:
        return []
    runs: list[BlockRun] = []
    busy = me.outstanding / mine + delay
    # Without regard to what is shared already, a queue only looks longer: the rest need not be looked at.
    queues = [(wait + other.outstanding / rate, other.number, rate, other) for other, rate, wait in others]
    queues.sort(reverse=True)
    for holders in (HOLDERS,) if me.outstanding else (HOLDERS, HOLDERS + 1):
        for drain, _, rate, other in queues:
            if _share(drain - busy, mine, rate) <= 0 or drain - busy <= gain:
                break
            sooner = drain - _shared(other, holders) / rate - busy
            share = _share(sooner, mine, rate)
            if share <= 0 or sooner <= gain:
                continue
            solo = pace is None or drain < SOLO_PATIENCE
            taken = _double(me, other, min(share, blocks), holders, solo, runs)
            busy += taken / mine
            blocks -= taken
            if blocks <= 0:
                return runs
        if runs:
            return runs
    return runs


def _share(sooner: float, mine: float, rate: float) -> int:
    """The most blocks of which the first to be taken over, too, comes sooner from here: rates in blocks a second."""
    return ceil((sooner + 1 / rate) / (1 / mine + 1 / rate)) - 1


def _shared(peer: PeerWork, holders: int) -> int:
    """How many blocks asked of `peer` have `holders` holders already: they will come from another."""
    return sum(
        (piece.holders[peer.number] & piece.held_by(holders)).bit_count()
        for piece in peer.open.values()
        if piece.doubled
    )


def _double(me: PeerWork, other: PeerWork, blocks: int, holders: int, solo: bool, runs: list[BlockRun]) -> int:
    have = None if me.mask is None else me.have
    number = me.number
    before = blocks
    for piece in reversed(list(other.open.values())):
        if have is not None and not have[piece.index]:
            continue
        if piece.solo and solo and any(sender != number for sender, _, _ in piece.sent):
            continue
        # What is asked of `me` already has two holders, and three are allowed only to a peer that is asked for nothing.
        taken = piece.holders[other.number] & ~piece.held_by(holders)
        if not taken:
            continue
        taken = highest(taken, blocks)
        count = taken.bit_count()
        piece.doubled = True
        piece.holders[number] = piece.holders.get(number, 0) | taken
        me.open[piece.index] = piece
        me.outstanding += count
        piece.levels = None
        runs.extend(runs_of(piece.index, taken))
        blocks -= count
        if blocks <= 0:
            break
    return before - blocks


def _rate(peer: PeerWork, pace: Pace | None) -> tuple[float, float]:
    """Blocks a second, above 0, and the seconds before the first; without a pace, blocks so far and no delay."""
    if pace is None:
        return peer.got + SLOWEST, 0.0
    rate, delay = pace(peer.number)
    return rate / BLOCK or SLOWEST / 2, delay
