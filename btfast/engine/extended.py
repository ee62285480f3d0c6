"""LTEP (BEP 10) among the peers of one info-hash: the handshake both ways, and each message to who deals with it."""

from __future__ import annotations

from collections.abc import Callable

from btfast import __version__
from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.errors import RemoteError
from btfast.metainfo.addresses import host_text, packed_host
from btfast.wire import ids
from btfast.wire.extensions import (
    OUR_IDS,
    ExtendedHandshake,
    decode_extended_handshake,
    encode_extended_handshake,
    merge_names,
)
from btfast.wire.messages import encode_extended

USUAL_REQQ = 500  # requests that a peer queues which does not say (libtorrent's)

Handler = Callable[[PeerConnection, bytes, float], None]
Introduced = Callable[[PeerConnection, ExtendedHandshake, float], None]


class Extended:
    """What is registered before the first peer is greeted is offered to all of them.

    `upload_only()`: whether we want nothing more (BEP 21). `metadata_size` is told where it is known (BEP 9).
    """

    def __init__(self, context: Context, upload_only: Callable[[], bool]) -> None:
        self._context = context
        self._upload_only = upload_only
        self._names: dict[str, int] = {}
        self._handlers: dict[int, Handler] = {}
        self._introduced: list[Introduced] = []
        self.metadata_size: int | None = None

    def register(self, name: str, handler: Handler, introduced: Introduced | None = None) -> None:
        """An extension by its name in `m`; its id is OUR_IDS'.

        `handler(peer, body, now)` gets each message of it; a RemoteError out of it ends the connection.
        `introduced(peer, handshake, now)` hears each LTEP handshake of a peer, also of one without this extension.
        """
        self._names[name] = OUR_IDS[name]
        self._handlers[OUR_IDS[name]] = handler
        if introduced is not None:
            self._introduced.append(introduced)

    def greet(self, peer: PeerConnection) -> None:
        """The handshake of a peer that speaks LTEP has come: queues our side of LTEP."""
        peer.extensions = {}
        self.introduce(peer)

    def introduce(self, peer: PeerConnection) -> None:
        """Queues our LTEP handshake; also once more, where there is more to say than before."""
        peer.send(
            encode_extended_handshake(
                m=self._names, client=f"btfast {__version__}", port=self._context.port or None,
                metadata_size=self.metadata_size, upload_only=self._upload_only(),
                yourip=packed_host(peer.address.host),
                encryption=self._context.settings.encryption == "require",
            )
        )  # fmt: skip

    def send(self, peer: PeerConnection, name: str, body: bytes) -> bool:
        """Queues a message of an extension. False: the peer has not said that it understands it."""
        number = (peer.extensions or {}).get(name)
        if number is None:
            return False
        peer.send(encode_extended(number, body))
        return True

    def handle(self, peer: PeerConnection, event: tuple[int, int, bytes], now: float) -> None:
        """An EXTENDED event."""
        _, number, body = event
        if peer.extensions is None:
            peer.close("it sends extension messages that were not negotiated")
            return
        if number == ids.EXT_HANDSHAKE:
            self._handshake(peer, body, now)
            return
        handler = self._handlers.get(number)
        if handler is not None:
            try:
                handler(peer, body, now)
            except RemoteError as error:
                peer.close(str(error))

    def _handshake(self, peer: PeerConnection, body: bytes, now: float) -> None:
        try:
            said = decode_extended_handshake(body)
        except RemoteError:
            return  # as libtorrent and Transmission do: a peer with a broken extension handshake still serves
        peer.extensions = merge_names(peer.extensions or {}, said.m)
        peer.client = said.client or peer.client
        peer.upload_only = peer.upload_only or said.upload_only
        peer.prefers_encryption = said.encryption
        if said.yourip is not None:
            self._context.external.handle_vote(peer.address.host, host_text(said.yourip))
        if said.port and (peer.listen_port is None or not peer.introduced):  # a second one would be one more to dial
            peer.listen_port = said.port
        if said.reqq or not peer.introduced:
            peer.pipeline.set_reqq(said.reqq or USUAL_REQQ)
        peer.introduced = True
        for introduced in self._introduced:
            introduced(peer, said, now)
            if peer.closed:
                return
