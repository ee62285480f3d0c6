"""Data that goes while the rest is fetched: what was lost is fetched again, and the run ends whole or says that it did not."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import PATIENCE, Outcome, get, running
from support.scripted_peer import Link, ScriptedPeer
from support.torrents import PIECE, Made, assert_arrived, make, tree

from btfast.wire import ids, messages
from btfast.wire.extensions import (
    decode_dont_have,
    decode_extended_handshake,
    encode_dont_have,
    encode_extended_handshake,
)

DONT_HAVE = 44
TWO = make({"a": 2 * PIECE, "b": PIECE}, name="two")
ONE = make(3 * PIECE, name="one")
HELD = 2  # the piece that comes last


class Holding(ScriptedPeer):
    """Serves all but the last piece until it is let go on."""

    def __init__(self, made: Made) -> None:
        super().__init__(made)
        self._held: list[tuple[Link, int, int]] = []
        self._holding = threading.Lock()
        self._released = False

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        with self._holding:
            if index == HELD and not self._released:
                self._held.append((link, begin, length))
                return
        super().on_request(link, index, begin, length)

    def release(self) -> None:
        with self._holding:
            self._released = True
        for link, begin, length in self._held:
            self.on_request(link, HELD, begin, length)


class Asks(ScriptedPeer):
    """Asks for one block, and notes what it hears of that."""

    def __init__(self, made: Made, index: int) -> None:
        super().__init__(made, have=set())
        self.index = index
        self.lost: list[int] = []
        self.had: list[int] = []
        self.got = threading.Event()

    def on_greeted(self, link: Link) -> None:
        link.send(encode_extended_handshake(m={"lt_donthave": DONT_HAVE}, client="asks"))
        link.send(messages.HAVE_NONE + messages.INTERESTED)

    def on_messages(self, link: Link, found: list[tuple[object, ...]]) -> None:
        for kind, *facts in found:
            if kind == ids.UNCHOKE or (kind == ids.HAVE and facts[0] == self.index):
                link.send(messages.encode_request(self.index, 0, 16384))
            if kind == ids.HAVE:
                self.had.append(facts[0])  # type: ignore[arg-type]
            elif kind == ids.PIECE:
                self.got.set()
            elif kind == ids.EXTENDED and facts[0] == DONT_HAVE:
                self.lost.append(decode_dont_have(facts[1]))  # type: ignore[arg-type]


def cut(length: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, length)


@pytest.mark.parametrize(
    ("made", "name", "damage", "asked", "lost"),
    [
        (TWO, "two/a", Path.unlink, 0, [0, 1]),
        (TWO, "two/a", cut(PIECE + 70), 1, [1]),
        (TWO, "two/a", cut(0), 0, [0, 1]),
        (ONE, "one.part", Path.unlink, 1, [0, 1]),
        (ONE, "one.part", cut(PIECE + 70), 1, [1]),
    ],
    ids=["finished and gone", "finished and cut", "finished and empty", "unfinished and gone", "unfinished and cut"],
)
def test_what_was_lost_is_fetched_again(
    tmp_path: Path, made: Made, name: str, damage: Callable[[Path], None], asked: int, lost: list[int]
) -> None:
    place = tmp_path / "out" / name
    with (
        Holding(made) as seed,
        Asks(made, asked) as leecher,
        running(tmp_path, *get(made.save(tmp_path), peers=(seed.address,))) as command,
    ):
        command.until(lambda: seed.blocks_sent == 2 * PIECE // 16384 and place.exists(), "two pieces came")
        command.until(lambda: _written(place, made), "they are on disk")
        damage(place)
        leecher.dial(command.port())
        assert leecher.got.wait(PATIENCE), (leecher.lost, leecher.had)
        seed.release()
        done = command.end()
    assert (done.code, sorted(leecher.lost)) == (0, lost)
    assert_arrived(made, tmp_path / "out")
    assert done.one("complete")["downloaded"] == (3 + len(lost)) * PIECE
    (warning,) = done.warnings
    assert f"piece {asked} is gone: " in warning
    assert warning.endswith(": it is fetched again")
    assert again_from_the_record(tmp_path, made).one("complete")["downloaded"] == 0


def _written(place: Path, made: Made) -> bool:
    return place.read_bytes()[: 2 * PIECE] == made.data[: 2 * PIECE]


def again_from_the_record(tmp_path: Path, made: Made) -> Outcome:
    with running(tmp_path, *get(made.save(tmp_path))) as command:
        done = command.end()
    assert done.code == 0
    return done


def test_a_finished_download_that_loses_data_while_it_seeds_does_not_end_as_complete(tmp_path: Path) -> None:
    with (
        ScriptedPeer(TWO) as seed,
        Asks(TWO, 0) as leecher,
        running(tmp_path, *get(TWO.save(tmp_path), "-q", "--seed-ratio", "0.08", peers=(seed.address,))) as command,
    ):
        command.until_state("seeding")
        (tmp_path / "out/two/b").unlink()
        leecher.index = 2
        port = command.port()
        leecher.dial(port)
        command.until(lambda: leecher.lost == [2], "it hears that the piece is gone")
        for link in leecher.links:
            link.send(messages.encode_request(0, 0, 16384))
        done = command.end()
    line = done.error(6)
    assert "1 of 3 pieces cannot be read any more" in line
    assert "two/b" in line
    assert (done.all("complete"), len(done.all("failed"))) == ([], 1)
    assert tree(tmp_path / "out") == {"two/a": TWO.contents()["two/a"]}  # nothing is written where it only serves
    with ScriptedPeer(TWO) as seed, running(tmp_path, *get(TWO.save(tmp_path), peers=(seed.address,))) as command:
        assert command.end().one("complete")["downloaded"] == PIECE
    assert_arrived(TWO, tmp_path / "out")


class Loses(ScriptedPeer):
    """Has lost a piece when it is asked for it, and says so instead of an answer."""

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        if index:
            super().on_request(link, index, begin, length)
        elif begin == 0:
            names = [decode_extended_handshake(m[2]).m for m in link.received if m[:2] == (ids.EXTENDED, 0)]  # type: ignore[arg-type]
            body = encode_dont_have(0)
            link.send(messages.encode_extended(names[0]["lt_donthave"], body))


class Waits(ScriptedPeer):
    """Has the first piece, and keeps it until the other peer was told that it is not asked for it any more."""

    def __init__(self, made: Made, other: ScriptedPeer) -> None:
        super().__init__(made, have={0})
        self.other = other

    def on_interested(self, link: Link) -> None:
        while sum(other.count(ids.CANCEL) for other in self.other.links) < PIECE // 16384:
            self.wait(0.01)
        super().on_interested(link)


def test_what_a_peer_has_lost_is_asked_of_another_at_once(tmp_path: Path) -> None:
    with (
        Loses(ONE) as first,
        Waits(ONE, first) as second,
        running(tmp_path, *get(ONE.save(tmp_path), peers=(first.address, second.address))) as command,
    ):
        done = command.end()
    assert done.code == 0
    assert (first.blocks_sent, second.blocks_sent) == (8, 4)
    assert_arrived(ONE, tmp_path / "out")
