"""When a torrent is given up: on a clock that the test sets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from btfast.engine.patience import CHOKED, NEWCOMERS, Patience
from btfast.errors import IncompleteError

PATIENCE = 30.0


class Waiting:
    """A torrent that waits, with the peers that a test gives it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.connections: dict[int, Any] = {}
        context: Any = SimpleNamespace(loop=self, settings=SimpleNamespace(peer_timeout=PATIENCE))
        peers: Any = SimpleNamespace(connections=self.connections, known=[1], banned=0, last_failure="", held_up=False)
        finding: Any = SimpleNamespace(exhausted=False, last_error="", want_peers=lambda: None)
        self.hashes = SimpleNamespace(progress_at=0.0)
        self._patience = Patience(context, "it", peers, finding, None, cast("Any", self.hashes))

    def time(self) -> float:
        return self.now

    def comes(self, **what: Any) -> None:
        """A peer takes the place of the one before."""
        said = {"greeted": True, "last_payload": 0.0, "connected_at": self.now, "have": (), "am_interested": False}
        self.connections[0] = SimpleNamespace(**said | {"peer_choking": True} | what)

    def given_up_after(self, each: float, **what: Any) -> float:
        """Seconds until it is given up, when such a peer comes every so many seconds."""
        began = self.now
        while self.now < began + 10_000:
            if (self.now - began) % each == 0:
                self.comes(**what)
            if self._patience.verdict(self.now, busy=False, done=0, total=1) is not None:
                return self.now - began
            self.now += 1
        raise AssertionError("it is never given up")


def test_nobody_is_waited_for_so_long() -> None:
    waiting = Waiting()
    while (error := waiting._patience.verdict(waiting.now, busy=False, done=0, total=1)) is None:
        waiting.now += 1
    assert isinstance(error, IncompleteError)
    assert waiting.now == 1000 + PATIENCE + 1


def test_those_who_have_nothing_do_not_make_it_longer() -> None:
    assert Waiting().given_up_after(4) == PATIENCE + 1


@pytest.mark.parametrize("what", [{"have": None}, {"am_interested": True}])
def test_those_who_may_have_something_make_it_longer_and_not_endless(what: dict[str, Any]) -> None:
    longer = CHOKED if "am_interested" in what else 1
    after = Waiting().given_up_after(4, **what)
    assert PATIENCE < NEWCOMERS * PATIENCE <= after <= NEWCOMERS * PATIENCE + longer * PATIENCE + 4


def test_data_is_waited_for_as_long_as_it_comes() -> None:
    waiting = Waiting()
    for _ in range(1000):
        waiting.comes(last_payload=waiting.now, am_interested=True)
        assert waiting._patience.verdict(waiting.now, busy=False, done=0, total=1) is None
        waiting.now += 3


def test_hashes_are_waited_for_as_long_as_they_come() -> None:
    """Those of a large torrent take longer to come than peers are waited for."""
    waiting = Waiting()
    waiting.comes()
    for _ in range(1000):
        waiting.hashes.progress_at = waiting.now
        assert waiting._patience.verdict(waiting.now, busy=False, done=0, total=1) is None
        waiting.now += 3


def test_time_in_which_the_process_stood_still_does_not_count() -> None:
    waiting = Waiting()
    waiting.comes(last_payload=waiting.now, am_interested=True)
    assert waiting._patience.verdict(waiting.now, busy=False, done=0, total=1) is None
    del waiting.connections[0]  # whoever was connected has hung up meanwhile
    waiting.now += 3600
    resumed = waiting.now
    while waiting._patience.verdict(waiting.now, busy=False, done=0, total=1) is None:
        waiting.now += 1
    assert resumed + PATIENCE <= waiting.now <= resumed + PATIENCE + 1
