"""Message Stream Encryption (MSE/PE), both sides of its handshake as bytes in, bytes out. No socket, no clock.

    1  A -> B   Ya, PadA
    2  B -> A   Yb, PadB
    3  A -> B   H("req1" S), H("req2" SKEY) xor H("req3" S), RC4( VC, crypto_provide, PadC, IA )
    4  B -> A   RC4( VC, crypto_select, PadD ), then the stream as it was selected

S is the Diffie-Hellman secret, SKEY the info-hash, H SHA-1, VC eight zero bytes. Padding is 0 to 512 bytes. IA is the
first the initiator has to say (our handshake); it is always encrypted. What comes from the peer is hostile: at most a
few hundred bytes are kept, and every deviation is a RemoteError.
https://wiki.vuze.com/w/Message_Stream_Encryption
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

from btfast._rc4 import Rc4
from btfast.errors import RemoteError

PLAIN: Final = 1  # only the handshake is encrypted
RC4: Final = 2

P: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A36210000000000090563",
    16,
)
G: Final = 2
KEY_LENGTH: Final = 96
_PRIVATE_LENGTH = 20
_VC = bytes(8)
_MOST_PADDING = 512
_DROP = 1024  # bytes of each key stream
# We send a handshake, as everybody does, since many clients close at more. Of others more is taken, within reason.
_MOST_INITIAL = 1024

Random = Callable[[int], bytes]


class Secured(NamedTuple):
    """What a handshake came to. The ciphers go on where it has ended; None: the stream is plain from here on.

    `rest`: what the peer has said after the handshake so far, already decrypted.
    """

    info_hash: bytes
    incoming: Rc4 | None
    outgoing: Rc4 | None
    rest: bytes


def skey_hash(info_hash: bytes) -> bytes:
    """What a responder finds a torrent by."""
    return _sha1(b"req2", info_hash)


class _Handshake:
    """`handle_bytes` takes what has come and returns what is to be sent; `secured` is set when it is over.

    `step` says what it waits for, for messages and for a time limit of each step.
    """

    def __init__(self, random: Random) -> None:
        self.step = "the other side's key"
        self.secured: Secured | None = None
        self._random = random
        self._private = int.from_bytes(random(_PRIVATE_LENGTH), "big")
        self._received = bytearray()
        self._reply: list[bytes] = []
        self._next: Callable[[], bool] = self._key

    def handle_bytes(self, data: bytes) -> bytes:
        """Raises RemoteError when the peer breaks the protocol. Give it nothing more once `secured` is set."""
        self._received += data
        while self.secured is None and self._next():
            pass
        reply, self._reply = b"".join(self._reply), []
        return reply

    def _public_key(self) -> bytes:
        return pow(G, self._private, P).to_bytes(KEY_LENGTH, "big") + self._random(self._pad_length())

    def _pad_length(self) -> int:
        return int.from_bytes(self._random(2), "big") % (_MOST_PADDING + 1)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _key(self) -> bool:
        """Reads the other side's key."""
        if len(self._received) < KEY_LENGTH:
            return False
        theirs = int.from_bytes(self._take(KEY_LENGTH), "big")
        if not 1 < theirs < P - 1:
            raise RemoteError("encryption: a key that gives everything away: the peer is dropped")
        self._agreed(pow(theirs, self._private, P).to_bytes(KEY_LENGTH, "big"))
        return True

    def _agreed(self, secret: bytes) -> None:
        raise AssertionError("each side has its own")

    def _find(self, mark: bytes) -> bool:
        """Drops the padding before `mark` and the mark itself; False when it may still come."""
        at = self._received.find(mark)
        if at < 0 and len(self._received) < _MOST_PADDING + len(mark):
            return False
        if not 0 <= at <= _MOST_PADDING:
            raise RemoteError(f"encryption: {self.step} did not come: it speaks another protocol, or another torrent")
        del self._received[: at + len(mark)]
        return True

    def _finish(self, info_hash: bytes, incoming: Rc4, outgoing: Rc4, selected: int, before: bytes = b"") -> bool:
        rest = self._take(len(self._received))
        if selected == RC4:
            self.secured = Secured(info_hash, incoming, outgoing, before + incoming.crypt(rest))
        else:
            self.secured = Secured(info_hash, None, None, before + rest)
        return False


