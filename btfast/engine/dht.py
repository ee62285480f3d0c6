"""The DHT node of this process: its sockets, clock, bootstrap names and state file. discovery.dht decides everything else.

It costs nothing until `start`, which the first look-up calls: what a short run never uses is not even imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from btfast import __version__
from btfast.config import Settings
from btfast.engine.resolve import Resolver, literal
from btfast.engine.state import state_directory
from btfast.engine.udp import UdpSockets
from btfast.errors import InputError, RemoteError
from btfast.metainfo.addresses import PeerAddress, parse_host_port
from btfast.metainfo.reach import Reach, reach_of
from btfast.wire.messages import encode_port

if TYPE_CHECKING:
    from btfast.discovery.dht.events import Event, SearchEnded
    from btfast.discovery.dht.items import Item
    from btfast.discovery.dht.node import DhtNode
    from btfast.discovery.dht.state import Saved

ROUTERS = (
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("dht.libtorrent.org", 25401),
    ("router.utorrent.com", 6881),
)
STATE_FILE = "dht.state"
SAVE_INTERVAL = 600.0
FAREWELL = 1.0  # seconds that the last save may take
LONELY = 30.0  # seconds after which the public routers are asked although saved nodes were known
MAX_NAMES = 64  # of bootstrap nodes that are looked up
LOWEST_PORT = 1024  # of a node that a peer names
MAX_HELD = 20_000  # searches that wait for somebody to ask


class Process(Protocol):
    """What is needed of the Context."""

    loop: asyncio.AbstractEventLoop
    settings: Settings
    udp: UdpSockets
    resolver: Resolver


class Peer(Protocol):
    """What is needed of a PeerConnection."""

    address: PeerAddress
    dht_owed: bool

    def send(self, data: bytes) -> None: ...

    def flush(self) -> None: ...


class Listener(Protocol):
    """Who searches."""

    def dht_found(self, event: Event) -> None:
        """PeersFound, ItemFound, HashesFound."""
        ...

    def dht_ended(self, event: SearchEnded | None) -> None:
        """Nothing follows; None where it did not even begin."""
        ...


class Dht:
    """`warn(message)` tells the user something. `read_only`: asks, but does not answer (BEP 43). `moved(host)`: others agree
    on where they see us.
    """

    def __init__(
        self, process: Process, warn: Callable[[str], None], *, read_only: bool = False,
        moved: Callable[[str], None] = lambda host: None,
    ) -> None:  # fmt: skip
        self._process = process
        self._warn = warn
        self._read_only = read_only
        self._moved = moved
        self._node: DhtNode | None = None
        self._entrances: list[PeerAddress] = []
        self._resolving: set[asyncio.Task[None]] = set()
        self._names: set[tuple[str, int]] = set()
        self._held: list[tuple[Callable[[DhtNode, float], int], Listener]] = []
        self._listeners: dict[int, Listener] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._saver: asyncio.Task[None] | None = None
        self._failed = False
        self._closed = False
        self._has_file: bool | None = None

    # what it is

    @property
    def enabled(self) -> bool:
        """Whether the user lets us take part."""
        return self._process.settings.dht

    @property
    def node(self) -> DhtNode | None:
        """The node behind it, None before `start`."""
        return self._node

    def port(self, *, v6: bool) -> int:
        """Where our node is reached over this family, 0 while it is not: what PORT tells a peer (BEP 5)."""
        return self._process.udp.port(v6=v6) if self._node is not None and not self._read_only else 0

    @property
    def hopeless(self) -> bool:
        """There is nobody to ask, and nobody will come up."""
        if not self.enabled or self._failed or self._closed:
            return True
        if self._resolving or self._entrances or self._process.settings.dht_bootstrap or self._may_use_routers:
            return False
        if self._node is not None:
            return not self._node.has_anybody
        if self._has_file is None:
            self._has_file = os.path.exists(self._state_path)
        return not self._has_file

    @property
    def _may_use_routers(self) -> bool:
        """Not where the user named others, nor from the loopback, which nobody answers on."""
        settings = self._process.settings
        if settings.dht_bootstrap:
            return False
        return literal(settings.bind) is None or reach_of(settings.bind) is not Reach.LOOPBACK

    @property
    def _state_path(self) -> str:
        directory = state_directory(self._process.settings)
        return os.path.join(directory, STATE_FILE) if directory else ""

    # life

    def start(self) -> bool:
        """Opens the sockets and looks for others; whether that can work. May be called again."""
        if self._node is not None:
            return True
        udp = self._process.udp
        if not self.enabled or self._failed or self._closed:
            return False
        if not udp.open():
            self._failed = True
            self._warn(f"DHT: {udp.problem or 'no UDP socket'}: peers come from elsewhere")
            self._drop_held()
            return False
        from btfast.discovery.dht.node import DhtNode
        from btfast.discovery.dht.signatures import Ed25519

        loop = self._process.loop
        saved = self._load()
        udp.dht_handler = self._received
        self._node = DhtNode(
            now=loop.time(), random=os.urandom, version=_version(), families=(udp.has(v6=False), udp.has(v6=True)),
            saved=saved, read_only=self._read_only, signatures=Ed25519(),
        )  # fmt: skip
        entrances, self._entrances = self._entrances, []
        for address in entrances:
            self.add_node(address)
        self._node.start(loop.time())
        for text in self._process.settings.dht_bootstrap:
            self.add_nodes([parse_host_port(text)])
        if self._may_use_routers:
            if saved is None or not (saved.v4.contacts or saved.v6.contacts):
                self.add_nodes(ROUTERS)
            else:
                loop.call_later(LONELY, self._use_routers_if_lonely)
        if self._state_path:
            self._saver = loop.create_task(self._save_forever())
        self._go_on()
        return True

    def _use_routers_if_lonely(self) -> None:
        if self._node is not None and not self._closed and not self._node.is_ready:
            self.add_nodes(ROUTERS)

    async def close(self) -> None:
        """Ends every search and keeps what a later run can use."""
        self._closed = True
        self._drop_held()
        for task in [*self._resolving, *([self._saver] if self._saver is not None else [])]:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._alarm is not None:
            self._alarm.cancel()
        if self._node is not None:
            self._process.udp.dht_handler = None
            with contextlib.suppress(TimeoutError):  # a disk that hangs must not hold up the end
                async with asyncio.timeout(FAREWELL):
                    await self._save()
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener.dht_ended(None)

    def _drop_held(self) -> None:
        held, self._held = self._held, []
        for _, listener in held:
            listener.dht_ended(None)

    # the node's input and output

    def _received(self, data: bytes, address: PeerAddress) -> None:
        from btfast.discovery.dht.endpoints import pack

        endpoint = pack(address)
        if endpoint is not None and self._node is not None:
            self._node.handle_packet(self._process.loop.time(), data, endpoint)
            self._go_on()

    def _wake(self) -> None:
        self._alarm = None
        if self._node is not None and not self._closed:
            self._node.handle_time(self._process.loop.time())
            self._go_on()

    def _go_on(self) -> None:
        """Sends what is to be sent, tells what has happened, and sets the alarm."""
        from btfast.discovery.dht.endpoints import unpack
        from btfast.discovery.dht.events import Moved, SearchEnded

        node = self._node
        if node is None or self._closed:
            return
        if self._held and (node.has_anybody or not self._resolving):
            held, self._held = self._held, []
            for begin, listener in held:
                self._listeners[begin(node, self._process.loop.time())] = listener
        for data, endpoint in node.poll_packets():
            self._process.udp.send(data, unpack(endpoint))
        for event in node.poll_events():
            if isinstance(event, Moved):
                self._moved(unpack(event.host + b"\0\0").host)
                continue
            searcher = self._listeners.get(event.search)
            if searcher is None:
                continue
            if isinstance(event, SearchEnded):
                del self._listeners[event.search]
                searcher.dht_ended(event)
            else:
                searcher.dht_found(event)
        deadline = node.poll_deadline()
        if deadline is None:
            return
        if self._alarm is not None:
            if self._alarm_at <= deadline:
                return
            self._alarm.cancel()
        self._alarm_at = deadline
        self._alarm = self._process.loop.call_at(deadline, self._wake)

    # peers

    def introduce(self, peer: Peer) -> None:
        """Tells a peer that speaks DHT where our node is, once there is one (PORT, BEP 5)."""
        port = self.port(v6=":" in peer.address.host)
        if port:
            peer.dht_owed = False
            peer.send(encode_port(port))
            peer.flush()

    def handle_port(self, host: str, port: int) -> None:
        """A peer has said where its node is."""
        if self.enabled and port >= LOWEST_PORT:
            self.add_node(PeerAddress(host, port))

    # searches

    def search(self, begin: Callable[[DhtNode, float], int], listener: Listener) -> bool:
        """Starts a search: `begin(node, now)` calls one of the node's methods and gives its number.

        It waits while the names of bootstrap nodes are being looked up. False, and nothing follows, where it can't begin.
        """
        if not self.start() or len(self._held) >= MAX_HELD:
            return False
        self._held.append((begin, listener))
        self._process.loop.call_soon(self._go_on)
        return True

    def find_peers(
        self, info_hash: bytes, listener: Listener, *, port: int = 0, seed: bool = False, scrape: bool = False
    ) -> bool:
        """Looks for peers; with `port` tells others that we are one (BEP 5)."""

        def begin(node: DhtNode, now: float) -> int:
            from btfast.discovery.dht.search import Announcement

            announcement = Announcement(port, seed) if port else None
            return node.find_peers(now, info_hash, announcement=announcement, noseed=seed, scrape=scrape)

        return self.search(begin, listener)

    def find_item(self, target: bytes, listener: Listener, *, salt: bytes = b"") -> bool:
        """Looks for a stored value (BEP 44)."""
        return self.search(lambda node, now: node.find_item(now, target, salt=salt), listener)

    def put_item(self, item: Item, listener: Listener, *, cas: int | None = None) -> bool:
        """Stores a value (BEP 44)."""
        return self.search(lambda node, now: node.put_item(now, item, cas=cas), listener)

    def sample_hashes(self, target: bytes, listener: Listener) -> bool:
        """Asks for info-hashes that others have (BEP 51)."""
        return self.search(lambda node, now: node.sample_hashes(now, target), listener)

    def forget(self, listener: Listener) -> None:
        """Nothing more is told to it."""
        self._held = [held for held in self._held if held[1] is not listener]
        for number in [number for number, other in self._listeners.items() if other is listener]:
            del self._listeners[number]

    # who there is

    def add_node(self, address: PeerAddress) -> None:
        """A node to ask, by its literal address: a peer's (PORT), a torrent's."""
        from btfast.discovery.dht.endpoints import pack

        if self._node is None:
            if len(self._entrances) < MAX_NAMES and address not in self._entrances:
                self._entrances.append(address)
            return
        endpoint = pack(address)
        if endpoint is not None:
            self._node.add_entrances(self._process.loop.time(), [endpoint])
            self._process.loop.call_soon(self._go_on)

    def add_nodes(self, nodes: Iterable[tuple[str, int]]) -> None:
        """Nodes to ask, by host and port; a name counts once it is an address."""
        if not self.enabled or self._closed:
            return
        for host, port in nodes:
            if literal(host) is not None:
                self.add_node(PeerAddress(host, port))
            elif (host, port) not in self._names and len(self._names) < MAX_NAMES:
                self._names.add((host, port))
                task = self._process.loop.create_task(self._resolve(host, port))
                self._resolving.add(task)
                task.add_done_callback(self._resolved)

    async def _resolve(self, host: str, port: int) -> None:
        try:
            found = await self._process.resolver.resolve(host, f"DHT node {host}:{port}")
        except RemoteError as error:
            if f"{host}:{port}" in self._process.settings.dht_bootstrap:
                self._warn(str(error))
            return
        for address in found:
            self.add_node(PeerAddress(address.host, port))

    def _resolved(self, task: asyncio.Task[None]) -> None:
        self._resolving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._process.loop.call_exception_handler({"message": "a DHT node's name", "exception": error})
        if not self._closed:
            self._go_on()

    # the state file

    def _load(self) -> Saved | None:
        from btfast.discovery.dht.state import MAX_BYTES, decode_state

        path = self._state_path
        if not path:
            return None
        try:
            with open(path, "rb") as file:
                return decode_state(file.read(MAX_BYTES + 1))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"{path}: cannot be read: {error.strerror}: the DHT starts afresh")
        except InputError as error:
            self._warn(f"{path}: {error}: the DHT starts afresh")
        return None

    async def _save_forever(self) -> None:
        while True:
            await asyncio.sleep(SAVE_INTERVAL)
            await self._save()

    async def _save(self) -> None:
        from btfast.discovery.dht.state import encode_state

        path = self._state_path
        if not path or self._node is None or self._read_only or not self._node.is_ready:
            return
        try:
            await asyncio.to_thread(write_whole, path, encode_state(self._node.save()))
        except OSError as error:
            self._warn(f"{path}: cannot be written: {error.strerror}: a later run has to find DHT nodes anew")


def write_whole(path: str, data: bytes) -> None:
    """Replaces a small file: it is the old one or the new one, whatever happens meanwhile. Raises OSError."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = f"{path}.{os.getpid()}.new"
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _version() -> bytes:
    """The four bytes that name us and our version to other nodes."""
    major, minor = __version__.split(".")[:2]
    return b"bf" + bytes([int(major) & 255, int(minor) & 255])
