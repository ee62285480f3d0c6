"""Who of a torrent's connected peers has been told to whom (BEP 11), so that each message says what is new.

Every address has a slot, and a set of addresses is the bits of one int: what is new to a peer is `live & ~told`, what
has gone is `told & ~live`, however many peers there are. A slot is free again when nobody has to be told that its
address has gone.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

from btfast.discovery.pex import MINUTE, SEED, Added, encode_pex
from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.reach import Reach, is_link_local, reach_of

RECHECK: Final = 5.0  # seconds until a peer that nothing was new for is looked at again
FIRST: Final = 200  # addresses in a peer's first message
LATER: Final = 50  # added, and as many dropped, in each later one
LOWEST_PORT: Final = 1024  # below it are other services: nobody would take such an address from us
GATHER: Final = 30.0  # seconds between searches for slots that are free again


class _Listener:
    """A peer that wants to be told. `reach`: where it is; `told`: the slots that it knows from us."""

    __slots__ = ("reach", "seed", "started", "told")

    def __init__(self, reach: Reach, *, seed: bool) -> None:
        self.reach = reach
        self.seed = seed
        self.told = 0
        self.started = False


class PexBook:
    """Peers are named by their numbers; one may be told about, be a listener, both or neither."""

    def __init__(self) -> None:
        self._slots: dict[PeerAddress, int] = {}
        self._addresses: list[PeerAddress | None] = []
        self._flags: list[int] = []
        self._free: list[int] = []
        self._peers: dict[int, int] = {}  # the slots of connected peers
        self._live = 0
        self._seeds = 0
        self._gone = 0
        self._reach = [0, 0, 0]  # the slots that a listener of this reach can do something with
        self._listeners: dict[int, _Listener] = {}
        self._due: list[tuple[float, int]] = []
        self._gather_at = 0.0

    def joined(self, number: int, address: PeerAddress, flags: int) -> None:
        """A peer is connected and accepts connections at `address`; said again, its flags may have changed."""
        slot = self._peers.get(number)
        if slot is None:
            reach = reach_of(address.host)
            if address.port < LOWEST_PORT or reach is Reach.NOWHERE or is_link_local(address.host):
                return
            slot = self._slots.get(address)
            if slot is None:
                slot = self._slots[address] = self._new_slot(address, reach)
            elif self._live >> slot & 1:
                return  # another connection has it
            self._peers[number] = slot
            self._live |= 1 << slot
            self._gone &= ~(1 << slot)
        self._flags[slot] = flags
        self._seeds = self._seeds | 1 << slot if flags & SEED else self._seeds & ~(1 << slot)

    def listens(self, number: int, host: str, now: float, *, seed: bool) -> None:
        """A connected peer at `host` wants to be told; a `seed` not about other seeds."""
        listener = self._listeners.get(number)
        if listener is None:
            listener = self._listeners[number] = _Listener(reach_of(host), seed=seed)
            heappush(self._due, (now, number))
        listener.seed = seed

    def left(self, number: int) -> None:
        """A peer is not connected any more."""
        self._listeners.pop(number, None)
        slot = self._peers.pop(number, None)
        if slot is not None:
            self._live &= ~(1 << slot)
            self._gone |= 1 << slot

    def poll(self, now: float) -> list[tuple[int, bytes]]:
        """The messages to send now, with the numbers of their receivers."""
        messages = []
        while self._due and self._due[0][0] <= now:
            _, number = heappop(self._due)
            listener = self._listeners.get(number)
            if listener is None:
                continue
            body = self._message(number, listener)
            heappush(self._due, (now + (RECHECK if body is None else MINUTE), number))
            if body is not None:
                messages.append((number, body))
        if self._gone and now >= self._gather_at:
            self._gather_at = now + GATHER
            self._free_slots()
        return messages

    def _message(self, number: int, listener: _Listener) -> bytes | None:
        new = self._live & self._reach[listener.reach] & ~listener.told if listener.reach < 3 else 0
        own = self._peers.get(number)
        if own is not None:
            new &= ~(1 << own)
        if listener.seed:
            new &= ~self._seeds
        start = number * LATER % max(1, len(self._addresses))  # not everybody hears of the same ones first
        added = _bits(new, LATER if listener.started else FIRST, start)
        dropped = _bits(listener.told & ~self._live, LATER, 0)
        if not added and not dropped:
            return None
        listener.started = True
        for slot in added:
            listener.told |= 1 << slot
        for slot in dropped:
            listener.told &= ~(1 << slot)
        return encode_pex(
            [Added(self._address(slot), self._flags[slot]) for slot in added], [self._address(slot) for slot in dropped]
        )

    def _address(self, slot: int) -> PeerAddress:
        address = self._addresses[slot]
        assert address is not None
        return address

    def _new_slot(self, address: PeerAddress, reach: Reach) -> int:
        if self._free:
            slot = self._free.pop()
        else:
            slot = len(self._addresses)
            self._addresses.append(None)
            self._flags.append(0)
        self._addresses[slot] = address
        for listener in range(len(self._reach)):
            if listener <= reach:
                self._reach[listener] |= 1 << slot
            else:
                self._reach[listener] &= ~(1 << slot)
        return slot

    def _free_slots(self) -> None:
        told = 0
        for listener in self._listeners.values():
            told |= listener.told
        free = self._gone & ~told
        self._gone &= ~free
        for slot in _bits(free, len(self._addresses), 0):
            del self._slots[self._address(slot)]
            self._addresses[slot] = None
            self._free.append(slot)


def _bits(mask: int, most: int, start: int) -> list[int]:
    """At most `most` of the bits set, those from `start` on first."""
    found: list[int] = []
    upper = mask >> start << start
    for part in (upper, mask ^ upper):
        while part and len(found) < most:
            low = part & -part
            found.append(low.bit_length() - 1)
            part ^= low
    return found
