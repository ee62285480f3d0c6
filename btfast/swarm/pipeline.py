"""How many requests may be outstanding to one peer.

The right number is what the path holds, bandwidth x round trip, and some more; too few leaves the link idle, too many
holds memory and makes the end of a download long. Neither figure can be read off directly: with more requests than the
path holds the rest waits in the peer's queue, and a request then takes longer than a round trip. So, as in BBR:

- the rate is the highest seen over the last seconds, each sample measured over a round trip or more;
- the round trip is the shortest seen over the last seconds, from a tagged request to its block. The first request
  sees an empty queue. When no sample has come near the shortest one for a window, the depth is cut for two round
  trips, so that the queue empties and a sample shows the path again;
- start-up adds two requests for each block that comes (three times as many each round trip), until the rate has
  stopped growing for three samples;
- then depth = 1.5 x rate x round trip + 20 ms of rate + a few, and never more than drains in 3 s, nor above reqq.
"""

from __future__ import annotations

from btfast.metainfo.geometry import BLOCK

GAIN = 1.5
SLACK = 0.02  # seconds of rate that a peer may need to schedule
STARTUP_GROWTH = 2  # more requests for each block that comes
STARTUP_AHEAD = 4.0  # times what the path was seen to hold
STARTUP_STRIKES = 3  # samples that did not grow before start-up ends
DRAIN = 3.0  # seconds that the queue of a slow peer may take to empty
WINDOW = 6.0  # seconds over which the highest rate and the shortest round trip hold
SAMPLE = 0.05  # shortest rate sample, seconds
SNUB_AFTER = 15.0  # seconds; a busy client may reject only after several (protocol pitfall: Transmission)
UNKNOWN_RATE = 65536.0  # bytes/s assumed of a peer that has not delivered yet
_CHUNK = 16  # blocks; being short of the depth by less than this does not count
_BATCH = 64  # blocks; room below it is not handed out while there is much outstanding: a request costs a system call


