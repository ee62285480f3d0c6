"""What a peer says before the torrent is known is said again afterwards, in bounded room."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from btfast.engine.heard import BITFIELD_LIMIT, LONGEST_HANDSHAKE, MOST_LISTED, MOST_PIECES, Heard
from btfast.errors import RemoteError
from btfast.wire import ids

UNCHOKED = (ids.UNCHOKE,)


def peer() -> Any:
    return SimpleNamespace(peer_choking=True, peer_interested=False, unchoked_at=0.0)


def said(*events: tuple[Any, ...], pieces: int = 20) -> list[tuple[Any, ...]]:
    heard, who = Heard(), peer()
    for event in events:
        heard.handle(who, event, 5.0)
    return heard.replay(who, pieces)


def test_nothing_said_is_nothing_heard() -> None:
    assert said() == []


@pytest.mark.parametrize("first", [(ids.HAVE_ALL,), (ids.HAVE_NONE,), (ids.BITFIELD, b"\xff\x00\x10")])
def test_the_first_word_on_pieces_is_kept(first: tuple[Any, ...]) -> None:
    assert said(first) == [first]


def test_haves_become_a_bitfield() -> None:
    assert said((ids.HAVE, 0), (ids.HAVE, 9)) == [(ids.BITFIELD, b"\x80\x40\x00")]
    assert said((ids.HAVE_NONE,), (ids.HAVE, 19)) == [(ids.HAVE_NONE,), (ids.BITFIELD, b"\x00\x00\x10")]


def test_a_have_beyond_the_torrent_is_no_bitfield_of_it() -> None:
    (event,) = said((ids.HAVE, 30))
    assert len(event[1]) != 3


def test_a_have_beyond_every_torrent_is_an_error() -> None:
    with pytest.raises(RemoteError, match="metadata would be too large"):
        said((ids.HAVE, MOST_PIECES))


def test_choking_and_interest_are_told_as_they_are_now() -> None:
    assert said(UNCHOKED, (ids.CHOKE,)) == []
    assert said(UNCHOKED, (ids.CHOKE,), UNCHOKED) == [UNCHOKED]
    assert said((ids.INTERESTED,), UNCHOKED) == [(ids.INTERESTED,), UNCHOKED]
    assert said((ids.INTERESTED,), (ids.NOT_INTERESTED,)) == []


def test_pieces_are_known_before_anything_is_done_with_them() -> None:
    heard, who = Heard(), peer()
    heard.handle(who, UNCHOKED, 5.0)
    heard.handle(who, (ids.ALLOWED_FAST, 3), 5.0)
    heard.handle(who, (ids.PORT, 6881), 5.0)
    heard.handle_lacks(4)
    heard.handle(who, (ids.HAVE_ALL,), 5.0)
    heard.handle_extended(b"de")
    assert [event[0] for event in heard.replay(who, 20)] == [
        ids.EXTENDED, ids.HAVE_ALL, ids.EXTENDED, ids.ALLOWED_FAST, ids.PORT, ids.UNCHOKE,
    ]  # fmt: skip
    assert who.unchoked_at == 5.0


def test_it_takes_little_room_whatever_is_said() -> None:
    heard, who = Heard(), peer()
    for index in range(0, MOST_PIECES, 1000):
        heard.handle(who, (ids.HAVE, index), 5.0)
    heard.handle(who, (ids.HAVE, MOST_PIECES - 1), 5.0)
    for index in range(10 * MOST_LISTED):
        heard.handle(who, (ids.ALLOWED_FAST, index), 5.0)
        heard.handle_lacks(index)
    heard.handle_extended(bytes(LONGEST_HANDSHAKE + 1))
    events = heard.replay(who, 20)
    assert len(events) == 1 + 2 * MOST_LISTED
    assert sum(sys.getsizeof(part) for event in events for part in event) < BITFIELD_LIMIT + 200 * MOST_LISTED
