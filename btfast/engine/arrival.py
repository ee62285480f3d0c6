"""A connection to us before it has said which torrent it means: in plain text, or by an MSE handshake."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Protocol

from btfast.engine.context import Context
from btfast.metainfo.addresses import PeerAddress
from btfast.wire.handshake import ANSWER_AFTER, INFO_HASH, PROTOCOL

if TYPE_CHECKING:
    from btfast.engine.securing import Securing
    from btfast.engine.turns import KeyTurns
    from btfast.wire.mse import Secured

CHUNK = 4096  # bytes read at a time
KEY_LENGTH = 96  # of MSE
TEXT = 16  # bytes


class House(Protocol):
    """Where it arrives."""

    turns: KeyTurns

    def find_skey(self, skey_hash: bytes) -> bytes | None: ...

    def handle_named(self, arrival: Arrival, info_hash: bytes, secured: Secured | None, said: bytes) -> None: ...

    def handle_gone(self, arrival: Arrival, why: str) -> None: ...


class Arrival:
    """It ends in one call of the house: `handle_named` (the socket is the house's then), or `handle_gone`."""

    __slots__ = ("_context", "_ended", "_house", "_said", "_securing", "_turning", "address", "began", "socket")

    def __init__(self, context: Context, house: House, sock: socket.socket, address: PeerAddress, now: float) -> None:
        self._context = context
        self._house = house
        self._said = b""
        self._securing: Securing | None = None
        self._turning = False
        self._ended = False
        self.socket = sock
        self.address = address
        self.began = now
        sock.setblocking(False)
        context.loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            data = self.socket.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(error.strerror or "broken")
            return
        if not data:
            self.close("closed by the peer")
            return
        said = self._said = self._said + data if self._said else data
        policy = self._context.settings.encryption
        if said.startswith(PROTOCOL):
            if policy == "require":
                self.close("it speaks plain text, which is not accepted here")
            elif len(said) >= ANSWER_AFTER:
                self._leave()
                self._house.handle_named(self, said[INFO_HASH], None, said)
        elif PROTOCOL.startswith(said):
            return
        elif policy == "off" or _is_text(said):
            self.close("it speaks another protocol")
        elif len(said) >= KEY_LENGTH and not self._turning:
            self._turning = True
            self._context.loop.remove_reader(self.socket.fileno())
            self._house.turns.ask(self._secure)

    def _secure(self) -> None:
        """Its turn for a key exchange has come."""
        try:
            more = self.socket.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            more = b""
        except OSError as error:
            self.close(error.strerror or "broken")
            return
        else:
            if not more:  # it has not waited: save us the exponentiations
                self.close("closed by the peer")
                return
        from btfast.engine.securing import Securing
        from btfast.wire.mse import PLAIN, RC4, Responder

        accept = RC4 if self._context.settings.encryption == "require" else PLAIN | RC4
        side = Responder(self._house.find_skey, os.urandom, accept)
        self._securing = Securing(self._context.loop, self.socket, side, self._secured)
        said, self._said = self._said, b""
        self._securing.handle_bytes(said + more)

    def _secured(self, secured: Secured | None, why: str) -> None:
        self._securing = None
        if secured is None:
            self.close(why)
        else:
            self._ended = True
            self._house.handle_named(self, secured.info_hash, secured, secured.rest)

    @property
    def securing(self) -> bool:
        """Whether it is in, or waits for, an encrypted handshake."""
        return self._turning

    def _leave(self) -> None:
        """Looks at the socket no more."""
        self._ended = True
        if self._securing is not None:
            self._securing.close()
        elif self._turning:
            self._house.turns.forget(self._secure)
        else:
            self._context.loop.remove_reader(self.socket.fileno())

    def close(self, why: str) -> None:
        if not self._ended:
            self._leave()
            self.socket.close()
            self._house.handle_gone(self, why)


def _is_text(said: bytes) -> bool:
    """Whether it begins as HTTP and the like do, and a random key once in five million times."""
    begin = said[:TEXT]
    return len(begin) == TEXT and all(32 <= byte < 127 or byte in b"\r\n\t" for byte in begin)
