"""Wrong data among good: the one who sent it is found and banned, nobody else is, and nothing wrong reaches the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import hostile_peers as hostile
from support.commands import Outcome, get, run
from support.scripted_peer import Later, ScriptedPeer, serving
from support.torrents import Made, assert_arrived, make

RATE = 4_000_000
LIARS = [hostile.WrongData, hostile.RandomData, hostile.OneBadByte]


def banned(done: Outcome) -> set[str]:
    return {event["address"] for event in done.all("peer") if event["change"] == "banned"}


def among(made: Made, *kinds: type[ScriptedPeer] | None) -> list[ScriptedPeer]:
    """Peers of these kinds, the honest ones, for which None stands, as soon as each of the others has been at work."""
    liars = [kind(made, rate=RATE) for kind in kinds if kind is not None]
    rest = iter(liars)
    late = lambda: Later(made, lambda: all(liar.blocks_sent >= 4 for liar in liars), rate=RATE)  # noqa: E731
    return [late() if kind is None else next(rest) for kind in kinds]


@pytest.mark.parametrize("liar", LIARS, ids=lambda liar: liar.__name__)
def test_the_liar_is_found_when_several_sent_blocks_of_one_piece(tmp_path: Path, liar: type[ScriptedPeer]) -> None:
    made = make(6 << 20, piece_length=6 << 20)
    with serving(*among(made, None, liar, None)) as peers:
        done = run(tmp_path, *get(made.save(tmp_path), peers=tuple(peer.address for peer in peers)))
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")
    assert len(done.all("piece_failed")[0]["peers"]) > 1
    assert banned(done) == {peers[1].address}
    assert done.one("complete")["wasted"] >= made.piece_length


@pytest.mark.parametrize("liar", LIARS, ids=lambda liar: liar.__name__)
def test_the_liar_is_found_among_many_pieces(tmp_path: Path, liar: type[ScriptedPeer]) -> None:
    made = make(4 << 20)
    with serving(*among(made, liar, None, None)) as peers:
        done = run(tmp_path, *get(made.save(tmp_path), peers=tuple(peer.address for peer in peers)))
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")
    assert banned(done) == {peers[0].address}


def test_two_liars_do_not_hide_behind_each_other(tmp_path: Path) -> None:
    made = make(6 << 20, piece_length=2 << 20)
    with serving(*among(made, hostile.WrongData, None, hostile.OneBadByte)) as peers:
        done = run(tmp_path, *get(made.save(tmp_path), peers=tuple(peer.address for peer in peers)))
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")
    assert banned(done) <= {peers[0].address, peers[2].address}
    assert peers[0].address in banned(done)


def test_a_torrent_whose_data_changed_at_its_source_is_a_verification_failure(tmp_path: Path) -> None:
    """Every source has the same stale data: the good pieces are kept, the item fails with 4."""
    made = make(600_000)
    stale = made._replace(data=made.data[:-1] + bytes([made.data[-1] ^ 1]))
    with serving(ScriptedPeer(stale), ScriptedPeer(stale)) as peers:
        done = run(tmp_path, *get(made.save(tmp_path), peers=tuple(peer.address for peer in peers)))
    assert "data.bin" in done.error(4)
    assert (tmp_path / "out" / "data.bin.part").exists()
    failed = done.one("failed")
    assert failed["kind"] == "VerificationError"
    assert 0 < failed["done"] < failed["total"]
    with ScriptedPeer(made) as good:
        again = run(tmp_path, *get(made.save(tmp_path), peers=(good.address,)))
    assert again.code == 0
    assert_arrived(made, tmp_path / "out")
    assert again.one("complete")["downloaded"] == len(made.data) - failed["done"]
