"""A disk that is full or fails holds a download up; when it has recovered the download goes on by itself."""

from __future__ import annotations

import errno
import json
import signal
from pathlib import Path

import pytest
from support.commands import PROMISED, Running, get, run, running
from support.disks import fill, small_disk
from support.preloaded import compile_library
from support.scripted_peer import ScriptedPeer
from support.torrents import assert_arrived, make

MADE = make({f"{n}.bin": 1 << 17 for n in range(64)} | {"empty": 0}, name="tree")


def until_paused(command: Running) -> list[str]:
    """Reads the events up to the one that says so; the messages of warnings."""
    warnings = []
    assert command.process.stdout is not None
    for line in command.process.stdout:
        event = json.loads(line)
        if event["event"] == "warning":
            warnings.append(event["message"])
        if event["event"] == "progress" and event["state"] == "paused":
            return warnings
    raise AssertionError(f"it has ended: {warnings} {command.process.communicate()}")


def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with small_disk(out, "size=10m"):
        with ScriptedPeer(MADE, holds=64) as peer:
            words = get(MADE.save(tmp_path), "--disk-timeout", "300", peers=(peer.address,))
            with running(tmp_path, *words) as command:
                command.until(lambda: list(out.glob("tree/*.bin")), "a file is complete")
                fill(out / "filler")
                peer.go_on()
                # While the rest of it is being filled there may be room now and then.
                paused = "No space left on device: paused for up to 300 s: make room, and it goes on"
                warnings = until_paused(command)
                assert any(paused in warning for warning in warnings)
                (out / "filler").unlink()
                done = command.end()
        assert done.code == 0
        # Where there was room for a moment it was said then: of pauses in a row only the first is told.
        assert [message for message in (*warnings, *done.warnings) if "the disk takes data again: going on" in message]
        assert done.one("complete")["downloaded"] <= len(MADE.data) + 8 * MADE.piece_length
        assert_arrived(MADE, out)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_writes_that_fail_are_done_again(tmp_path: Path, number: int) -> None:
    flag = tmp_path / "flag"
    variables = {
        "LD_PRELOAD": str(compile_library("failing_disk", tmp_path)),
        "FAILING_DISK_FLAG": str(flag),
        "FAILING_DISK_ROOT": str(tmp_path / "out"),
    }
    made = make(4_000_001)
    with ScriptedPeer(made, holds=32) as peer:
        words = get(made.save(tmp_path), peers=(peer.address,), workers=2)
        with running(tmp_path, *words, variables=variables) as command:
            command.until(lambda: peer.blocks_sent == 32, "some blocks were sent")
            flag.write_text(str(number))
            peer.go_on()
            (warning,) = until_paused(command)
            flag.unlink()
            done = command.end()
    assert f"{tmp_path / 'out' / made.name}: " in warning
    assert ("mend the disk" if number == errno.EIO else "make room") in warning
    assert done.code == 0
    assert done.one("complete")["downloaded"] == len(made.data)
    assert done.all("piece_failed") == []
    assert_arrived(made, tmp_path / "out")


def test_a_disk_that_does_not_recover_ends_the_item(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    variables = {
        "LD_PRELOAD": str(compile_library("failing_disk", tmp_path)),
        "FAILING_DISK_FLAG": str(flag),
        "FAILING_DISK_ROOT": str(tmp_path / "out"),
    }
    made = make(4_000_001)
    with ScriptedPeer(made, holds=32) as peer:
        words = get(made.save(tmp_path), "--disk-timeout", "1.5", peers=(peer.address,))
        with running(tmp_path, *words, variables=variables) as command:
            command.until(lambda: peer.blocks_sent == 32, "some blocks were sent")
            flag.write_text(str(errno.EIO))
            peer.go_on()
            done = command.end()
        assert "Input/output error: what was verified is kept" in done.error(6)
        flag.unlink()
        again = run(tmp_path, *get(made.save(tmp_path), peers=(peer.address,)))
    assert again.code == 0
    assert_arrived(made, tmp_path / "out")


def test_who_waits_for_a_disk_can_be_interrupted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with small_disk(out, "size=10m"):
        with ScriptedPeer(MADE, holds=64) as peer:
            with running(tmp_path, *get(MADE.save(tmp_path), "--disk-timeout", "600", peers=(peer.address,))) as command:
                command.until(lambda: list(out.glob("tree/*.bin")), "a file is complete")
                fill(out / "filler")
                peer.go_on()
                until_paused(command)
                command.signal(signal.SIGINT)
                assert command.end(PROMISED).code == 7