class Initiator(_Handshake):
    """The side that connects, and knows which torrent it wants. `first`: what it says first (our handshake).

    `provide`: PLAIN, RC4 or both. `begin` gives the bytes that open the connection.
    """

    def __init__(self, info_hash: bytes, first: bytes, random: Random, provide: int = PLAIN | RC4) -> None:
        super().__init__(random)
        self._info_hash = info_hash
        self._first = first
        self._provide = provide

    def begin(self) -> bytes:
        return self._public_key()

    def _agreed(self, secret: bytes) -> None:
        self._outgoing = Rc4(_sha1(b"keyA", secret, self._info_hash), drop=_DROP)
        self._incoming = Rc4(_sha1(b"keyB", secret, self._info_hash), drop=_DROP)
        self._vc = self._incoming.crypt(_VC)
        head = _VC + self._provide.to_bytes(4, "big") + bytes(2) + len(self._first).to_bytes(2, "big")
        self._reply += (
            _sha1(b"req1", secret),
            _xor(skey_hash(self._info_hash), _sha1(b"req3", secret)),
            self._outgoing.crypt(head + self._first),
        )
        self.step, self._next = "the answer to our key", self._answer

    def _answer(self) -> bool:
        if not self._find(self._vc):
            return False
        self.step, self._next = "its choice", self._choice
        return True

    def _choice(self) -> bool:
        if len(self._received) < 6:
            return False
        choice = self._incoming.crypt(self._take(6))
        self._selected, self._padding = int.from_bytes(choice[:4], "big"), int.from_bytes(choice[4:], "big")
        if self._selected not in (PLAIN, RC4) or not self._selected & self._provide:
            raise RemoteError("encryption: it selected what was not offered: the peer is dropped")
        _check_padding(self._padding)
        self.step, self._next = "its padding", self._pad
        return True

    def _pad(self) -> bool:
        if len(self._received) < self._padding:
            return False
        self._incoming.crypt(self._take(self._padding))
        return self._finish(self._info_hash, self._incoming, self._outgoing, self._selected)


class Responder(_Handshake):
    """The side that is connected to. `find(hash)` gives the info-hash whose `skey_hash` that is, or None.

    `accept`: PLAIN, RC4 or both; where the other side leaves the choice, the stream stays plain, which costs nothing.
    """

    def __init__(self, find: Callable[[bytes], bytes | None], random: Random, accept: int = PLAIN | RC4) -> None:
        super().__init__(random)
        self._find_torrent = find
        self._accept = accept

    def _agreed(self, secret: bytes) -> None:
        self._secret = secret
        self._mark = _sha1(b"req1", secret)
        self._reply.append(self._public_key())
        self.step, self._next = "proof that it has our key", self._proof

    def _proof(self) -> bool:
        if not self._find(self._mark):
            return False
        self.step, self._next = "the torrent it wants", self._torrent
        return True

    def _torrent(self) -> bool:
        if len(self._received) < 20:
            return False
        info_hash = self._find_torrent(_xor(self._take(20), _sha1(b"req3", self._secret)))
        if info_hash is None:
            raise RemoteError("encryption: it asks for something that is not here: the peer is dropped")
        self._info_hash = info_hash
        self._incoming = Rc4(_sha1(b"keyA", self._secret, info_hash), drop=_DROP)
        self._outgoing = Rc4(_sha1(b"keyB", self._secret, info_hash), drop=_DROP)
        self.step, self._next = "its offer", self._offer
        return True

    def _offer(self) -> bool:
        if len(self._received) < 14:
            return False
        offer = self._incoming.crypt(self._take(14))
        if offer[:8] != _VC:
            raise RemoteError("encryption: the offer cannot be decrypted: the peer is dropped")
        offered = int.from_bytes(offer[8:12], "big") & self._accept
        if not offered & (PLAIN | RC4):
            raise RemoteError("encryption: it offers no kind that is accepted here: the peer is dropped")
        self._selected = PLAIN if offered & PLAIN else RC4
        self._padding = int.from_bytes(offer[12:], "big")
        _check_padding(self._padding)
        self.step, self._next = "its padding", self._pad
        return True

    def _pad(self) -> bool:
        if len(self._received) < self._padding + 2:
            return False
        self._initial = int.from_bytes(self._incoming.crypt(self._take(self._padding + 2))[-2:], "big")
        if self._initial > _MOST_INITIAL:
            raise RemoteError("encryption: more initial data than a handshake can be: the peer is dropped")
        self.step, self._next = "its handshake", self._first
        return True

    def _first(self) -> bool:
        if len(self._received) < self._initial:
            return False
        first = self._incoming.crypt(self._take(self._initial))
        self._reply.append(self._outgoing.crypt(_VC + self._selected.to_bytes(4, "big") + bytes(2)))
        return self._finish(self._info_hash, self._incoming, self._outgoing, self._selected, first)


def _check_padding(length: int) -> None:
    if length > _MOST_PADDING:
        raise RemoteError("encryption: more padding than there may be: the peer is dropped")


def _sha1(*parts: bytes) -> bytes:
    return hashlib.sha1(b"".join(parts)).digest()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
