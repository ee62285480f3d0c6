"""Which kind of connection an address is tried with, plain or encrypted, and what comes after a failure.

Plain comes first where both are allowed: nearly everybody takes it, it saves a round trip, two exponentiations, and a
CPU second for each GiB. A peer that hangs up on our plain handshake without a word may want encryption: it is tried at
once with that, and remembered if that works.
"""

from __future__ import annotations

from typing import Literal

from btfast.metainfo.addresses import PeerAddress

REMEMBERED = 4000  # addresses

Mode = Literal["off", "allow", "require"]


class Kinds:
    """One torrent's addresses. The kind is told as whether it is encrypted."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._encrypted: dict[PeerAddress, None] = {}
        self._second: set[PeerAddress] = set()  # in their second try; no more than are being dialed

    def first(self, address: PeerAddress) -> bool:
        """Whether a new try begins encrypted."""
        return self._mode == "require" or (self._mode == "allow" and address in self._encrypted)

    def failed(self, address: PeerAddress, *, encrypted: bool, silent: bool) -> bool | None:
        """No handshake came. The kind to try at once, None for neither. `silent`: it has not sent a single byte."""
        if self._mode != "allow" or address in self._second:
            self._second.discard(address)
            return None
        if encrypted:
            self._encrypted.pop(address, None)
        elif not silent:
            return None
        self._second.add(address)
        return not encrypted

    def forget(self, address: PeerAddress) -> None:
        """There was no connection at all, or it is not wanted any more."""
        self._second.discard(address)

    def worked(self, address: PeerAddress, *, encrypted: bool) -> None:
        """Its handshake came."""
        self._second.discard(address)
        self._encrypted.pop(address, None)
        if encrypted and self._mode == "allow":
            if len(self._encrypted) >= REMEMBERED:
                del self._encrypted[next(iter(self._encrypted))]
            self._encrypted[address] = None
