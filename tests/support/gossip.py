"""A scripted peer that takes part in peer exchange: it tells what the test says, and notes what it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from support.scripted_peer import Link, ScriptedPeer
from support.torrents import Made

from btfast.discovery.pex import Added, PexMessage, decode_pex, encode_pex
from btfast.metainfo.addresses import PeerAddress
from btfast.wire import ids, messages
from btfast.wire.extensions import ExtendedHandshake, decode_extended_handshake, encode_extended_handshake
from btfast.wire.messages import encode_extended

PEX = 33  # the id under which it wants to receive ut_pex


class Gossip(ScriptedPeer):
    """Names `names` as soon as it knows how, in `times` messages; serves like any other, if it has anything."""

    def __init__(self, made: Made, names: Iterable[PeerAddress] = (), *, have: set[int] | None = None, times: int = 1) -> None:
        super().__init__(made, have=have)
        self.names = list(names)
        self.times = times
        self.told: list[PexMessage] = []
        self.introductions: list[ExtendedHandshake] = []
        self.introduced = threading.Event()
        self.heard = threading.Event()

    @property
    def here(self) -> PeerAddress:
        return PeerAddress("127.0.0.1", self.port)

    def on_greeted(self, link: Link) -> None:
        link.send(encode_extended_handshake(m={"ut_pex": PEX}, client="gossip", port=self.port, reqq=500))
        link.send(messages.HAVE_ALL if len(self.have) == self.made.pieces else messages.encode_bitfield(self.bitfield()))

    def on_messages(self, link: Link, found: list[tuple[object, ...]]) -> None:
        for message in found:
            if message and message[0] == ids.EXTENDED:
                _, number, body = message
                assert isinstance(body, bytes)
                if number == ids.EXT_HANDSHAKE:
                    said = decode_extended_handshake(body)
                    self.introductions.append(said)
                    # Also where it is not asked for: then under the id that everybody uses.
                    self.tell(link, said.m.get("ut_pex", ids.EXT_PEX))
                    self.introduced.set()
                elif number == PEX:
                    self.told.append(decode_pex(body, 10_000))
                    self.heard.set()
        super().on_messages(link, found)

    def tell(self, link: Link, number: int) -> None:
        for _ in range(self.times if self.names else 0):
            link.send(encode_extended(number, encode_pex([Added(address, 0) for address in self.names], [])))
