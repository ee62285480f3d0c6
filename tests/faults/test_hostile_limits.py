"""A peer that costs us without end is let go."""

from __future__ import annotations

from pathlib import Path

from support import hostile_peers as hostile
from support.commands import get, run
from support.torrents import make

MADE = make(900_001)


def test_a_peer_that_rejects_everything_is_not_asked_without_end(tmp_path: Path) -> None:
    with hostile.RejectsAll(MADE) as peer:
        run(tmp_path, *get(MADE.save(tmp_path), "--peer-timeout", "2", peers=(peer.address,))).error(3)
    assert sum(link.count(6) for link in peer.links) < 5000  # seen: 250,000 in 5 s, one core busy


def test_a_peer_that_sends_what_nobody_asked_for_is_let_go(tmp_path: Path) -> None:
    with hostile.Unrequested(MADE) as peer:
        done = run(tmp_path, *get(MADE.save(tmp_path), "--peer-timeout", "2", peers=(peer.address,)))
    done.error(3)
    assert peer.blocks_sent < 20_000  # seen: 650,000 blocks, 10 GB in 5 s
    assert [event["change"] for event in done.all("peer")][:2] == ["connected", "disconnected"]
