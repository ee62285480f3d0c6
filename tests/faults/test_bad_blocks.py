"""One bad block of a v2 piece costs one block (BEP 52): leaf hashes tell which it was, and the good ones are kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import Outcome, get, run, running
from support.scripted_peer import Link, serving
from support.torrents import Made, assert_arrived
from support.v2_peers import HashPeer
from support.v2_torrents import make_v2
from support.web_server import Request, WebServer

from btfast._bencode import decode
from btfast.engine.blaming import SAME_PIECE_FAILURES
from btfast.metainfo.hash_range import HashRange

BLOCK = 16384
MIB = 1 << 20
SIZE = 4 * MIB + 3 * BLOCK + 77  # two pieces, the second of a few blocks and a short one
BLOCKS = -(-SIZE // BLOCK)


class Damages(HashPeer):
    """Sends some blocks of the whole file wrong, each time or the first time."""

    def __init__(self, made: Made, bad: set[int], **more: object) -> None:
        super().__init__(made, **more)
        self.bad = bad

    def block(self, index: int, begin: int, length: int) -> bytes:
        data = super().block(index, begin, length)
        number = (index * self.made.piece_length + begin) // BLOCK
        return bytes([data[0] ^ 1]) + data[1:] if number in self.bad else data


class Waits(HashPeer):
    """Chokes until it is let go; hashes it gives at any time."""

    def __init__(self, made: Made, **more: object) -> None:
        super().__init__(made, **more)
        self.may = threading.Event()
        self.hashes_sent = 0
        self.asked_for: list[Link] = []

    def on_interested(self, link: Link) -> None:
        self.asked_for.append(link)
        if self.may.is_set():
            super().on_interested(link)

    def on_hash_request(self, link: Link, asked: HashRange) -> None:
        super().on_hash_request(link, asked)
        self.hashes_sent += 1

    def let_go(self) -> None:
        self.may.set()
        for link in self.asked_for:
            HashPeer.on_interested(self, link)


class WaitsAndDamages(Waits, Damages):
    """Both."""

    def __init__(self, made: Made, bad: set[int]) -> None:
        Waits.__init__(self, made, bad=bad)


class Rejects(Waits):
    """Has no hashes to give."""

    def hashes(self, asked: HashRange) -> bytes | None:
        return None


def banned(outcome: Outcome) -> set[str]:
    return {event["address"] for event in outcome.all("peer") if event["change"] == "banned"}


def is_banned(liar: HashPeer) -> bool:
    return liar.blocks_sent > 0 and all(link.closed.is_set() for link in liar.links)


def liar_then_honest(
    tmp_path: Path, made: Made, bad: set[int], *words: str, honest: Callable[[Made], Waits] = Waits
) -> tuple[Outcome, int, int]:
    """The liar sends everything, the honest one only what is asked for after that; the outcome and how many blocks each sent."""
    with Damages(made, bad) as liar, honest(made) as other:
        with running(tmp_path, *get(made.save(tmp_path), *words, peers=(liar.address, other.address))) as command:
            command.until(lambda: is_banned(liar), "it is found out")
            other.let_go()
            outcome = command.end()
        assert outcome.code == 0, outcome
        assert_arrived(made, tmp_path / "out")
        assert banned(outcome) == {liar.address}
        return outcome, liar.blocks_sent, other.blocks_sent


@pytest.mark.parametrize("hybrid", [False, True], ids=["v2", "hybrid"])
@pytest.mark.parametrize("bad", [{5}, {0, 100, 255}, {BLOCKS - 1}], ids=["one", "several", "the short one at the end"])
def test_only_the_bad_blocks_come_again(tmp_path: Path, hybrid: bool, bad: set[int]) -> None:
    made = make_v2(SIZE, piece_length=4 * MIB, hybrid=hybrid)
    outcome, by_liar, by_honest = liar_then_honest(tmp_path, made, bad, "--sequential")
    assert by_liar + by_honest <= BLOCKS + len(bad) + 4, "what the liar had on its way when it was banned comes again, too"
    assert outcome.one("complete")["wasted"] <= (len(bad) + 4) * BLOCK


@pytest.mark.parametrize("bad", [{70}, {3, 64, 65, 66, 1151}], ids=["one", "several"])
def test_of_a_piece_larger_than_memory_too(tmp_path: Path, bad: set[int]) -> None:
    made = make_v2(18 * MIB, piece_length=32 * MIB)
    outcome, by_liar, by_honest = liar_then_honest(tmp_path, made, bad, "--memory", "16MiB")
    assert (by_liar, by_honest) == (18 * 64, len(bad))
    assert outcome.one("complete")["wasted"] == len(bad) * BLOCK


def test_where_nobody_has_leaves_the_piece_comes_again_as_a_whole(tmp_path: Path) -> None:
    made = make_v2(4 * MIB, piece_length=4 * MIB)
    _, by_liar, by_honest = liar_then_honest(tmp_path, made, {5}, honest=Rejects)
    assert (by_liar, by_honest) == (256, 256)


def test_a_block_that_comes_wrong_again_is_known_without_another_question(tmp_path: Path) -> None:
    made = make_v2(4 * MIB, piece_length=4 * MIB)
    with Damages(made, {5, 9}) as first, WaitsAndDamages(made, {9}) as second, Waits(made) as honest:
        peers = first.address, second.address, honest.address
        with running(tmp_path, *get(made.save(tmp_path), peers=peers)) as command:
            command.until(lambda: is_banned(first), "the first is found out")
            second.let_go()
            command.until(lambda: is_banned(second), "the second is found out")
            honest.let_go()
            outcome = command.end()
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    assert banned(outcome) == {first.address, second.address}
    assert (first.blocks_sent, second.blocks_sent, honest.blocks_sent) == (256, 2, 1)
    assert len([*first.hash_requests, *second.hash_requests, *honest.hash_requests]) == 1


@pytest.mark.parametrize("memory", ["256MiB", "16MiB"], ids=["in memory", "in parts"])
def test_a_run_that_ends_before_the_bad_block_is_known_loses_nothing_but_that(tmp_path: Path, memory: str) -> None:
    made = make_v2(16 * MIB, piece_length=16 * MIB)
    torrent = made.save(tmp_path)
    words = ("--memory", memory)
    with Damages(made, {77}) as liar:
        with running(tmp_path, *get(torrent, *words, peers=(liar.address,))) as command:
            command.until(lambda: is_banned(liar), "the piece failed")
            command.signal(signal.SIGINT)
            assert command.end().code == 7
        assert liar.blocks_sent == 1024
    with HashPeer(made) as honest:
        outcome = run(tmp_path, *get(torrent, *words, peers=(honest.address,)))
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    assert honest.blocks_sent == 1


@pytest.mark.parametrize("memory", ["256MiB", "16MiB"], ids=["in memory", "in parts"])
def test_nor_does_one_that_ends_before_the_bad_block_has_come(tmp_path: Path, memory: str) -> None:
    made = make_v2(16 * MIB, piece_length=16 * MIB)
    torrent = made.save(tmp_path)
    words = ("--memory", memory)
    with Damages(made, {3}) as liar, Waits(made) as other:
        with running(tmp_path, *get(torrent, *words, peers=(liar.address, other.address))) as command:
            command.until(lambda: other.hashes_sent, "the leaves were sent")
            command.signal(signal.SIGINT)
            assert command.end().code == 7
    with HashPeer(made) as honest:
        outcome = run(tmp_path, *get(torrent, *words, peers=(honest.address,)))
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    assert honest.blocks_sent == 1


def test_a_bad_block_that_an_earlier_run_has_kept_costs_one_block(tmp_path: Path) -> None:
    made = make_v2(16 * MIB, piece_length=16 * MIB)
    torrent = made.save(tmp_path)
    with Damages(made, {7}, rate=20_000_000) as liar:
        with running(tmp_path, *get(torrent, "--sequential", peers=(liar.address,))) as command:
            command.until(lambda: liar.blocks_sent > 600, "some blocks were sent")
            command.signal(signal.SIGINT)
            assert command.end().code == 7
    with HashPeer(made) as honest:
        outcome = run(tmp_path, *get(torrent, peers=(honest.address,)))
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    assert banned(outcome) == set()
    assert honest.blocks_sent < 1024
    assert len(outcome.all("piece_failed")) == 1


@pytest.mark.parametrize("memory", ["256MiB", "16MiB"], ids=["in memory", "in parts"])
def test_a_hybrid_whose_halves_differ_is_found_out_behind_a_bad_block(tmp_path: Path, memory: str) -> None:
    right = decode(make_v2(16 * MIB, piece_length=16 * MIB, hybrid=True).torrent)[b"info"][b"pieces"]
    made = make_v2(16 * MIB, piece_length=16 * MIB, hybrid=True, change={"pieces": right[::-1]})
    with Damages(made, {5}) as liar, Waits(made) as other:
        words = get(made.save(tmp_path), "--memory", memory, peers=(liar.address, other.address))
        with running(tmp_path, *words) as command:
            command.until(lambda: is_banned(liar), "it is found out")
            other.let_go()
            outcome = command.end()
    assert "piece 0 is right by one half of this hybrid torrent and wrong by the other" in outcome.error(4)
    assert banned(outcome) == {liar.address}
    assert other.blocks_sent == 1


@pytest.mark.parametrize("bad", [{5}, {0, 17, 255}], ids=["one", "several"])
def test_of_what_a_web_server_sends_wrong_a_peer_brings_only_that(tmp_path: Path, bad: set[int]) -> None:
    made = make_v2(4 * MIB, piece_length=4 * MIB)
    data = bytearray(made.data)
    for number in bad:
        data[number * BLOCK] ^= 1

    def bend(request: Request) -> bool:
        while not peer.asked_for:  # the peer is there first
            peer.wait(0.01)
        return False

    with Waits(made) as peer, WebServer({"/data.bin": bytes(data)}, bend) as server:
        words = get(made.save(tmp_path), "--web-seed", f"{server.url}/data.bin", peers=(peer.address,))
        with running(tmp_path, *words) as command:
            command.until(lambda: peer.hash_requests, "leaves are asked for")
            peer.let_go()
            outcome = command.end()
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    assert peer.blocks_sent <= len(bad)
    assert outcome.one("complete")["wasted"] <= 2 * len(bad) * BLOCK


class NoLeaves(HashPeer):
    """Is silent when it is asked for leaves."""

    def on_hash_request(self, link: Link, asked: HashRange) -> None:
        if asked.base:
            super().on_hash_request(link, asked)


def test_liars_among_peers_that_say_nothing_of_leaves_hold_nothing_up_for_long(tmp_path: Path) -> None:
    made = make_v2(16 * MIB, piece_length=4 * MIB)
    with Damages(made, set(range(0, 1024, 3)), rate=8_000_000) as one, Damages(made, {1, 300}, rate=8_000_000) as two:
        with NoLeaves(made, rate=8_000_000) as other:
            peers = one.address, two.address, other.address
            outcome = run(tmp_path, *get(made.save(tmp_path), "--memory", "16MiB", peers=peers))
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    assert banned(outcome) <= {one.address, two.address}


def test_a_block_that_all_sources_have_wrong_puts_the_torrent_in_doubt(tmp_path: Path) -> None:
    made = make_v2(4 * MIB, piece_length=4 * MIB)
    hosts = [Damages(made, {5}, host=f"127.0.0.{number}") for number in range(1, SAME_PIECE_FAILURES + 3)]
    with serving(*hosts):
        outcome = run(tmp_path, *get(made.save(tmp_path), peers=tuple(peer.address for peer in hosts)))
    assert f"piece 0 came wrong from {SAME_PIECE_FAILURES} hosts" in outcome.error(4)
    assert sum(peer.blocks_sent for peer in hosts) < 2 * 256
