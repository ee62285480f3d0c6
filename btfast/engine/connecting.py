"""One torrent's connections out: in plain text or by an MSE handshake, and the other way where one leads to nothing."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Protocol

from btfast.engine.context import Context
from btfast.engine.dialing import Dialer
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.encryption import Kinds
from btfast.wire.handshake import INFO_HASH

if TYPE_CHECKING:
    from btfast.engine.securing import Securing
    from btfast.wire.mse import Secured


class Owner(Protocol):
    """Who wanted the connection. `handshake(address)`: what is said first to who listens there."""

    def handshake(self, address: PeerAddress) -> bytes: ...

    def handle_connected(self, address: PeerAddress, sock: socket.socket, secured: Secured | None) -> None: ...

    def handle_failed(self, address: PeerAddress, why: str) -> None: ...


class Connecting:
    """`dial` ends in one call of the owner; what becomes of the connection is told by `worked` or `failed`."""

    def __init__(self, context: Context, dialer: Dialer, owner: Owner) -> None:
        self._context = context
        self._dialer = dialer
        self._owner = owner
        self._kinds = Kinds(context.settings.encryption)
        self._securing: dict[Securing, socket.socket] = {}
        self._closed = False

    def dial(self, address: PeerAddress) -> None:
        self._dial(address, self._kinds.first(address))

    def _dial(self, address: PeerAddress, encrypted: bool) -> None:
        self._dialer.dial(address, partial(self._dialed, address, encrypted))

    def _dialed(self, address: PeerAddress, encrypted: bool, sock: socket.socket | None, why: str) -> None:
        if sock is None:
            self._kinds.forget(address)
            self._owner.handle_failed(address, why)
        elif self._closed:
            sock.close()
            self._dialer.answered(address, None)
        elif encrypted:
            self._secure(address, sock)
        else:
            self._owner.handle_connected(address, sock, None)

    def _secure(self, address: PeerAddress, sock: socket.socket) -> None:
        from btfast.engine.securing import Securing
        from btfast.wire.mse import PLAIN, RC4, Initiator

        handshake = self._owner.handshake(address)
        provide = RC4 if self._context.settings.encryption == "require" else PLAIN | RC4
        side = Initiator(handshake[INFO_HASH], handshake, os.urandom, provide)

        def done(secured: Secured | None, why: str) -> None:
            del self._securing[securing]
            if secured is not None:
                self._owner.handle_connected(address, sock, secured)
                return
            sock.close()
            self._dialer.answered(address, None)
            self.failed(address, why, encrypted=True)

        securing = Securing(self._context.loop, sock, side, done)
        self._securing[securing] = sock
        securing.send(side.begin())

    def worked(self, address: PeerAddress, *, encrypted: bool) -> None:
        """Its handshake came."""
        self._kinds.worked(address, encrypted=encrypted)

    def failed(self, address: PeerAddress, why: str, *, encrypted: bool, silent: bool = False) -> None:
        """The connection has led to no handshake. `silent`: to not a single byte."""
        other = None if self._closed else self._kinds.failed(address, encrypted=encrypted, silent=silent)
        if other is None:
            self._owner.handle_failed(address, why)
        else:
            self._dial(address, other)

    def unwanted(self, address: PeerAddress) -> None:
        """The owner has closed what it was given: its address is banned, or the connection broken."""
        self._kinds.forget(address)

    def close(self) -> None:
        """Nobody is called back for what is in a handshake; what the dialer still has is closed when it comes."""
        self._closed = True
        for securing, sock in self._securing.items():
            securing.close()
            sock.close()
        self._securing.clear()
