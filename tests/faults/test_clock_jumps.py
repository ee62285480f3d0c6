"""Clocks that jump while a download runs: the wall clock by a day each way, and all clocks while everything stands still."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import Outcome, Running, get, run, running
from support.scripted_peer import ScriptedPeer
from support.scripted_tracker import ScriptedTracker
from support.torrents import assert_arrived, make
from support.wall_clock import WallClock

from btfast.wire import ids

NODE = ("--bind", "127.0.0.1", "--port", "0", "--json")
DAY = 86_400.0
SHORT = 1.0  # seconds without data after which the item of a stopped download would be given up
STOPPED = 6.0  # seconds that everything stands still, which is long for all that is measured in seconds


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[WallClock]:
    clock = WallClock(tmp_path)
    yield clock
    clock.close()


class Swarm:
    """One peer that gives 3 MB/s, and a tracker that names it."""

    def __init__(self, root: Path, peer: ScriptedPeer, tracker: ScriptedTracker) -> None:
        self.root, self.peer, self.tracker = root, peer, tracker
        self.made = peer.made

    def words(self, *more: str) -> list[str | Path]:
        return get(self.made.save(self.root), *more, trackers=True)

    def more_blocks(self, command: Running) -> None:
        """The download goes on."""
        before = self.peer.blocks_sent
        command.until(lambda: self.peer.blocks_sent > before + 40, "more blocks come")

    def went_well(self, done: Outcome, *, again: int = 0) -> None:
        """Nobody was banned or left, nothing asked for twice but `again` blocks, and the tracker was told each event once."""
        assert (done.code, done.err) == (0, "")
        assert_arrived(self.made, self.root / "out")
        assert done.all("piece_failed") == []
        assert [event["change"] for event in done.all("peer")] == ["connected", "disconnected"]
        assert len(self.peer.links) == 1
        blocks = -(-len(self.made.data) // 16384)
        assert blocks <= self.peer.links[0].count(ids.REQUEST) <= blocks + again
        assert self.tracker.events() == ["started", "completed", "stopped"]


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with contextlib.ExitStack() as stack:
        tracker = ScriptedTracker(lambda exchange: exchange.peers(peer.address, interval=60))
        stack.enter_context(tracker)
        made = make(6_000_001, announce=[[tracker.url]])
        peer = stack.enter_context(ScriptedPeer(made, rate=3_000_000))
        yield Swarm(tmp_path, peer, tracker)


def test_a_wall_clock_that_is_set_a_day_forward_and_back_disturbs_no_download(swarm: Swarm, clock: WallClock) -> None:
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(running(swarm.root, "dht", *NODE, variables=clock.environment))
        assert node.process.stdout is not None
        (address,) = json.loads(node.process.stdout.readline())["addresses"]
        words = swarm.words("--no-lsd", "--dht-bootstrap", address)
        command = stack.enter_context(running(swarm.root, *words, variables=clock.environment))
        for ahead in (DAY, -DAY, 0.0, 400 * DAY):
            swarm.more_blocks(command)
            clock.set(ahead)
        swarm.went_well(command.end())
        found = run(swarm.root, "dht", "get-peers", swarm.made.info_hash.hex(), *NODE, "--dht-bootstrap", address)
        assert json.loads(found.out)["answers"] == 1
    assert clock.asked > 0


def test_what_was_recorded_holds_whatever_the_wall_clock_says_later(swarm: Swarm, clock: WallClock) -> None:
    clock.set(DAY)
    with running(swarm.root, *swarm.words("--no-dht", "--no-lsd"), variables=clock.environment) as command:
        swarm.more_blocks(command)
        swarm.more_blocks(command)
        clock.set(-DAY)
        command.signal(signal.SIGINT)
        assert command.end().code == 7
    before = swarm.peer.blocks_sent
    done = run(swarm.root, *swarm.words("--no-dht", "--no-lsd"), variables=clock.environment)
    assert (done.code, done.err) == (0, "")
    assert_arrived(swarm.made, swarm.root / "out")
    assert done.one("complete")["downloaded"] < len(swarm.made.data) - 16384 * (before - 10)


def test_a_download_goes_on_after_everything_has_stood_still(swarm: Swarm) -> None:
    with running(swarm.root, *swarm.words("--no-dht", "--no-lsd", "--peer-timeout", str(SHORT))) as command:
        for _ in range(2):
            swarm.more_blocks(command)
            tree = [*command.family, command.process]
            for process in tree:
                process.send_signal(signal.SIGSTOP)
            time.sleep(STOPPED)
            for process in tree:
                process.send_signal(signal.SIGCONT)
        swarm.went_well(command.end(), again=100)  # a peer that was silent for so long is asked once more
