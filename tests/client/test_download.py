"""`btfast.download`: one blocking call, wherever it is made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from support.commands import PATIENCE, PROMISED, python_path
from swarm_of_one import LOCAL, make_data, make_torrent, seeding, until

import btfast

ROOT = Path(btfast.__file__).resolve().parents[1]
SIZE = 3_000_000


@pytest.fixture
def torrent(tmp_path: Path) -> bytes:
    make_data(tmp_path / "source", {"a.bin": SIZE})
    data = make_torrent(tmp_path / "source", "a.bin")
    (tmp_path / "a.torrent").write_bytes(data)
    return data


class Bar:
    """As much of tqdm as is relied on."""

    def __init__(self) -> None:
        self.total: float | None = None
        self.n = 0

    def update(self, n: int) -> None:
        self.n += n


def fetch(tmp_path: Path, torrent: bytes, **options: object) -> btfast.Result:
    with seeding(torrent, tmp_path / "source") as seeder:
        result = btfast.download(
            tmp_path / "a.torrent",
            tmp_path / "out",
            settings=LOCAL,
            peers=[seeder.peer],
            **options,  # type: ignore[arg-type]
        )
    assert (tmp_path / "out" / "a.bin").read_bytes() == (tmp_path / "source" / "a.bin").read_bytes()
    return result


def test_it_returns_when_everything_is_there(tmp_path: Path, torrent: bytes) -> None:
    result = fetch(tmp_path, torrent)
    assert result.files == (tmp_path / "out" / "a.bin",)
    assert (result.bytes, result.downloaded) == (SIZE, SIZE)
    assert result.seconds > 0


def test_progress_is_called_in_the_callers_thread_up_to_the_end(tmp_path: Path, torrent: bytes) -> None:
    calls: list[tuple[int, int]] = []
    threads: set[int] = set()

    def progress(done: int, total: int) -> None:
        calls.append((done, total))
        threads.add(threading.get_ident())

    fetch(tmp_path, torrent, progress=progress)
    assert calls[-1] == (SIZE, SIZE)
    assert threads == {threading.get_ident()}


def test_a_bar_in_tqdms_manner_is_filled(tmp_path: Path, torrent: bytes) -> None:
    bar = Bar()
    fetch(tmp_path, torrent, progress=bar)
    assert (bar.total, bar.n) == (SIZE, SIZE)


def test_what_progress_raises_ends_the_download(tmp_path: Path, torrent: bytes) -> None:
    def progress(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fetch(tmp_path, torrent, progress=progress)


async def test_it_works_where_a_loop_already_runs(tmp_path: Path, torrent: bytes) -> None:
    assert fetch(tmp_path, torrent).bytes == SIZE


def test_it_works_in_a_thread(tmp_path: Path, torrent: bytes) -> None:
    results: list[btfast.Result] = []
    thread = threading.Thread(target=lambda: results.append(fetch(tmp_path, torrent)))
    thread.start()
    thread.join(PATIENCE)
    assert [result.bytes for result in results] == [SIZE]


def test_errors_are_the_trees(tmp_path: Path) -> None:
    with pytest.raises(btfast.SourceNotFoundError, match="no such file"):
        btfast.download(tmp_path / "none.torrent")
    with pytest.raises(btfast.InputError, match="its btmh is not 1220 and 64"):
        btfast.download("magnet:?xt=urn:btmh:1220" + "0" * 63)


SCRIPT = """
import btfast
settings = btfast.Settings(bind="127.0.0.1", port=0, workers=1, memory="16MiB", trackers=False)
result = btfast.download("a.torrent", "out", settings=settings, peers=["{peer}"])
print(result.bytes)
"""


def script(tmp_path: Path, peer: str) -> subprocess.Popen[str]:
    (tmp_path / "script.py").write_text(SCRIPT.format(peer=peer))
    return subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": python_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_works_in_an_unguarded_script(tmp_path: Path, torrent: bytes) -> None:
    with seeding(torrent, tmp_path / "source") as seeder, script(tmp_path, seeder.address) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, f"{SIZE}\n", "")


def under_way(tmp_path: Path) -> bool:
    part = tmp_path / "out" / "a.bin.part"
    return part.exists() and part.stat().st_size > 0  # an empty one only holds the place


def test_a_keyboard_interrupt_saves_the_state_and_propagates(tmp_path: Path, torrent: bytes) -> None:
    with seeding(torrent, tmp_path / "source", rate=200_000) as seeder, script(tmp_path, seeder.address) as process:
        until(lambda: under_way(tmp_path), "the download has begun")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode in (1, -signal.SIGINT)
    assert out == ""
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert under_way(tmp_path)
    fetch(tmp_path, torrent)


def test_a_killed_caller_leaves_no_process(tmp_path: Path, torrent: bytes) -> None:
    with seeding(torrent, tmp_path / "source", rate=200_000) as seeder, script(tmp_path, seeder.address) as process:
        until(lambda: under_way(tmp_path), "the download has begun")
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(family, timeout=PROMISED)
        assert alive == []
    fetch(tmp_path, torrent)
