"""Addresses of one source that were never dialed: who is next, when some of those who named them lie.

Who names peers takes turns with the others, so that a long list has no more weight than a short one; who named many
and never a good one comes last. Of what one names, the canonical priority (BEP 40) decides, then the order of arrival.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Protocol

TRIES = 10  # addresses of one namer that were dialed before its record counts
SENDERS = 1000  # whose record is kept


class Entry(Protocol):
    """A known address; a ticket that is not the entry's any more is void."""

    ticket: int
    sender: str


class _Sender:
    __slots__ = ("good", "queue", "tried", "waiting")

    def __init__(self) -> None:
        self.queue: list[tuple[int, int, Entry]] = []
        self.waiting = 0
        self.tried = 0
        self.good = 0

    @property
    def doubtful(self) -> bool:
        return self.tried >= TRIES and not self.good


class Fresh:
    """`add` puts an entry in, `pop` takes the next one, `forget` says that one in it is void."""

    __slots__ = ("_senders", "_turns")

    def __init__(self) -> None:
        self._senders: dict[str, _Sender] = {}
        self._turns: dict[str, None] = {}  # those with something waiting, next one first

    def __len__(self) -> int:
        return sum(self._senders[name].waiting for name in self._turns)

    def add(self, entry: Entry, priority: int) -> None:
        sender = self._sender(entry.sender)
        heappush(sender.queue, (-priority, entry.ticket, entry))
        sender.waiting += 1
        self._turns.setdefault(entry.sender)

    def waiting(self, name: str) -> int:
        """How many that `name` named were not dialed yet."""
        sender = self._senders.get(name)
        return sender.waiting if sender is not None else 0

    def handle_tried(self, name: str, *, good: bool) -> None:
        """One that `name` named was dialed; `good`: it proved to be a peer."""
        sender = self._sender(name)
        sender.good += good
        sender.tried += not good

    def pop(self) -> Entry | None:
        for doubtful in (False, True):
            for name in list(self._turns):
                sender = self._senders[name]
                if sender.doubtful is doubtful and (entry := self._take(name, sender)) is not None:
                    return entry
        return None

    def longest(self) -> tuple[str, int]:
        """Who has most waiting, and how many; who is doubtful counts as longer than all that are not."""
        name = max(self._turns, key=lambda one: (self._senders[one].doubtful, self._senders[one].waiting), default="")
        return name, self.waiting(name)

    def worst(self, name: str) -> Entry | None:
        """The one of `name` that would be dialed last."""
        valid = [item for item in self._senders[name].queue if item[1] == item[2].ticket]
        return max(valid, key=lambda item: item[:2])[2] if valid else None

    def forget(self, entry: Entry) -> None:
        """It was in here, and its ticket is void from now on."""
        sender = self._senders[entry.sender]
        sender.waiting -= 1
        if not sender.waiting:
            sender.queue.clear()
            self._turns.pop(entry.sender, None)
        elif len(sender.queue) > 2 * sender.waiting + 8:
            sender.queue = [item for item in sender.queue if item[1] == item[2].ticket and item[2] is not entry]
            heapify(sender.queue)

    def _take(self, name: str, sender: _Sender) -> Entry | None:
        del self._turns[name]
        while sender.queue:
            _, ticket, entry = heappop(sender.queue)
            if ticket == entry.ticket:
                sender.waiting -= 1
                if sender.waiting:
                    self._turns[name] = None  # behind the others
                return entry
        return None

    def _sender(self, name: str) -> _Sender:
        sender = self._senders.get(name)
        if sender is None:
            if len(self._senders) >= SENDERS:
                self._forget_senders()
            sender = self._senders[name] = _Sender()
        return sender

    def _forget_senders(self) -> None:
        """Room for new ones: of those that nothing waits from, the older half."""
        idle = [name for name, sender in self._senders.items() if not sender.waiting]
        for name in idle[: max(1, len(idle) // 2)]:
            del self._senders[name]
