from __future__ import annotations

from typing import Any

import pytest
from engine_parts import Owner, connected, small_context

from btfast._bencode import encode
from btfast.engine.connection import PeerConnection
from btfast.engine.extended import Extended
from btfast.errors import RemoteError
from btfast.wire import ids
from btfast.wire.extensions import OUR_IDS, ExtendedHandshake, decode_extended_handshake


class Met:
    """A peer that speaks LTEP, and an extension that notes what it hears."""

    def __init__(self) -> None:
        self.owner = Owner()
        self.heard: list[Any] = []
        context = small_context()
        self.peer, self.theirs = connected(context, self.owner)
        self.extended = Extended(context, lambda: True)
        self.extended.register("ut_pex", self.handle, self.introduced)
        self.extended.metadata_size = 1234

    def handle(self, peer: PeerConnection, body: bytes, now: float) -> None:
        if body == b"bad":
            raise RemoteError("ut_pex: bad: the peer is dropped")
        self.heard.append(body)

    def introduced(self, peer: PeerConnection, said: ExtendedHandshake, now: float) -> None:
        self.heard.append(said.client)

    def hears(self, number: int, body: bytes) -> None:
        self.extended.handle(self.peer, (ids.EXTENDED, number, body), 0.0)


@pytest.fixture
async def met() -> Any:
    it = Met()
    yield it
    it.peer.close("over")
    it.theirs.close()


async def test_what_is_registered_is_offered_and_heard(met: Met) -> None:
    met.extended.greet(met.peer)
    met.peer.flush()
    data = met.theirs.recv(1000)
    assert data[4:6] == bytes([ids.EXTENDED, ids.EXT_HANDSHAKE])
    said = decode_extended_handshake(data[6:])
    assert said.m == {"ut_pex": OUR_IDS["ut_pex"]}
    assert (said.metadata_size, said.upload_only) == (1234, True)
    met.hears(OUR_IDS["ut_pex"], b"one")
    met.hears(OUR_IDS["ut_metadata"], b"not offered")
    assert met.heard == [b"one"]
    assert not met.peer.closed


async def test_messages_go_out_under_the_id_that_the_peer_chose(met: Met) -> None:
    met.extended.greet(met.peer)
    met.peer.flush()
    met.theirs.recv(1000)
    assert not met.extended.send(met.peer, "ut_pex", b"x")
    met.hears(ids.EXT_HANDSHAKE, encode({b"m": {b"ut_pex": 77}, b"v": b"them"}))
    assert met.heard == ["them"]
    assert met.extended.send(met.peer, "ut_pex", b"x")
    met.peer.flush()
    assert met.theirs.recv(1000) == bytes([0, 0, 0, 3, ids.EXTENDED, 77]) + b"x"
    met.hears(ids.EXT_HANDSHAKE, encode({b"m": {b"ut_pex": 0}}))
    assert not met.extended.send(met.peer, "ut_pex", b"x")


async def test_a_bad_message_ends_the_connection_with_its_reason(met: Met) -> None:
    met.extended.greet(met.peer)
    met.hears(ids.EXT_HANDSHAKE, b"no dictionary")  # is borne
    met.hears(OUR_IDS["ut_pex"], b"bad")
    assert met.owner.closed == ["ut_pex: bad: the peer is dropped"]


async def test_who_does_not_speak_ltep_must_not_send_it(met: Met) -> None:
    met.hears(OUR_IDS["ut_pex"], b"one")
    assert met.peer.closed
    assert met.heard == []


async def test_a_port_is_believed_once(met: Met) -> None:
    met.extended.greet(met.peer)
    for port in (7001, 7002, 7001):
        met.hears(ids.EXT_HANDSHAKE, encode({b"m": {}, b"p": port}))
        assert met.peer.listen_port == 7001
