"""Which kind of connection comes first, and which after a failure."""

from __future__ import annotations

import pytest

from btfast.metainfo.addresses import PeerAddress
from btfast.swarm import encryption
from btfast.swarm.encryption import Kinds, Mode

ONE, TWO = PeerAddress("192.0.2.1", 1), PeerAddress("192.0.2.2", 2)


@pytest.mark.parametrize(("mode", "first"), [("off", False), ("allow", False), ("require", True)])
def test_the_first_kind(mode: Mode, first: bool) -> None:
    assert Kinds(mode).first(ONE) is first


@pytest.mark.parametrize("mode", ["off", "require"])
@pytest.mark.parametrize("silent", [False, True])
def test_there_is_no_other_kind_where_it_is_not_allowed(mode: Mode, silent: bool) -> None:
    kinds = Kinds(mode)
    assert kinds.failed(ONE, encrypted=kinds.first(ONE), silent=silent) is None
    kinds.worked(ONE, encrypted=True)
    assert kinds.first(ONE) is (mode == "require")


def test_who_hangs_up_without_a_word_is_tried_encrypted_at_once_and_once() -> None:
    kinds = Kinds("allow")
    for _ in range(3):
        assert kinds.failed(ONE, encrypted=False, silent=True) is True
        assert kinds.failed(ONE, encrypted=True, silent=False) is None
        assert kinds.first(ONE) is False


def test_who_has_said_something_is_not_tried_again() -> None:
    assert Kinds("allow").failed(ONE, encrypted=False, silent=False) is None


def test_what_worked_comes_first_the_next_time_and_the_other_after_it() -> None:
    kinds = Kinds("allow")
    kinds.failed(ONE, encrypted=False, silent=True)
    kinds.worked(ONE, encrypted=True)
    assert (kinds.first(ONE), kinds.first(TWO)) == (True, False)
    assert kinds.failed(ONE, encrypted=True, silent=False) is False
    assert kinds.failed(ONE, encrypted=False, silent=True) is None, "both have been tried"
    assert kinds.first(ONE) is False


def test_who_cannot_be_reached_has_not_been_tried_with_either() -> None:
    kinds = Kinds("allow")
    kinds.failed(ONE, encrypted=False, silent=True)
    kinds.forget(ONE)
    assert kinds.failed(ONE, encrypted=False, silent=True) is True


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "REMEMBERED", 3)
    kinds = Kinds("allow")
    addresses = [PeerAddress("192.0.2.1", port) for port in range(1, 6)]
    for address in addresses:
        kinds.worked(address, encrypted=True)
    assert [kinds.first(address) for address in addresses] == [False, False, True, True, True]
