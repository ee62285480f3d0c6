"""Processes that are killed at any moment: nothing verified is lost, nobody is left behind, the next run goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.commands import PATIENCE, PROMISED, Outcome, Running, alive, get, run, running
from support.scripted_peer import ScriptedPeer
from support.torrents import assert_arrived, make, some_written, tree

MADE = make(6_000_001)
SLOW = 400_000  # bytes a second: something is under way for ten seconds


@pytest.fixture
def peer() -> Iterator[ScriptedPeer]:
    with ScriptedPeer(MADE, holds=120) as found:
        yield found


@contextlib.contextmanager
def downloading(root: Path, peer: ScriptedPeer, *words: str, workers: int = 2, **options: object) -> Iterator[Running]:
    """A download of which some pieces have been written, and of which no more comes until the peer goes on."""
    command = get(MADE.save(root), *words, peers=(peer.address,), workers=workers)
    with running(root, *command, **options) as process:
        process.until(lambda: peer.blocks_sent == peer.holds, "a third of it has been sent")
        process.until(lambda: some_written(MADE, root / "out" / "data.bin.part"), "a piece is written")
        assert len(process.workers) == workers
        yield process


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def gone(processes: list[psutil.Process], within: float = PROMISED) -> bool:
    deadline = time.monotonic() + within
    while any(alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def goes_on(root: Path, peer: ScriptedPeer) -> None:
    """Another run fetches what is missing, and not more; nothing but the data is left."""
    peer.go_on()
    done = run(root, *get(MADE.save(root), peers=(peer.address,)))
    assert (done.code, done.err) == (0, "")
    assert_arrived(MADE, root / "out")
    assert 0 < done.one("complete")["downloaded"] < len(MADE.data)


def completed(done: Outcome, root: Path) -> None:
    assert (done.code, done.err) == (0, "")
    assert_arrived(MADE, root / "out")
    assert done.all("piece_failed") == []


# workers


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_worker_that_dies_is_replaced(
    tmp_path: Path, peer: ScriptedPeer, workers: int, number: signal.Signals
) -> None:
    with downloading(tmp_path, peer, workers=workers) as command:
        victim = command.workers[0]
        peer.go_on(SLOW)
        victim.send_signal(number)
        command.until(lambda: victim not in command.workers and len(command.workers) == workers, "it is replaced")
        peer.rate = 0
        completed(command.end(), tmp_path)


def test_all_workers_die_at_once_and_again(tmp_path: Path, peer: ScriptedPeer) -> None:
    with downloading(tmp_path, peer) as command:
        peer.go_on(SLOW)
        for _ in range(3):
            victims = command.workers
            kill(victims)
            command.until(lambda v=victims: len(set(command.workers) - set(v)) == 2, "they are replaced")  # type: ignore[misc]
        peer.rate = 0
        completed(command.end(), tmp_path)


def test_workers_that_die_all_the_time_end_the_run(tmp_path: Path, peer: ScriptedPeer) -> None:
    """Instead of trying for ever; a list ends as a whole, and what was verified is kept."""
    other = make(2_000_000, name="other").save(tmp_path)
    with downloading(tmp_path, peer, str(other), "-j", "1") as command:
        peer.go_on(SLOW)
        while command.process.poll() is None:
            kill(command.workers)
            time.sleep(0.01)
        done = command.end()
    assert (done.code, done.one("summary")["failed"]) == (1, 2)
    assert "Traceback" not in done.err
    assert [event["kind"] for event in done.all("failed")] == ["InternalError", "InternalError"]
    assert all("workers: " in event["error"] for event in done.all("failed"))
    assert len(done.err.splitlines()) == 2
    goes_on(tmp_path, peer)


# the caller


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_caller_that_is_killed_leaves_nobody_behind(
    tmp_path: Path, peer: ScriptedPeer, number: signal.Signals
) -> None:
    with downloading(tmp_path, peer) as command:
        family = command.family
        assert len(family) == 3
        command.signal(number)
        assert command.process.wait(PATIENCE) == -number
        assert gone(family)
    goes_on(tmp_path, peer)


def test_a_caller_that_is_killed_while_the_network_process_starts(tmp_path: Path, peer: ScriptedPeer) -> None:
    with running(tmp_path, *get(MADE.save(tmp_path), peers=(peer.address,))) as command:
        command.until(lambda: command.family, "the network process is there")
        family = command.family
        command.signal(signal.SIGKILL)
        command.process.wait(PATIENCE)
        assert gone(family)
    assert set(tree(tmp_path / "out")) <= {"data.bin.part"}


def test_a_reader_of_the_output_that_leaves_does_not_end_the_download(tmp_path: Path, peer: ScriptedPeer) -> None:
    with downloading(tmp_path, peer) as command:
        assert command.process.stdout is not None
        command.process.stdout.close()
        peer.go_on()
        assert command.process.wait(PATIENCE) == 0
    assert_arrived(MADE, tmp_path / "out")


# the network process


def test_a_network_process_that_is_killed_is_reported_in_one_line(tmp_path: Path, peer: ScriptedPeer) -> None:
    with downloading(tmp_path, peer) as command:
        workers = command.workers
        command.engine.kill()
        done = command.end()
        assert gone(workers)
    assert "network process: ended unexpectedly, killed by signal 9" in done.error(1)
    failed = done.one("failed")
    assert (failed["kind"], failed["exit_code"]) == ("InternalError", 1)
    assert done.one("summary")["exit_code"] == 1
    goes_on(tmp_path, peer)


def test_a_network_process_that_is_terminated_saves_and_leaves(tmp_path: Path, peer: ScriptedPeer) -> None:
    with downloading(tmp_path, peer) as command:
        command.engine.terminate()
        done = command.end()
    done.error(7)
    assert done.one("failed")["kind"] == "InterruptedError"
    goes_on(tmp_path, peer)


# everything


def test_everything_is_killed_and_the_next_run_goes_on(tmp_path: Path, peer: ScriptedPeer) -> None:
    with downloading(tmp_path, peer) as command:
        kill([psutil.Process(command.process.pid), *command.family])
        assert gone(command.family)
    assert not (tmp_path / "out" / "data.bin").exists()
    goes_on(tmp_path, peer)


def test_a_download_that_is_killed_over_and_over_comes_to_its_end(tmp_path: Path, peer: ScriptedPeer) -> None:
    """Each run finds what the ones before have written."""
    rng = random.Random(7)
    torrent = MADE.save(tmp_path)
    step = 1 << 16

    def written() -> int:
        part = tmp_path / "out" / f"{MADE.name}.part"
        data = part.read_bytes() if part.exists() else b""
        return sum(data[at : at + step] == MADE.data[at : at + step] for at in range(0, len(MADE.data), step))

    for _ in range(40):  # five are enough, unless much is killed before it is written
        before = written()
        peer.holds = peer.blocks_sent + rng.randint(30, 120)
        with running(tmp_path, *get(torrent, peers=(peer.address,))) as command:
            while command.process.poll() is None and peer.blocks_sent < peer.holds:
                time.sleep(0.002)
            enough = time.monotonic() + 2
            while command.process.poll() is None and written() == before and time.monotonic() < enough:
                time.sleep(0.01)
            if command.process.poll() is not None:
                break
            kill([psutil.Process(command.process.pid), *command.family])
            assert gone(command.family)
    assert_arrived(MADE, tmp_path / "out")


# signals and limits


@pytest.mark.parametrize("group", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_the_state(
    tmp_path: Path, peer: ScriptedPeer, group: bool, number: signal.Signals
) -> None:
    """Sent to the process alone as by `kill`, or to its whole group as by Ctrl-C in a terminal."""
    with downloading(tmp_path, peer, start_new_session=True) as command:
        if group:
            os.killpg(command.process.pid, number)
        else:
            command.signal(number)
        done = command.end(PROMISED)
    assert "stopped: run it again to go on" in done.error(7)
    failed = done.one("failed")
    assert (failed["kind"], failed["exit_code"]) == ("InterruptedError", 7)
    assert 0 < failed["done"] < failed["total"]
    goes_on(tmp_path, peer)


def test_a_second_interrupt_exits_at_once(tmp_path: Path, peer: ScriptedPeer) -> None:
    with downloading(tmp_path, peer) as command:
        engine, family = command.engine, command.family
        engine.suspend()  # it cannot answer: only the second signal ends the command
        command.signal(signal.SIGINT)
        with pytest.raises(psutil.TimeoutExpired):
            psutil.Process(command.process.pid).wait(0.5)
        command.signal(signal.SIGINT)
        assert command.process.wait(PATIENCE) == 7
        assert engine.status() == psutil.STATUS_STOPPED, "who had waited for it would have ended it by force"
        engine.resume()
        assert gone(family)
    goes_on(tmp_path, peer)


def test_an_interrupt_before_anything_is_fetched(tmp_path: Path, peer: ScriptedPeer) -> None:
    with running(tmp_path, *get(MADE.save(tmp_path), peers=(peer.address,))) as command:
        command.until(lambda: peer.links, "the peer is reached")
        command.signal(signal.SIGINT)
        done = command.end(PROMISED)
    assert done.code == 7
    assert "Traceback" not in done.err


def test_an_interrupt_while_files_are_checked(tmp_path: Path, peer: ScriptedPeer) -> None:
    big = make(64 << 20, name="big.bin", piece_length=1 << 20)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "big.bin.part").write_bytes(big.data)
    with running(tmp_path, *get(big.save(tmp_path), peers=(peer.address,))) as command:
        command.until(lambda: command.family and command.workers, "the workers are there")
        command.signal(signal.SIGINT)
        done = command.end(PROMISED)
    assert done.code in (0, 7)
    # An interrupt may come when it has its final name, and before that is told.
    names = {"big.bin"} if done.code == 0 else {"big.bin", "big.bin.part"}
    found = [path for path in (tmp_path / "out").iterdir() if path.name in names]
    assert [path.read_bytes() for path in found] == [big.data]


def test_the_time_limit_ends_the_run_with_8(tmp_path: Path, peer: ScriptedPeer) -> None:
    other = make(2_000_000, name="other").save(tmp_path)
    words = get(MADE.save(tmp_path), str(other), "-j", "1", "--max-time", "4", peers=(peer.address,))
    done = run(tmp_path, *words)
    assert done.code == 8
    assert [event["kind"] for event in done.all("failed")] == ["LimitReachedError"] * 2
    assert all("--max-time: 4 s are over" in line for line in done.err.splitlines())
    assert done.all("failed")[-1]["done"] > 0 or done.all("failed")[0]["done"] > 0
    goes_on(tmp_path, peer)
