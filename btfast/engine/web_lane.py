"""One lane of a web seed: ranges that are asked for one after the other over one connection at a time.

A range is a request for each file that it touches; requests go out before the last answer is there once the server has
shown that it keeps connections open. Where a file was redirected to another host the lane moves there. What the server
says about files (not there, another size, moved) goes to the seed; what it fails to deliver goes back to the picker.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from btfast.engine.context import Context
from btfast.engine.http_hosts import Host, may_go
from btfast.engine.throttle import Line
from btfast.engine.web_answers import Ask, Verdict, Verdicts
from btfast.engine.web_connection import WebConnection
from btfast.engine.web_hosts import WebHosts
from btfast.errors import InputError, RemoteError
from btfast.metainfo.geometry import BLOCK
from btfast.metainfo.reach import Reach
from btfast.swarm.blocks import BlockRun
from btfast.swarm.web_range import Landed, Landing, Mode, WebRange
from btfast.swarm.web_seed import LONG_WAY, WebSeed
from btfast.wire.http import UNKNOWN, Head

PIPELINED = 16  # requests that wait for their answers
AHEAD = 1 << 20  # bytes that are asked for before the last answer has ended
FAR_AHEAD = 8 << 20  # the same on a long way, where they are what the link holds
SILENT = 30.0  # seconds without a whole block
SMALL = 64 << 10  # bytes of an answer that is of no use, and is yet read so that the connection can be kept
CHEAPER = 256 << 10  # bytes that nobody wants any more, above which a new connection costs less than reading them


class Owner(Protocol):
    """The web seeds of the torrent."""

    def next_ranges(self, seed: WebSeed, at: int = -1, block: int = -1) -> list[WebRange]: ...

    def next_block(self, index: int, block: int) -> int:
        """The next block of a piece under way, from `block` on, that has not come and that nobody is asked for; or -1."""

    def room_for(self, landing: Landing) -> memoryview: ...

    def landed(self, seed: WebSeed, landed: Landed) -> None: ...

    def wasted(self, count: int) -> None: ...

    def returned(self, seed: WebSeed, runs: list[BlockRun]) -> None: ...

    def starving(self, seed: WebSeed) -> bool:
        """The last `next_ranges` was in vain because memory is short."""

    def may_reach(self, seed: WebSeed, reach: Reach, url: str) -> str:
        """Why a server so near must not be asked for this URL, which the seed led to; "" when it may."""

    def changed(self, seed: WebSeed) -> None:
        """It has lost a file or more, or is gone."""


class Lane:
    """Works until `close`."""

    def __init__(
        self, context: Context, hosts: WebHosts, seed: WebSeed, verdicts: Verdicts, owner: Owner, line: Line | None
    ) -> None:
        self._context = context
        self._line = line
        self._hosts = hosts
        self._owner = owner
        self._verdicts = verdicts
        self.seed = seed
        self._asks: deque[Ask] = deque()
        self._flying = 0  # of the asks, those that were sent
        self._host: Host | None = None  # whose place we hold
        self._connection: WebConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._skip = 0  # bytes of the answer in front of those that were asked for
        self._passed = 0  # bytes that were skipped since the last block's worth of them
        self._ignoring = False  # the answer's body is of no use
        self._body = bytearray()  # of a short answer that is looked at when it is whole
        self._busy: Verdict | None = None
        self._reading = False  # the answer to the first ask is on its way
        self._whole = False  # it is the whole file, and goes on behind what was asked for
        self._kept = b""  # of it, what came while there was no room
        self._ended = False  # nothing comes behind that
        self._progress_at = context.loop.time()
        self._sent_at = 0.0  # when a request went out that had none before it, until it is answered
        self.closed = False
        self.waiting = False  # for a place at the host

    @property
    def idle(self) -> bool:
        """Nothing is asked."""
        return not self._asks

    def give_way(self) -> None:
        """web_hosts.Holder: nothing is asked, and another lane has need of the place."""
        self._disconnect()

    # asking

    def fill(self, now: float) -> None:
        """Asks for as much as is good."""
        seed = self.seed
        while not self.closed and seed.ready(now) and self._wants_more():
            ranges = self._owner.next_ranges(seed)
            if not ranges:
                if self._owner.starving(seed) and not self._asks:
                    self._context.wait_for_room(self, self._retry)
                break
            for one in ranges:
                self._asks.extend(self._asks_of(one))
        self._send()

    def _asks_of(self, one: WebRange) -> list[Ask]:
        lead, asks = self._verdicts.asks_of(self.seed, one)
        self._zero(one, lead)
        return asks

    def _retry(self) -> bool:
        if self.closed:
            return True
        if self._kept or (self._whole and self._asks):
            return self._go_on_whole()
        if not self.seed.ready(self._context.loop.time()):
            return True
        self.fill(self._context.loop.time())
        return bool(self._asks) or not self._owner.starving(self.seed)

    def _wants_more(self) -> bool:
        if not self._asks:
            return True
        if not self.seed.pipelines or not self.seed.ranges or len(self._asks) >= PIPELINED:
            return False
        return sum(ask.left for ask in self._asks) < self._ahead

    @property
    def _ahead(self) -> int:
        return FAR_AHEAD if self.seed.latency > LONG_WAY else AHEAD

    def _send(self) -> None:
        if self.closed or self._connecting is not None or not self._asks:
            return
        most = PIPELINED if self.seed.pipelines else 1
        while self._flying < min(most, len(self._asks)):
            ask = self._asks[self._flying]
            chosen = self._verdicts.locate(self.seed, ask)
            try:
                host, target = self._hosts.locate(ask.url, "web seed")
            except InputError as error:
                self._give_up(str(error).removeprefix("web seed: "))
                return
            connection = self._connection
            led = connection is not None and may_go(ask.before, connection.reach, host.port)
            if connection is None or host is not self._host or not connection.keeps or not led:
                if not self._flying:
                    self._connect(host, ask.before)
                return
            refused = self._owner.may_reach(self.seed, connection.reach, chosen)
            if refused:
                self.seed.drop(refused)
                self._give_up(refused)
                return
            if not self._flying:
                self._progress_at = self._sent_at = self._context.loop.time()
            part = self._verdicts.headers(self.seed, ask)
            connection.send(
                f"GET {host.origin}{target}{host.head}Accept-Encoding: identity\r\n{part}\r\n".encode("ascii")
            )
            self._flying += 1

    def _connect(self, host: Host, before: Reach | None) -> None:
        self._disconnect()
        self.waiting = not self._hosts.enter(host, self)
        if self.waiting:
            return
        self._host = host
        self._connecting = self._context.loop.create_task(self._reach(host, before))

    async def _reach(self, host: Host, before: Reach | None) -> None:
        try:
            connection = await self._hosts.connect(
                host, before, lambda: WebConnection(self._context.loop, self, self._line)
            )
        except RemoteError as error:
            self._connecting = None
            self._give_up(str(error))
            return
        self._connecting = None
        if self._host is host:
            self._connection = connection
        else:  # what it was for is not wanted any more, and the place was left
            connection.abort()
        self._send()

    # web_connection.Owner

    def handle_head(self, head: Head) -> None:
        self._skip = self._passed = 0
        self._ignoring = self._whole = self._ended = False
        self._busy = None
        self._body.clear()
        if not self._flying:
            self._give_up("sends answers that nobody asked for")
            return
        ask = self._asks[0]
        self._reading = True
        if self._sent_at:
            self.seed.handle_answered(self._context.loop.time() - self._sent_at)
            self._sent_at = 0.0
        if not head.keeps:
            self.seed.handle_kept(kept=False)
        reach = self._connection.reach if self._connection is not None else Reach.PUBLIC
        verdict = self._verdicts.of(self.seed, ask, head, self._context.loop.time(), reach)
        if verdict.accepted:
            self._skip, self._whole = verdict.skip, verdict.whole
            if verdict.length != UNKNOWN:
                ask.expected = verdict.length
            return
        self._ignoring = True
        if verdict.body:
            self._busy = verdict
        if verdict.lost:
            self._owner.changed(self.seed)
        keepable = head.keeps and head.length != UNKNOWN and head.length <= SMALL and not verdict.failed
        if not keepable and not verdict.body and not self.closed:
            self._drop_asks(resend=verdict.moved, why=verdict.why)

    def place(self, most: int) -> memoryview | None:
        if self._ignoring or self._skip or not self._reading or self._kept:
            return None
        ask = self._asks[0]
        if not ask.left:
            return None
        landing = ask.range.next()
        if landing.mode is not Mode.DIRECT:
            return None
        return self._owner.room_for(landing)[: min(most, ask.left)]

    def handle_placed(self, count: int) -> None:
        self._took(self._asks[0], count, None)

    def handle_body(self, data: memoryview) -> None:
        if self._ignoring:
            if self._busy is not None:
                self._body += data[: 64 - len(self._body)]
            return
        while len(data) and self._connection is not None and self._reading:
            if self._skip:
                data = data[self._pass_over(len(data)) :]
                continue
            ask = self._asks[0]
            if not ask.left:
                if not self._whole:
                    self._fail_strangely("sends more than was asked for")
                    return
                if not self._extend():
                    self._kept += bytes(data)
                    return
                continue
            landing = ask.range.next()
            count = min(len(data), landing.length, ask.left)
            if landing.mode is Mode.DIRECT:
                room = self._owner.room_for(landing)
                count = min(count, len(room))
                room[:count] = data[:count]
            self._took(ask, count, data[:count])
            data = data[count:]

    def _pass_over(self, count: int) -> int:
        """Of so many bytes, how many lie in front of those that were asked for; a block's worth of them is progress."""
        passed = min(self._skip, count)
        self._skip -= passed
        self._owner.wasted(passed)
        self._passed += passed
        if self._passed >= BLOCK:
            self._passed %= BLOCK
            self._progress_at = self._context.loop.time()
        return passed

    def handle_end(self) -> None:
        """An answer is whole."""
        if self._busy is not None:
            busy, self._busy = self._busy, None
            self._verdicts.busy(self.seed, self._asks[0], busy, bytes(self._body), self._context.loop.time())
            self._drop_asks(resend=False, why=busy.why)
            self._owner.changed(self.seed)
            return
        if self._kept:
            self._ended = True  # what came is still to be looked at; `_go_on_whole` ends it
            return
        self._finish_answer()

    def _finish_answer(self) -> None:
        self._reading = self._whole = False
        self._flying -= 1
        if self._ignoring:
            ask = self._asks[0]
            if ask.again:
                ask.again = False
                if self._flying:
                    self._disconnect()
            else:
                self._remove_range(ask)
        else:
            ask = self._asks[0]
            if ask.left:
                if ask.expected:
                    self._fail_strangely("sends less than it said")
                    return
                if not ask.came:
                    self._fail_strangely("sends an empty answer")
                    return
                ask.came = 0  # a part of what was asked for is a right answer: the rest is asked for again
                if self._flying:
                    self._disconnect()
            else:
                self._asks.popleft()
            if self._connection is not None and self._connection.keeps:
                self.seed.handle_kept(kept=True)
        if self._connection is not None and not self._connection.keeps:
            self._disconnect()
        self.fill(self._context.loop.time())

    def _zero(self, one: WebRange, length: int) -> None:
        """Zeros of pad files need no answer."""
        zeros = memoryview(bytes(min(length, 1 << 16)))
        while length:
            landing = one.next()
            count = min(landing.length, length, len(zeros))
            if landing.mode is Mode.DIRECT:
                room = self._owner.room_for(landing)
                count = min(count, len(room))
                room[:count] = zeros[:count]
            self._landed(one.took(count, zeros[:count]))
            length -= count

    def handle_lost(self, why: str) -> None:
        connection, self._connection = self._connection, None
        self._leave_host()
        if self.closed or not self._flying:
            return
        if not why and not self._reading and (self._flying > 1 or (connection is not None and connection.answered)):
            # It closed a connection between two answers, as servers may: the others are asked for again.
            if self._flying > 1:
                self.seed.handle_kept(kept=False)
            self._flying = 0
            self._send()
            return
        if self._flying > 1:
            self.seed.handle_kept(kept=False)
        self._give_up(why or "closed the connection without an answer")

    # what comes

    def _took(self, ask: Ask, count: int, data: memoryview | None) -> None:
        ask.first += count
        ask.left -= count
        ask.came += count
        if ask.expected:
            ask.expected -= count
        self._landed(ask.range.took(count, data))
        if not ask.left and ask.zeros:
            self._zero(ask.range, ask.zeros)
        if len(self._asks) == 1 and ask.left < self._ahead and self.seed.pipelines:
            self.fill(self._context.loop.time())

    def _landed(self, landed: Landed | None) -> None:
        if landed is not None:
            self._progress_at = self._context.loop.time()
            self._owner.landed(self.seed, landed)

    def _extend(self) -> bool:
        """The whole file is coming, and goes on: takes what follows as well, or skips it. False when there is no room now."""
        ask = self._asks[0]
        more = self._verdicts.following(ask, self._owner.next_block)
        if more.nothing:
            self._drop_asks(resend=False, why="")
            return True
        if more.skip:
            self._skip = more.skip
            ask.first += more.skip
            return True
        ranges = self._owner.next_ranges(self.seed, more.piece, more.block)
        if not ranges:
            if self._owner.starving(self.seed):
                if self._connection is not None:
                    self._connection.hold(True)
                self._context.wait_for_room(self, self._retry)
                return False
            self._skip = more.bytes
            ask.first += more.bytes
            return True
        asks = [ask for one in ranges for ask in self._asks_of(one)]  # several where files begin with a piece (BEP 52)
        self._asks.popleft()
        self._asks.extendleft(reversed(asks))
        self._asks[0].expected = 0
        return True

    def _go_on_whole(self) -> bool:
        """There may be room again for what came meanwhile."""
        kept, self._kept = self._kept, b""
        self._progress_at = self._context.loop.time()  # it was we who did not read
        if self._connection is None:
            return True
        self.handle_body(memoryview(kept))
        if self._kept or self._connection is None:
            return not self._kept
        self._connection.hold(False)
        if self._ended and self._reading:
            self._ended = False
            self._finish_answer()
        return True

    # endings

    def cancel(self, run: BlockRun) -> None:
        """Somebody else sent these blocks."""
        ranges = {id(ask.range): ask.range for ask in self._asks}.values()
        if not sum(one.cancel(run) for one in ranges):
            return
        if all(one.useless for one in ranges) and sum(ask.left for ask in self._asks) > CHEAPER:
            self._drop_asks(resend=False, why="")

    def tick(self, now: float) -> None:
        """Once a second."""
        limit = min(SILENT, self._context.settings.peer_timeout)
        if self._flying and not self._kept and now - self._progress_at > limit:
            self._give_up(f"sent nothing of use for {limit:g} s")

    def close(self) -> None:
        """Nothing more comes of it."""
        self.closed = True
        self._context.starved.pop(self, None)
        self._drop_asks(resend=False, why="")
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
            self._leave_host()

    def _fail_strangely(self, why: str) -> None:
        self.seed.handle_strange(self._context.loop.time(), why)
        self._drop_asks(resend=False, why=why)
        self._owner.changed(self.seed)

    def _give_up(self, why: str) -> None:
        """The connection failed: what it was asked for goes back."""
        self.seed.handle_failure(self._context.loop.time(), why)
        self._drop_asks(resend=False, why=why)
        self._owner.changed(self.seed)

    def _remove_range(self, ask: Ask) -> None:
        """Of this range nothing more is asked, and what was sent for is resent by those that follow."""
        one = ask.range
        self._owner.returned(self.seed, one.left())
        flying = [other for number, other in enumerate(self._asks) if number and number <= self._flying]
        if any(other.range is one for other in flying):
            # Answers to it are on their way: a new connection is the way to be rid of them.
            self._disconnect()
        self._asks = deque(other for other in self._asks if other.range is not one)
        self._flying = min(self._flying, len(self._asks)) if self._connection is not None else 0

    def _drop_asks(self, *, resend: bool, why: str) -> None:
        self._disconnect()
        self._reading = self._whole = self._ignoring = self._ended = False
        self._kept = b""
        self._busy = None
        self._flying = 0
        if resend:
            self._send()
            return
        asks, self._asks = self._asks, deque()
        for one in {id(ask.range): ask.range for ask in asks}.values():
            self._owner.returned(self.seed, one.left())

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        self._flying = 0
        self._leave_host()

    def _leave_host(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            self._hosts.leave(host, self)
