"""The order of datagrams between us and one UDP tracker (BEP 15). No socket, no clock: `now` comes in, in seconds.

All torrents that ask one tracker share one of these, and with it the connection id, good for 60 s. At most `window`
requests are under way; the rest wait in order, events before periodic announces. A request that stays unanswered for
15 * 2^n seconds is sent again, with n growing up to 8; when the connection id has expired by then, a new one is asked
for first, at the same pace. How many times is up to who asks: a tracker schedule turns to another tracker meanwhile.
When a tracker turns out to be dead, those who wait for it fail with the one who found out.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple, Protocol

from btfast.discovery.udp_tracker import CONNECT, ERROR, HEADER, PROTOCOL_ID, REPLY

FIRST_WAIT = 15.0
MOST_TRIES = 9  # n from 0 to 8
CONNECTION_SECONDS = 60.0
WINDOW = 64
NO_ANSWER = -1


class Rng(Protocol):
    """What is needed of a random source: transaction ids must not be guessed by who cannot see our datagrams."""

    def getrandbits(self, k: int, /) -> int: ...


class Outcome(NamedTuple):
    """How a request ended. `action`: its own, ERROR, or NO_ANSWER; `body`: what followed the answer's header."""

    key: int
    action: int
    body: bytes


class _Request:
    __slots__ = ("action", "again", "began", "body", "gives_up_at", "key", "n", "patience", "renewed", "sent", "tid", "tries")

    def __init__(self, key: int, action: int, body: bytes, tries: int, patience: float | None) -> None:
        self.key = key
        self.action = action
        self.body = body
        self.tries = tries
        self.patience = patience
        self.tid = 0
        self.n = 0
        self.sent = False  # with the connection id that we have, or had
        self.renewed = False  # a tracker said once that it does not know the connection id
        self.began = 0.0
        self.again = -math.inf  # when to send it; infinite while a connection id is asked for
        self.gives_up_at = math.inf


