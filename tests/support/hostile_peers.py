"""Peers that break the protocol, or only its spirit. Each does one thing wrong, as its docstring says."""

from __future__ import annotations

import random
import struct

from support.scripted_peer import Gone, Link, Request, ScriptedPeer

from btfast.wire import ids, messages
from btfast.wire.handshake import decode_handshake


class Garbage(ScriptedPeer):
    """Sends noise instead of a handshake."""

    def on_connection(self, link: Link) -> None:
        link.send(random.Random(1).randbytes(1 << 20))
        link.drain()


class WebServer(ScriptedPeer):
    """Speaks another protocol."""

    def on_connection(self, link: Link) -> None:
        link.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" * 2)


class NoiseAfterHandshake(ScriptedPeer):
    """Greets as it should and goes on with noise."""

    def on_greeted(self, link: Link) -> None:
        link.send(random.Random(2).randbytes(1 << 20))
        link.drain()


class OtherTorrent(ScriptedPeer):
    """Answers with another info-hash."""

    def on_handshake(self, link: Link) -> None:
        super().on_handshake(link)

    def handshake(self) -> bytes:
        whole = super().handshake()
        return whole[:28] + bytes(20) + whole[48:]


class HungUp(ScriptedPeer):
    """Accepts and closes at once."""

    def on_connection(self, link: Link) -> None:
        link.close()


class Reset(ScriptedPeer):
    """Resets the connection once it has been asked for data."""

    def on_requests(self, link: Link, requests: list[Request]) -> None:
        if requests:
            link.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER: close sends a reset
            link.socket.close()
            raise Gone


class HugePrefix(ScriptedPeer):
    """Announces a message of 4 GiB: a block, where `kind` says nothing else."""

    kind = ids.PIECE

    def on_interested(self, link: Link) -> None:
        super().on_interested(link)
        link.send(struct.pack("!IB", 0xFFFFFFFF, self.kind) + bytes(1 << 18))
        link.drain()


class HugeBitfield(HugePrefix):
    """Announces a bitfield of 4 GiB."""

    kind = ids.BITFIELD

    def on_greeted(self, link: Link) -> None:
        link.send(struct.pack("!IB", 0xFFFFFFFF, self.kind) + bytes(1 << 18))
        link.drain()


class HugeExtended(HugeBitfield):
    """Announces an extension message of 4 GiB."""

    kind = ids.EXTENDED


class Mute(ScriptedPeer):
    """Accepts and never says a word."""

    def on_connection(self, link: Link) -> None:
        link.drain()


class HandshakeOnly(ScriptedPeer):
    """Says nothing after its handshake."""

    def on_greeted(self, link: Link) -> None:
        link.drain()


class SlowHandshake(ScriptedPeer):
    """Sends its handshake one byte a second."""

    def on_handshake(self, link: Link) -> None:
        decode_handshake(link.read(68))
        for byte in self.handshake():
            link.send(bytes([byte]))
            self.wait(1.0)


class Drip(ScriptedPeer):
    """Sends its blocks one byte a second."""

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        for byte in messages.encode_piece(index, begin, self.block(index, begin, length)):
            link.send(bytes([byte]))
            self.wait(1.0)


class WrongData(ScriptedPeer):
    """Every byte it sends is wrong."""

    def block(self, index: int, begin: int, length: int) -> bytes:
        return bytes(byte ^ 0xFF for byte in super().block(index, begin, length))


class RandomData(ScriptedPeer):
    """Sends other wrong bytes each time."""

    def block(self, index: int, begin: int, length: int) -> bytes:
        return random.randbytes(length)


class OneBadByte(ScriptedPeer):
    """One byte of one block in four is wrong."""

    def block(self, index: int, begin: int, length: int) -> bytes:
        block = super().block(index, begin, length)
        return block if begin // 16384 % 4 else block[:-1] + bytes([block[-1] ^ 1])