class Pipeline:
    """The request window of one peer. Times are seconds of one monotonic clock, amounts are blocks of 16 KiB."""

    __slots__ = (
        "_best",
        "_best_before",
        "_depth",
        "_heard",
        "_limited",
        "_minimum",
        "_probe_end",
        "_rate",
        "_received",
        "_received_at_wake",
        "_reqq",
        "_reqq_said",
        "_rtt",
        "_rtt_next",
        "_sample_blocks",
        "_sample_start",
        "_silent",
        "_startup",
        "_startup_best",
        "_strikes",
        "_tag",
        "_tag_time",
        "_window_end",
        "outstanding",
    )  # fmt: skip

    outstanding: int

    def __init__(self, now: float, *, reqq: int = 250, start: int = 128, minimum: int = 4) -> None:
        self.outstanding = 0
        self._minimum = minimum
        self._reqq = self._reqq_said = reqq
        self._depth = float(start)
        self._heard = now
        self._received = 0
        self._received_at_wake = -1
        self._silent = False  # the last requests stayed without an answer
        self._tag = 0  # the tagged request is answered when this many blocks have come; 0: none is tagged
        self._tag_time = now
        self._rtt = 0.0  # 0: unknown
        self._rtt_next = 0.0  # shortest of this window
        self._rate = 0.0  # blocks a second, smoothed
        self._best = 0.0  # highest sample of this window
        self._best_before = 0.0  # and of the one before
        self._window_end = now + WINDOW
        self._probe_end = 0.0  # 0: no probe under way
        self._sample_start = -1.0  # below 0: starts with the next block
        self._sample_blocks = 0
        self._limited = False  # this sample shows what we asked for, not what the peer can do
        self._startup = True
        self._startup_best = 0.0
        self._strikes = 0

    def set_reqq(self, reqq: int) -> None:
        """The peer's own limit (BEP 10). Transmission answers one request fewer than it says."""
        self._reqq = self._reqq_said = max(reqq - 1, 1)

    def handle_requested(self, now: float, blocks: int) -> None:
        """`blocks` requests were sent."""
        if self.outstanding == 0:
            self._wake(now)
        if not self._tag:
            self._tag = self._received + self.outstanding + 1
            self._tag_time = now
        self.outstanding += blocks
        if self.outstanding + _CHUNK < self.depth(now):
            self._limited = True

    def handle_received(self, now: float, blocks: int) -> None:
        """`blocks` asked-for blocks came."""
        self.outstanding = max(self.outstanding - blocks, 0)
        self._received += blocks
        self._heard = now
        self._silent = False
        if self._tag and self._received >= self._tag:
            self._tag = 0
            self._learn_rtt(now - self._tag_time)
        if self._startup:
            self._depth = min(self._depth + STARTUP_GROWTH * blocks, float(self._reqq))
        if self._sample_start < 0:
            self._sample_start = now
            self._sample_blocks = 0
            return
        self._sample_blocks += blocks
        elapsed = now - self._sample_start
        if elapsed >= SAMPLE and elapsed >= self._rtt and (self._sample_blocks >= 8 or elapsed >= 0.5):
            self._close_sample(now, self._sample_blocks / elapsed, elapsed)
        if self.outstanding == 0:
            self._sample_start = -1.0

    def handle_returned(self, blocks: int) -> None:
        """`blocks` requests will not be answered: choked, rejected, cancelled, given back."""
        self.outstanding = max(self.outstanding - blocks, 0)
        self._tag = 0
        if self.outstanding == 0:
            self._sample_start = -1.0

    def handle_rejected(self, blocks: int) -> None:
        """`blocks` requests were rejected although we are not choked: the peer's queue is shorter than it said.

        For rejects that follow a choke, handle_returned is right.
        """
        self.handle_returned(blocks)
        self._reqq = max(min(self._reqq, self.outstanding), self._minimum)

    def depth(self, now: float) -> int:
        """Requests that may be outstanding."""
        if self._silent:
            return 1
        if self.snubbed(now):
            return min(self._minimum, self._reqq)
        depth = self._depth
        if self._probe_end:
            depth *= 0.6
        return max(min(int(depth), self._reqq), min(self._minimum, self._reqq))

    def room(self, now: float) -> int:
        """Requests to send now: depth less outstanding, but 0 for crumbs while there is enough outstanding."""
        depth = self.depth(now)
        room = depth - self.outstanding
        if room >= min(depth >> 2, _BATCH) or self.outstanding <= depth >> 3:
            return max(room, 0)
        return 0

    @property
    def rate(self) -> float:
        """Smoothed bytes a second, as of the last block."""
        return self._rate * BLOCK

    @property
    def rtt(self) -> float:
        """Seconds from a request to its block when nothing waits before it; 0 while unknown."""
        return self._rtt

    def pace(self, now: float) -> float:
        """Bytes a second to expect: the rate, less when requests have been waiting for longer than they should.

        0 for a peer that left its last requests unanswered.
        """
        if self._silent:
            return 0.0
        # A peer that has just been asked for the first time is given the benefit of the doubt for a second or so.
        rate = self.rate or max(UNKNOWN_RATE, float(self.outstanding * BLOCK))
        if not self.outstanding:
            return rate
        idle = now - self._heard
        patience = self._patience()
        return rate if idle <= patience else rate * patience / idle

    def wait(self, now: float) -> float:
        """Seconds before the next block: the round trip when nothing is outstanding; for a peer that has stopped, as
        long again as it has been silent.
        """
        if not self.outstanding:
            return self._rtt
        idle = now - self._heard
        return idle if idle > self._patience() else 0.0

    def _patience(self) -> float:
        """Seconds of silence that are nothing unusual."""
        if not self._rate:
            return 1.0
        return 2 * self._rtt + max(0.1, 4 / self._rate)

    def snubbed(self, now: float) -> bool:
        """Requests are waiting and nothing has come for a long time."""
        idle = now - self._heard
        return self.outstanding > 0 and idle > SNUB_AFTER and (idle * self._rate > 3 or not self._rate)

    def surplus(self, now: float, *, tight: bool = False) -> int:
        """Requests to give back, newest first, because the peer would take too long for them.

        With `tight`, when other peers get nothing because memory is short, everything above the depth.
        """
        if self._received == 0 and now - self._heard < 5.0:
            return 0
        if self._startup and self._rate == 0.0:
            return 0
        keep = max(int(DRAIN * self.pace(now) / BLOCK), self._minimum)
        if tight:
            keep = min(keep, self.depth(now))
        surplus = self.outstanding - keep
        return surplus if surplus > max(keep >> 2, 4) else 0

    def _wake(self, now: float) -> None:
        """The pipeline was empty: what was learned before still holds, the time in between does not count."""
        idle = now - self._heard
        self._silent = self._silent or (idle > SNUB_AFTER / 2 and self._received == self._received_at_wake)
        self._received_at_wake = self._received
        self._heard = now
        self._sample_start = -1.0
        self._tag = 0
        self._limited = False
        if idle > 1.0:
            self._window_end += idle

    def _learn_rtt(self, sample: float) -> None:
        if not self._rtt or sample < self._rtt:
            self._rtt = sample
        if not self._rtt_next or sample < self._rtt_next:
            self._rtt_next = sample

    def _close_sample(self, now: float, rate: float, elapsed: float) -> None:
        # Having been given less than was asked for says nothing while more than the path holds is outstanding.
        limited = self._limited and self.outstanding < rate * self._rtt * GAIN
        self._sample_start = now
        self._sample_blocks = 0
        self._limited = False
        self._rate = rate if not self._rate else self._rate + (rate - self._rate) * elapsed / (elapsed + 0.5)
        self._best = max(self._best, rate)
        if now >= self._window_end:
            self._turn_window(now)
        if self._startup:
            # One round trip of growth ahead of what was measured, and no more: a slow peer shows itself at once.
            ceiling = STARTUP_AHEAD * rate * self._rtt + _CHUNK
            self._depth = min(self._depth, max(min(ceiling, DRAIN * rate), float(self._minimum)))
            if rate > self._startup_best * 1.25:
                self._startup_best = rate
                self._strikes = 0
                return
            if limited:
                return
            self._strikes += 1
            if self._strikes < STARTUP_STRIKES:
                return
            self._startup = False
        best = max(self._best, self._best_before)
        depth = best * (GAIN * self._rtt + SLACK) + self._minimum
        self._depth = min(depth, max(self._rate * DRAIN, float(self._minimum)))

    def _turn_window(self, now: float) -> None:
        if self._probe_end:
            if now < self._probe_end:
                return
            self._probe_end = 0.0
        elif self._rtt_next > self._rtt * 1.1 and not self._startup:
            self._probe_end = now + 2 * self._rtt_next + SAMPLE
            return
        self._rtt = self._rtt_next or self._rtt
        self._rtt_next = 0.0
        self._best_before = self._best
        self._best = 0.0
        self._window_end = now + WINDOW
        self._reqq = min(self._reqq + (self._reqq >> 2) + 1, self._reqq_said)