class Exchanges:
    """One tracker at one address.

    `ask` and `handle_datagram` change what there is to do; after each, and at `next_deadline`, `poll` gives the
    datagrams to send, and `outcomes` what has ended.
    """

    def __init__(self, rng: Rng, *, window: int = WINDOW) -> None:
        self._rng = rng
        self._window = window
        self._urgent: deque[_Request] = deque()
        self._waiting: deque[_Request] = deque()
        self._active: dict[int, _Request] = {}  # by transaction id
        self._keys = 0
        self._ended: list[Outcome] = []
        self._connection = b""
        self._connected_until = -math.inf
        self._connecting: int | None = None  # the transaction id of the question for a connection id
        self._connect_sent = -math.inf
        self._heard = -math.inf
        self._earliest = math.inf  # nothing has to be done before
        self.ignored = 0  # datagrams that answer nothing that was asked

    @property
    def idle(self) -> bool:
        """Whether nothing is asked."""
        return not (self._active or self._waiting or self._urgent)

    def connected(self, now: float) -> bool:
        """Whether there is a connection id that may be used."""
        return now < self._connected_until

    def ask(
        self, action: int, body: bytes, *, tries: int = MOST_TRIES, urgent: bool = False, patience: float | None = None
    ) -> int:
        """A request to make; its `Outcome` will carry the key that is returned.

        `patience`: seconds from its turn on in which an answer is of use, where those are fewer than the tries take.
        """
        self._keys += 1
        request = _Request(self._keys, action, body, min(max(tries, 1), MOST_TRIES), patience)
        (self._urgent if urgent else self._waiting).append(request)
        return request.key

    def forget(self, key: int) -> None:
        """Nobody waits for this request any more."""
        for tid, request in self._active.items():
            if request.key == key:
                del self._active[tid]
                return
        for queue in (self._urgent, self._waiting):
            for request in queue:
                if request.key == key:
                    queue.remove(request)
                    return

    def poll(self, now: float) -> list[bytes]:
        """The datagrams to send now."""
        if now >= self._earliest:
            self._give_up(now)
        fresh = self._refill(now)
        if now >= self._earliest or (fresh and not self.connected(now)):
            return self._look_through(now)
        return [self._send(request, now) for request in fresh]

    def next_deadline(self) -> float | None:
        """When to poll again, if nothing happens before."""
        return self._earliest if self._active and self._earliest < math.inf else None

    def _look_through(self, now: float) -> list[bytes]:
        out: list[bytes] = []
        connected = self.connected(now)
        lacking = False
        for request in self._active.values():
            if request.again <= now:
                if request.sent:
                    request.n += 1
                    request.sent = False
                if connected:
                    out.append(self._send(request, now))
                else:
                    request.again = math.inf
            lacking = lacking or request.again == math.inf
        if lacking and now >= self._connect_again():
            if self._connecting is None:
                self._connecting = self._new_tid()
            else:
                for request in self._active.values():
                    request.n += request.again == math.inf
            self._connect_sent = now
            out.append(HEADER.pack(PROTOCOL_ID, CONNECT, self._connecting))
        elif not lacking:
            self._connecting = None
        self._earliest = self._connect_again() if self._connecting is not None else math.inf
        for request in self._active.values():
            self._earliest = min(self._earliest, request.again, request.gives_up_at)
        return out

    def _send(self, request: _Request, now: float) -> bytes:
        request.sent = True
        request.again = now + FIRST_WAIT * 2.0**request.n
        self._earliest = min(self._earliest, request.again, request.gives_up_at)
        return HEADER.pack(self._connection, request.action, request.tid) + request.body

    def handle_datagram(self, data: bytes, now: float) -> None:
        """Something came from the tracker's address; what does not answer a question is counted and ignored."""
        if len(data) < REPLY.size:
            self.ignored += 1
            return
        action, tid = REPLY.unpack_from(data)
        body = data[REPLY.size :]
        if tid == self._connecting:
            self._handle_connect(action, body, now)
            return
        request = self._active.get(tid)
        if request is None or not request.sent or action not in (request.action, ERROR):
            self.ignored += 1
            return
        self._heard = now
        if action == ERROR and not request.renewed and b"onnection" in body:
            # It was started anew, or forgets faster than we do: once, a new connection id is worth a try.
            request.renewed = True
            request.sent = False
            request.again = -math.inf
            self._connected_until = self._earliest = -math.inf
            return
        self._end(request, action, body)

    def outcomes(self) -> list[Outcome]:
        """What has ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def _handle_connect(self, action: int, body: bytes, now: float) -> None:
        if action == ERROR:
            self._heard = now
            for request in [request for request in self._active.values() if request.again == math.inf]:
                self._end(request, ERROR, body)
        elif action == CONNECT and len(body) >= 8:
            self._heard = now
            self._connecting = None
            self._connection = body[:8]
            self._connected_until = now + CONNECTION_SECONDS
            for request in self._active.values():
                if request.again == math.inf:
                    request.again = self._earliest = -math.inf
        else:
            self.ignored += 1

    def _connect_again(self) -> float:
        """When the question for a connection id may be sent (again): at the pace of the youngest who needs one."""
        if self._connecting is None:
            return -math.inf
        n = min((request.n for request in self._active.values() if request.again == math.inf), default=0)
        return self._connect_sent + FIRST_WAIT * 2.0**n

    def _give_up(self, now: float) -> None:
        for request in [request for request in self._active.values() if request.gives_up_at <= now]:
            dead = self._heard < request.began and request.patience is None  # one lost datagram is no proof
            self._end(request, NO_ANSWER, b"")
            if dead:
                for queue in (self._urgent, self._waiting):
                    while queue:
                        self._ended.append(Outcome(queue.popleft().key, NO_ANSWER, b""))

    def _refill(self, now: float) -> list[_Request]:
        """Takes as many as there is room for from those that wait."""
        fresh = []
        while len(self._active) < self._window and (self._urgent or self._waiting):
            request = (self._urgent or self._waiting).popleft()
            request.tid = self._new_tid()
            request.began = now
            wait = FIRST_WAIT * (2.0**request.tries - 1)
            request.gives_up_at = now + (wait if request.patience is None else min(request.patience, wait))
            self._active[request.tid] = request
            fresh.append(request)
        return fresh

    def _end(self, request: _Request, action: int, body: bytes) -> None:
        del self._active[request.tid]
        self._ended.append(Outcome(request.key, action, body))

    def _new_tid(self) -> int:
        while True:
            tid = self._rng.getrandbits(32)
            if tid not in self._active and tid != self._connecting:
                return tid
