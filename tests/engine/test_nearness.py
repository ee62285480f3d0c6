from __future__ import annotations

import socket
import sys

import pytest

from btfast.engine import nearness
from btfast.engine.nearness import BUFFER, UNSENT, fit_send_buffer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the round trip")


def over_loopback() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    return ours, theirs


def test_a_near_peer_gets_a_small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearness, "NEAR", 10**9)
    ours, theirs = over_loopback()
    with ours, theirs:
        fit_send_buffer(ours)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * BUFFER


def test_a_far_peer_keeps_what_the_kernel_thinks_right_and_little_waits_unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearness, "NEAR", 0)
    ours, theirs = over_loopback()
    with ours, theirs:
        before = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        fit_send_buffer(ours)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT


def test_a_peer_that_is_gone_is_no_error() -> None:
    ours, theirs = over_loopback()
    theirs.close()
    with ours:
        fit_send_buffer(ours)
