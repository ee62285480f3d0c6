"""One connected peer: its socket, its stream, and what both sides have said. Decides nothing."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Protocol

from btfast._bitfield import Bitfield
from btfast._peer_stream import PeerStream
from btfast.engine.nearness import fit_send_buffer
from btfast.engine.throttle import Line
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.pipeline import Pipeline
from btfast.wire import ids, messages

if TYPE_CHECKING:
    from btfast.swarm.allowed_fast import Allowance, Grant
    from btfast.wire.mse import Secured

READ_AT_ONCE = 1 << 20  # bytes
UNASKED = 64 << 20  # bytes of blocks that came too late or were not asked for, beyond as much as was of use
UNSENT_LIMIT = 4 << 20  # bytes of messages that a peer may leave unread before it is dropped


class Owner(Protocol):
    """Who the connection works for."""

    def handle_events(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None: ...

    def handle_closed(self, peer: PeerConnection, reason: str) -> None: ...


class PeerConnection:
    """`number` names the peer in the swarm's parts; `address`: where we reached it, or where it came from.

    `secured`: the MSE handshake that came first; when we have made it, our handshake has been said in it.
    """

    __slots__ = (
        "_loop", "_paused", "_socket", "_writing", "address", "allowance", "am_choking", "am_interested",
        "asked_choked_at", "choked_at", "client", "closed", "connected_at", "dht_owed", "down", "encrypted", "excess",
        "extensions", "fast", "flooding", "granted", "greeted", "hashes_asked", "have", "info_hash", "introduced",
        "is_seed", "last_payload", "last_received", "last_sent", "last_served", "listen_port", "metadata_asked", "number",
        "outgoing", "owner", "peer_choking", "peer_id", "peer_interested", "pipeline", "prefers_encryption", "rejects",
        "stream", "unchoked_at", "up", "upload_only", "v2",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, address: PeerAddress, owner: Owner, *,
        outgoing: bool, secured: Secured | None = None, info_hash: bytes = b"",
    ) -> None:  # fmt: skip
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        now = loop.time()
        self._loop = loop
        self._socket = sock
        self._writing = False
        self._paused = False
        self.stream = PeerStream(sock.fileno())
        self.address = address
        self.owner = owner
        self.outgoing = outgoing
        self.info_hash = info_hash  # by which of its names we mean the torrent here
        self.v2 = False  # both have said the v2 hash: hash messages are spoken (BEP 52)
        self.encrypted = secured is not None  # its handshake was; whether all that follows is, they have agreed on
        if secured is not None and secured.incoming is not None and secured.outgoing is not None:
            self.stream.encrypt(secured.incoming, secured.outgoing)
        self.number = -1
        self.greeted = False  # its handshake has come
        self.closed = False
        self.peer_id = b""
        self.client = ""
        self.fast = False
        self.dht_owed = False  # it speaks DHT, and was not told yet where our node is
        self.extensions: dict[str, int] | None = None  # LTEP: None when it does not speak it
        self.listen_port: int | None = address.port if outgoing else None
        self.introduced = False  # its extension handshake has come
        self.have: Bitfield | None = None
        self.is_seed = False
        self.upload_only = False  # it wants nothing more, whether it has everything or not (BEP 21)
        self.prefers_encryption = False
        self.am_choking = True
        self.am_interested = False
        self.peer_choking = True
        self.peer_interested = False
        self.choked_at = 0.0
        self.asked_choked_at = 0.0  # when it was last asked for something while it choked us
        self.granted: Grant | None = None  # what it may ask for while we choke it (BEP 6)
        self.allowance: Allowance | None = None  # what we may ask for while it chokes us
        self.metadata_asked = 0  # requests for it
        self.hashes_asked = 0  # requests for those of v2
        self.rejects = 0  # since the last block
        self.unchoked_at = 0.0
        self.pipeline = Pipeline(now)
        self.up: Line | None = None  # caps on what it gets from us, and on what it sends; None: none
        self.down: Line | None = None
        self.connected_at = self.last_sent = self.last_received = self.last_payload = self.last_served = now
        self.excess = 0  # messages so far that neither data nor new pieces explain
        self.flooding = 0  # ticks in a row with too many of them
        loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        if self.down is None:
            self._handle(self.stream.handle_readable())
        else:
            self._read_some(self.down, self.down.room(self._loop.time()))

    def _read_some(self, line: Line, most: int) -> None:
        """Reads what may pass; what must wait stays in the socket, so that TCP holds the peer back."""
        most = min(most, READ_AT_ONCE)
        before = self.stream.received
        events = self.stream.handle_readable(most)
        read = self.stream.received - before
        line.take(read)
        if read < most:
            if self._paused:
                self._paused = False
                self._loop.add_reader(self._socket.fileno(), self._readable)
        else:
            line.wait(self)
            if not self._paused:
                self._paused = True
                self._loop.remove_reader(self._socket.fileno())
        self._handle(events)

    def go_on(self, line: Line, most: int) -> None:
        """throttle.Waiter"""
        if self.closed:
            return
        if line is self.down:
            self._read_some(line, most)
        else:
            self._flush(line, most)

    def _handle(self, events: list[tuple[Any, ...]]) -> None:
        now = self._loop.time()
        self.last_received = now
        if events:
            self.owner.handle_events(self, events, now)
        if self.stream.wasted > UNASKED + self.stream.payload:
            self.close("it sends what nobody asked for")

    @property
    def reached_at(self) -> PeerAddress | None:
        """Where others can connect to it; None while that is not known."""
        if self.outgoing:
            return self.address
        return PeerAddress(self.address.host, self.listen_port) if self.listen_port else None

    @property
    def local_host(self) -> str:
        """Our address on this connection."""
        return bare_host(self._socket.getsockname()[0])

    def greet(self, handshake: bytes) -> None:
        """Queues our handshake where it has not been said."""
        if not (self.outgoing and self.encrypted):
            self.send(handshake)

    def send(self, message: bytes) -> None:
        """Queues framed messages; `flush` sends them."""
        self.stream.send(message)

    def flush(self) -> None:
        """Sends what is queued, now or when the socket takes it or the cap allows it."""
        if self.closed:
            return
        if not self._writing:
            self._flush(self.up, 0)
        elif self.stream.unsent > UNSENT_LIMIT:
            self.close("it does not read what it is sent")

    def _writable(self) -> None:
        """The socket takes a good deal more: better than a little each time that something is queued."""
        if not self.closed:
            self._flush(self.up, 0)

    def _flush(self, line: Line | None, granted: int) -> None:
        before = self.stream.sent
        if line is None:
            empty = self.stream.flush()
        else:
            payload = self.stream.payload_sent
            empty = self.stream.flush(granted or line.room(self._loop.time()))
            line.take(self.stream.payload_sent - payload)
            if self.stream.held:
                line.wait(self)
        if self.stream.sent != before:
            self.last_sent = self._loop.time()
        if empty or self.stream.held:
            if self._writing:
                self._writing = False
                self._loop.remove_writer(self._socket.fileno())
        elif self.stream.error is not None:
            self.close(self.stream.error)
        elif self.stream.unsent > UNSENT_LIMIT:
            self.close("it does not read what it is sent")
        elif not self._writing:
            self._writing = True
            self._loop.add_writer(self._socket.fileno(), self._writable)

    def close(self, reason: str) -> None:
        """Ends the connection and tells the owner, once."""
        if self.closed:
            return
        self.closed = True
        if self.up is not None:
            self.up.forget(self)
        if self.down is not None:
            self.down.forget(self)
        fd = self._socket.fileno()
        self._loop.remove_reader(fd)
        if self._writing:
            self._loop.remove_writer(fd)
        self._socket.close()
        self.owner.handle_closed(self, reason)

    # What the owner says to the peer; none of these flushes.

    def choke(self) -> None:
        if self.am_choking:
            return
        self.am_choking = True
        self.send(messages.CHOKE)
        again: list[tuple[Any, ...]] = []
        for index, begin, length in self.stream.drop_blocks():
            if self.granted is not None and index in self.granted:
                again.append((ids.REQUEST, index, begin, length))
            else:
                self.reject(index, begin, length)
        if again:  # what it may have in spite of the choke counts as asked for now
            self.owner.handle_events(self, again, self._loop.time())

    def unchoke(self) -> None:
        if self.am_choking:
            self.am_choking = False
            fit_send_buffer(self._socket)
            self.send(messages.UNCHOKE)

    def interested(self, wanted: bool) -> None:
        if wanted != self.am_interested:
            self.am_interested = wanted
            self.send(messages.INTERESTED if wanted else messages.NOT_INTERESTED)

    def reject(self, index: int, begin: int, length: int) -> None:
        """Answers a request that will not be served, where the peer understands that."""
        if self.fast:
            self.send(messages.encode_reject(index, begin, length))


def remote_address(name: tuple[Any, ...]) -> PeerAddress:
    """What the system calls the other end; an IPv4 address in IPv6 clothes counts as IPv4."""
    return PeerAddress(bare_host(name[0]), name[1])


def bare_host(host: str) -> str:
    """Without a zone; an IPv4 address in IPv6 clothes without them."""
    host = host.split("%")[0]
    return host[7:] if host.startswith("::ffff:") and "." in host else host
