"""A file that vanishes while it is served: peers hear that its pieces are gone (BEP 54), and the rest goes on."""

from __future__ import annotations

import threading
from pathlib import Path

from support.commands import LOCAL, PATIENCE, running
from support.scripted_peer import Link, ScriptedPeer
from support.torrents import make

from btfast.wire import ids, messages
from btfast.wire.extensions import decode_dont_have, encode_extended_handshake

MADE = make({"a": 65536, "b": 65536}, name="two")
DONT_HAVE = 44


class Asks(ScriptedPeer):
    """Wants both pieces, and notes what becomes of that."""

    def __init__(self) -> None:
        super().__init__(MADE, have=set())
        self.refused: list[int] = []
        self.lost: list[int] = []
        self.got: list[int] = []
        self.bitfield_seen: tuple[object, ...] = ()
        self.answered = threading.Event()

    def on_greeted(self, link: Link) -> None:
        link.send(encode_extended_handshake(m={"lt_donthave": DONT_HAVE}, client="asks"))
        link.send(messages.HAVE_NONE + messages.INTERESTED)

    def on_messages(self, link: Link, found: list[tuple[object, ...]]) -> None:
        for kind, *facts in found:
            if kind in (ids.HAVE_ALL, ids.BITFIELD):
                self.bitfield_seen = (kind, *facts)
            elif kind == ids.UNCHOKE:
                for index in (0, 1):
                    link.send(messages.encode_request(index, 0, 16384))
            elif kind == ids.REJECT:
                self.refused.append(facts[0])  # type: ignore[arg-type]
            elif kind == ids.PIECE:
                self.got.append(facts[0])  # type: ignore[arg-type]
            elif kind == ids.EXTENDED and facts[0] == DONT_HAVE:
                self.lost.append(decode_dont_have(facts[1]))  # type: ignore[arg-type]
        if len(self.got) + len(self.refused) == 2:
            self.answered.set()


def test_others_hear_which_pieces_are_gone(tmp_path: Path) -> None:
    MADE.lay_out(tmp_path / "data")
    with (
        running(tmp_path, "seed", MADE.save(tmp_path), "--data", "data", "--json", *LOCAL) as command,
        Asks() as one,
        Asks() as two,
    ):
        command.until_state("seeding")
        port = command.port()
        (tmp_path / "data/two/b").unlink()
        one.dial(port)
        assert one.answered.wait(PATIENCE)
        two.dial(port)
        assert two.answered.wait(PATIENCE)
    assert (one.bitfield_seen, one.got, one.refused, one.lost) == ((ids.HAVE_ALL,), [0], [1], [1])
    assert (two.bitfield_seen, two.got, two.refused, two.lost) == ((ids.BITFIELD, b"\x80"), [0], [1], [])
