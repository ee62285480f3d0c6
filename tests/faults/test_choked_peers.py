"""ALLOWED FAST (BEP 6) on the wire: first pieces in spite of a choke, given and taken."""

from __future__ import annotations

import threading
from pathlib import Path

from support.commands import PATIENCE, get, run, running
from support.scripted_peer import Link, ScriptedPeer
from support.torrents import assert_arrived, make

from btfast.swarm.allowed_fast import allowed_fast_set
from btfast.wire import ids, messages

LENGTH = 32768
MADE = make(40 * LENGTH, piece_length=LENGTH)
ALLOWED = allowed_fast_set("127.0.0.1", MADE.info_hash, MADE.pieces, 10)


class Allows(ScriptedPeer):
    """A seed that allows three pieces, refuses one of them, and unchokes when the others have been had."""

    good, bad = (11, 5), 7

    def __init__(self) -> None:
        super().__init__(MADE)
        self.asked: list[int] = []  # pieces, while it chokes

    def on_greeted(self, link: Link) -> None:
        super().on_greeted(link)
        link.send(b"".join(messages.encode_allowed_fast(index) for index in (self.good[0], self.bad, self.good[1], 1 << 31)))

    def on_interested(self, link: Link) -> None:
        """It chokes on."""

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        if link.choking:
            self.asked.append(index)
        if link.choking and index == self.bad:
            link.send(messages.encode_reject(index, begin, length))
        else:
            super().on_request(link, index, begin, length)
        if link.choking and link.sent == len(self.good) * LENGTH // 16384:
            link.choking = False
            link.send(messages.UNCHOKE)


def test_a_leecher_gets_its_first_pieces_while_it_is_choked(tmp_path: Path) -> None:
    with Allows() as peer:
        done = run(tmp_path, *get(MADE.save(tmp_path), peers=(peer.address,)))
    assert (done.code, done.err) == (0, "")
    assert done.one("complete")["wasted"] == 0
    assert_arrived(MADE, tmp_path / "out")
    assert sorted(set(peer.asked) - {peer.bad}) == sorted(peer.good)
    assert peer.asked.count(peer.bad) <= 2  # its blocks, once each


class Takes(ScriptedPeer):
    """Is not interested, therefore choked, and asks for all blocks of what it is allowed three times, and of another piece."""

    def __init__(self) -> None:
        super().__init__(MADE, have=set())
        self.told: list[int] = []
        self.came: list[tuple[int, int]] = []
        self.rejected: list[int] = []
        self.unchoked = False
        self.done = threading.Event()

    def on_greeted(self, link: Link) -> None:
        link.send(messages.HAVE_NONE)

    def on_messages(self, link: Link, found: list[tuple[object, ...]]) -> None:
        for kind, *facts in found:
            if kind == ids.ALLOWED_FAST:
                self.told.append(facts[0])  # type: ignore[arg-type]
                if len(self.told) == len(ALLOWED):
                    other = next(index for index in range(MADE.pieces) if index not in self.told)
                    for index in [*self.told * 3, other]:
                        for begin in range(0, LENGTH, 16384):
                            link.send(messages.encode_request(index, begin, 16384))
            elif kind == ids.PIECE:
                index, begin, length = facts
                assert length == 16384
                self.came.append((index, begin))  # type: ignore[arg-type]
            elif kind == ids.REJECT:
                self.rejected.append(facts[0])  # type: ignore[arg-type]
            elif kind == ids.UNCHOKE:
                self.unchoked = True
        if len(self.came) + len(self.rejected) == (3 * len(ALLOWED) + 1) * LENGTH // 16384:
            self.done.set()


def test_a_choked_leecher_is_served_what_it_is_allowed_and_no_more(tmp_path: Path) -> None:
    MADE.lay_out(tmp_path / "out")
    with running(tmp_path, *get(MADE.save(tmp_path)), "--seed-time", "600") as command, Takes() as peer:
        command.until_state("seeding")
        port = command.port()
        peer.dial(port)
        assert peer.done.wait(PATIENCE)
    blocks = [(index, begin) for index in ALLOWED for begin in range(0, LENGTH, 16384)]
    assert peer.told == ALLOWED
    assert not peer.unchoked
    assert sorted(peer.came) == sorted(blocks * 2)
    assert len(peer.rejected) == len(blocks) + LENGTH // 16384