class ClosesMidBlock(ScriptedPeer):
    """Hangs up in the middle of its first block, each time it is connected."""

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        link.send(messages.encode_piece(index, begin, self.block(index, begin, length))[: 13 + length // 2])
        link.close()
        raise Gone


class ClosesMidHeader(ScriptedPeer):
    """Hangs up within the header of a block."""

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        link.send(messages.encode_piece_header(index, begin, length)[:7])
        link.close()
        raise Gone


class Unrequested(ScriptedPeer):
    """Sends wrong blocks that nobody asked for, without end, and answers no request."""

    def on_requests(self, link: Link, requests: list[Request]) -> None:
        while requests:
            link.send(b"".join(messages.encode_piece(index, 5, bytes(16384)) for index in range(self.made.pieces)))
            link.sent += self.made.pieces


class UnrequestedFirst(ScriptedPeer):
    """Sends wrong blocks before it is asked, then serves as it should."""

    def on_greeted(self, link: Link) -> None:
        super().on_greeted(link)
        for index in range(self.made.pieces):
            link.send(messages.encode_piece(index, 0, bytes(16384)))


class Repeats(ScriptedPeer):
    """Sends every block twice, the second time with wrong bytes."""

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        super().on_request(link, index, begin, length)
        link.send(messages.encode_piece(index, begin, bytes(length)))


class WrongLengths(ScriptedPeer):
    """Answers with one byte less than was asked for."""

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        link.send(messages.encode_piece(index, begin, self.block(index, begin, length - 1)))


class LongBlocks(ScriptedPeer):
    """Answers with twice as much as was asked for."""

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        link.send(messages.encode_piece(index, begin, bytes(2 * length)))


class RequestFlood(ScriptedPeer):
    """Asks for everything over and over and reads no answer; serves nothing."""

    def on_interested(self, link: Link) -> None:
        flood = b"".join(messages.encode_request(index, 0, 16384) for index in range(self.made.pieces)) * 1000
        link.send(messages.INTERESTED)
        while True:
            link.send(flood)


class RequestsBeyondTheEnd(ScriptedPeer):
    """Asks for a piece that does not exist."""

    def on_interested(self, link: Link) -> None:
        link.send(messages.INTERESTED + messages.encode_request(0xFFFFFFFF, 0xFFFFFFFF, 16384))
        link.drain()


class HaveFlood(ScriptedPeer):
    """Says what it has a hundred thousand times, and serves nothing."""

    def on_interested(self, link: Link) -> None:
        link.send(messages.encode_haves([n % self.made.pieces for n in range(100_000)]))
        link.drain()


class HasTooMuch(ScriptedPeer):
    """Has a piece that does not exist."""

    def on_interested(self, link: Link) -> None:
        link.send(messages.encode_have(self.made.pieces))
        link.drain()


class ChokeFlood(ScriptedPeer):
    """Chokes and unchokes fifty thousand times, and serves nothing."""

    def on_interested(self, link: Link) -> None:
        link.send((messages.UNCHOKE + messages.CHOKE) * 50_000)
        link.drain()


class NeverUnchokes(ScriptedPeer):
    """Has everything and gives nothing."""

    def on_interested(self, link: Link) -> None:
        pass


class UnchokesThenSilent(ScriptedPeer):
    """Lets itself be asked, and answers nothing."""

    def on_requests(self, link: Link, requests: list[Request]) -> None:
        pass


class RejectsAll(ScriptedPeer):
    """Rejects every request, at once."""

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        link.send(messages.encode_reject(index, begin, length))


class RejectsUnasked(ScriptedPeer):
    """Rejects what it was not asked for, then serves as it should."""

    def on_interested(self, link: Link) -> None:
        link.send(b"".join(messages.encode_reject(index, 0, 16384) for index in range(self.made.pieces)))
        super().on_interested(link)


class ShortBitfield(ScriptedPeer):
    """Its bitfield is a byte too short."""

    fast = False

    def bitfield(self) -> bytes:
        return super().bitfield()[:-1]


class LongBitfield(ScriptedPeer):
    """Its bitfield is a byte too long."""

    fast = False

    def bitfield(self) -> bytes:
        return super().bitfield() + b"\0"


class SpareBits(ScriptedPeer):
    """Bits of its bitfield are set that stand for no piece; needs a piece count that is no multiple of 8."""

    fast = False

    def bitfield(self) -> bytes:
        return b"\xff" * len(super().bitfield())


class TwoBitfields(ScriptedPeer):
    """Says twice what it has."""

    def on_greeted(self, link: Link) -> None:
        super().on_greeted(link)
        link.send(messages.encode_bitfield(self.bitfield()))
        link.drain()


class FastUnasked(ScriptedPeer):
    """Uses the fast extension without having negotiated it."""

    fast = False

    def on_greeted(self, link: Link) -> None:
        link.send(messages.HAVE_ALL)
        link.drain()


class UnknownMessage(ScriptedPeer):
    """Sends a message with an id that nobody knows, then serves as it should."""

    def on_interested(self, link: Link) -> None:
        link.send(struct.pack("!IB", 101, 99) + bytes(100))
        super().on_interested(link)


class BadExtendedHandshake(ScriptedPeer):
    """Its extension handshakes are noise, then of wrong types; then it serves as it should."""

    def on_greeted(self, link: Link) -> None:
        link.send(messages.encode_extended(0, b"d1:mi5e1:v" + b"l" * 5000))
        link.send(messages.encode_extended(0, b"d1:mli1ee4:reqqi-5e1:pi99999999999e1:vi5ee"))
        link.send(messages.encode_extended(200, b"x" * 1000))
        super().on_greeted(link)


class OneRequestAtATime(ScriptedPeer):
    """Queues one request only, and says so."""

    def on_greeted(self, link: Link) -> None:
        from btfast.wire.extensions import encode_extended_handshake

        super().on_greeted(link)
        link.send(encode_extended_handshake(m={}, reqq=1))


class Shuffles(ScriptedPeer):
    """Answers in random order."""

    def on_requests(self, link: Link, requests: list[Request]) -> None:
        random.Random(3).shuffle(requests)
        super().on_requests(link, requests)


class ChokesInBetween(ScriptedPeer):
    """Chokes after every eighth block, drops or rejects what it was asked, and unchokes a moment later."""

    def on_requests(self, link: Link, requests: list[Request]) -> None:
        super().on_requests(link, requests[:8])
        if not requests[8:]:
            return
        link.send(messages.CHOKE)
        if self.fast:
            link.send(b"".join(messages.encode_reject(*request) for request in requests[8:]))
        self.wait(0.02)
        link.send(messages.UNCHOKE)


class ChokesInBetweenWithoutFast(ChokesInBetween):
    """The same, without the fast extension: what was asked is forgotten."""

    fast = False


class HavesBetweenBlocks(ScriptedPeer):
    """Sends a HAVE and a keep-alive between any two blocks, and has nothing at first."""

    fast = False
    extensions = False

    def on_greeted(self, link: Link) -> None:
        link.send(messages.encode_haves(list(range(self.made.pieces))))

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        link.send(messages.encode_have(index) + messages.KEEP_ALIVE)
        super().on_request(link, index, begin, length)


class OneByteAtATime(ScriptedPeer):
    """Sends every byte in a packet of its own for the first blocks, as fast as it can."""

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        whole = messages.encode_piece(index, begin, self.block(index, begin, length))
        if link.sent < 1:
            for byte in whole:
                link.send(bytes([byte]))
            link.sent += 1
        else:
            link.send(whole)
