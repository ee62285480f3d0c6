"""Pieces that are larger than memory: received and written part by part, and verified as a whole."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support import hostile_peers as hostile
from support.commands import get, run, running
from support.scripted_peer import ScriptedPeer, serving
from support.torrents import assert_arrived, make

MIB = 1 << 20
SMALL = ("--memory", "16MiB")


@pytest.mark.parametrize("io", ["auto", "buffered"])
def test_pieces_larger_than_all_memory_arrive_from_several_peers(tmp_path: Path, io: str) -> None:
    made = make({"a": 3, "b/c": 21 * MIB + 77, "d": 9 * MIB}, name="large", piece_length=20 * MIB)
    with serving(ScriptedPeer(made), ScriptedPeer(made), ScriptedPeer(made, rate=3_000_000)) as peers:
        command = get(made.save(tmp_path), *SMALL, "--io", io, peers=tuple(peer.address for peer in peers))
        done = run(tmp_path, *command)
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")
    assert done.all("piece_failed") == []
    assert done.one("complete")["wasted"] < len(made.data) // 4


def test_the_liar_is_found_and_what_it_wrote_is_replaced(tmp_path: Path) -> None:
    made = make(18 * MIB, piece_length=18 * MIB)
    with serving(*(kind(made, rate=8_000_000) for kind in (ScriptedPeer, hostile.OneBadByte, ScriptedPeer))) as peers:
        done = run(tmp_path, *get(made.save(tmp_path), *SMALL, peers=tuple(peer.address for peer in peers)))
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")
    assert len(done.all("piece_failed")) >= 1
    assert {event["address"] for event in done.all("peer") if event["change"] == "banned"} == {peers[1].address}


def test_a_worker_that_dies_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    made = make(24 * MIB, piece_length=12 * MIB)
    with ScriptedPeer(made, rate=20_000_000) as peer:
        with running(tmp_path, *get(made.save(tmp_path), *SMALL, peers=(peer.address,), workers=2)) as process:
            process.until(lambda: any((tmp_path / "out").glob("*.part")), "the first part is written")
            for worker in process.workers:
                worker.send_signal(signal.SIGKILL)
            done = process.end()
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")
