"""SUGGEST (BEP 6) on the wire: what our seed tells several leechers, and what our leecher makes of what it is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support.commands import LOCAL, PATIENCE, get, run, running
from support.scripted_peer import Link, ScriptedPeer
from support.torrents import assert_arrived, make

from btfast.wire import ids, messages

MADE = make(40 * 32768, piece_length=32768)


class Wants(ScriptedPeer):
    """Has nothing, is interested, and notes in which order it is told what."""

    def __init__(self, *, fast: bool = True) -> None:
        super().__init__(MADE, have=set())
        self.fast = fast
        self.suggested: list[int] = []
        self.before = 0  # suggestions that came before it was unchoked
        self.unchoked = threading.Event()

    def on_greeted(self, link: Link) -> None:
        link.send((messages.HAVE_NONE if self.fast else b"") + messages.INTERESTED)

    def on_messages(self, link: Link, found: list[tuple[object, ...]]) -> None:
        for kind, *facts in found:
            if kind == ids.SUGGEST:
                self.suggested.append(facts[0])  # type: ignore[arg-type]
            elif kind == ids.UNCHOKE:
                self.before = len(self.suggested)
                self.unchoked.set()


def test_a_seed_suggests_other_pieces_to_each_before_it_unchokes_them(tmp_path: Path) -> None:
    MADE.lay_out(tmp_path / "data")
    with (
        running(tmp_path, "seed", MADE.save(tmp_path), "--data", "data", "--json", *LOCAL) as command,
        Wants() as idle, Wants() as one, Wants() as other, Wants(fast=False) as old,
    ):  # fmt: skip
        command.until_state("seeding")
        port = command.port()
        for peer in (idle, old, one, other):
            peer.dial(port)
            assert peer.unchoked.wait(PATIENCE)
        command.until(lambda: len(idle.suggested) > 1, "the first hears of it once it is not alone")
    assert old.suggested == []
    told = [*idle.suggested, *one.suggested, *other.suggested]
    assert one.before > 1
    assert other.before > 1
    assert len(set(told)) == len(told)


class Suggests(ScriptedPeer):
    """A seed that names pieces before it unchokes, and notes which it is asked for first."""

    def __init__(self, *named: int) -> None:
        super().__init__(MADE)
        self.named = named
        self.asked: list[int] = []

    def on_greeted(self, link: Link) -> None:
        for index in self.named:
            link.send(messages.encode_suggest(index))
        super().on_greeted(link)
        for index in self.named:
            link.send(messages.encode_suggest(index))

    def on_messages(self, link: Link, found: list[tuple[object, ...]]) -> None:
        self.asked += [message[1] for message in found if message[0] == ids.REQUEST]  # type: ignore[misc]
        super().on_messages(link, found)


@pytest.mark.parametrize("named", [(31, 7, 22), (7, 1 << 31, 40, 31), tuple(range(40)) * 500])
def test_a_leecher_asks_for_what_is_suggested_and_bears_nonsense(tmp_path: Path, named: tuple[int, ...]) -> None:
    with Suggests(*named) as peer:
        done = run(tmp_path, *get(MADE.save(tmp_path), peers=(peer.address,)))
    assert (done.code, done.err) == (0, "")
    assert_arrived(MADE, tmp_path / "out")
    wanted = [index for index in dict.fromkeys(named) if index < 40]
    assert list(dict.fromkeys(peer.asked))[: len(wanted)] == wanted
