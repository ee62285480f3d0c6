"""Whatever the disk does: exit code 6, one line that names the place, and what was verified is kept."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import Outcome, get, run, running
from support.disks import bound_by_permissions, fill, small_disk, unwritable
from support.scripted_peer import ScriptedPeer
from support.torrents import Made, assert_arrived, make, some_written, tree

from btfast.wire import ids

SINGLE = make(3_000_001)
TREE = make({"a.bin": 1_000_000, "sub/b.bin": 1_000_001, "sub/c.bin": 1_000_002, "empty": 0}, name="tree")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def fetch(root: Path, made: Made, *words: str, rate: int = 0, **options: object) -> Outcome:
    with ScriptedPeer(made, rate=rate) as peer:
        return run(root, *get(made.save(root), *words, peers=(peer.address,)), **options)


def fetch_to_the_end(root: Path, made: Made) -> Outcome:
    """What a fault interrupted goes on."""
    done = fetch(root, made)
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, root / "out")
    return done


def refused(done: Outcome, *words: str) -> None:
    line = done.error(6)
    for word in words:
        assert word in line
    failed = done.one("failed")
    assert (failed["kind"], failed["exit_code"]) == ("StorageError", 6)
    assert done.all("file") == []


# full


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(tmp_path: Path, out: Path) -> None:
    with small_disk(out, "size=2m"):
        with ScriptedPeer(SINGLE) as peer:
            done = run(tmp_path, *get(SINGLE.save(tmp_path), peers=(peer.address,)))
        refused(done, str(out), "No space left on device", "3000001 bytes are needed and 2097152 are free")
        assert peer.blocks_sent == 0
        assert list(out.iterdir()) == []


def test_a_disk_that_fills_up_on_the_way_loses_nothing_that_was_verified(tmp_path: Path, out: Path) -> None:
    made = make({f"{n}.bin": 1 << 17 for n in range(64)}, name="tree")
    with small_disk(out, "size=10m"):
        with ScriptedPeer(made, holds=64) as peer:
            words = get(made.save(tmp_path), "--disk-timeout", "0", peers=(peer.address,))
            with running(tmp_path, *words) as command:
                command.until(lambda: list(out.glob("tree/*.bin")), "a file is complete")
                fill(out / "filler")
                peer.go_on()
                done = command.end()
        assert "No space left on device: what was verified is kept" in done.error(6)
        assert done.one("failed")["done"] > 0
        kept = sum(event["size"] for event in done.all("file"))
        (out / "filler").unlink()
        again = fetch_to_the_end(tmp_path, made)
        assert again.one("complete")["downloaded"] <= len(made.data) - kept


# not permitted


def test_a_destination_without_permission(tmp_path: Path, out: Path) -> None:
    options = bound_by_permissions()
    with unwritable(out):
        refused(fetch(tmp_path, SINGLE, **options), str(out), "Permission denied", "-o")
        assert list(out.iterdir()) == []


def test_a_destination_that_may_not_be_created(tmp_path: Path, out: Path) -> None:
    options = bound_by_permissions()
    with unwritable(out):
        refused(fetch(tmp_path, SINGLE, "-o", "out/there", **options), str(out / "there"), "Permission denied")


def test_a_folder_of_the_torrent_without_permission(tmp_path: Path, out: Path) -> None:
    options = bound_by_permissions()
    with unwritable(out / "tree" / "sub"):
        done = fetch(tmp_path, TREE, **options)
    assert "Permission denied" in done.error(6)
    assert str(out / "tree" / "sub") in done.error(6)
    fetch_to_the_end(tmp_path, TREE)


def test_a_wrong_file_that_may_not_be_renamed(tmp_path: Path, out: Path) -> None:
    options = bound_by_permissions()
    TREE.lay_out(out)
    with (out / "tree" / "sub" / "b.bin").open("ab") as file:
        file.write(b"wrong")
    with unwritable(out / "tree" / "sub"):
        done = fetch(tmp_path, TREE, **options)
    assert "Permission denied" in done.error(6)
    assert fetch_to_the_end(tmp_path, TREE).one("complete")["downloaded"] < 1_300_000


def test_a_read_only_disk(tmp_path: Path, out: Path) -> None:
    with small_disk(out, "ro"):
        refused(fetch(tmp_path, SINGLE), str(out), "Read-only file system")


# in the way


def test_a_destination_that_is_a_file(tmp_path: Path, out: Path) -> None:
    out.write_text("mine")
    refused(fetch(tmp_path, SINGLE), str(out), "it is a file, not a directory")
    assert out.read_text() == "mine"


def test_a_destination_below_a_file(tmp_path: Path, out: Path) -> None:
    out.write_text("mine")
    refused(fetch(tmp_path, SINGLE, "-o", "out/below"), str(out / "below"), "Not a directory")


@pytest.mark.parametrize("name", ["data.bin", "data.bin.part"])
def test_a_directory_where_a_file_belongs(tmp_path: Path, out: Path, name: str) -> None:
    (out / name).mkdir(parents=True)
    refused(fetch(tmp_path, SINGLE), str(out / name), "not a regular file")
    assert tree(tmp_path / "out") == {}


def test_a_file_where_a_directory_belongs(tmp_path: Path, out: Path) -> None:
    out.mkdir()
    (out / "tree").write_text("mine")
    refused(fetch(tmp_path, TREE), "'tree'", "a file where a directory belongs")
    assert tree(out) == {"tree": b"mine"}


@pytest.mark.parametrize("name", ["data.bin", "data.bin.part"])
def test_a_pipe_where_a_file_belongs(tmp_path: Path, out: Path, name: str) -> None:
    out.mkdir()
    os.mkfifo(out / name)
    refused(fetch(tmp_path, SINGLE), str(out / name), "not a regular file")


@pytest.mark.parametrize("name", ["data.bin", "data.bin.part"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_where_a_file_belongs_is_not_followed(tmp_path: Path, out: Path, name: str, dangling: bool) -> None:
    out.mkdir()
    if not dangling:
        (tmp_path / "precious").write_text("mine")
    (out / name).symlink_to(tmp_path / "precious")
    refused(fetch(tmp_path, SINGLE), str(out / name), "not a regular file")
    assert (out / name).is_symlink()
    assert (tmp_path / "precious").exists() is not dangling
    assert dangling or (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("place", ["tree", "tree/sub"])
def test_a_link_where_a_directory_belongs_is_not_followed(tmp_path: Path, out: Path, place: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (out / place).parent.mkdir(parents=True)
    (out / place).symlink_to(tmp_path / "elsewhere")
    refused(fetch(tmp_path, TREE), f"'{(out / place).name}'", "a link or a file where a directory belongs")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_as_the_destination_itself_is_the_users_own_choice(tmp_path: Path, out: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    out.symlink_to(tmp_path / "elsewhere")
    fetch_to_the_end(tmp_path, TREE)
    assert_arrived(TREE, tmp_path / "elsewhere")


# while it works


@pytest.fixture
def holding() -> Iterator[ScriptedPeer]:
    with ScriptedPeer(TREE, holds=48) as peer:
        yield peer


def disturbed(root: Path, peer: ScriptedPeer, disturb: object, *, workers: int = 2) -> Outcome:
    """A download in the middle of which something happens to its files."""
    words = get(peer.made.save(root), peers=(peer.address,), workers=workers)
    with running(root, *words) as command:
        written = root / "out" / peer.made.name
        command.until(lambda: peer.blocks_sent > 40 and any(written.parent.rglob("*.part")), "data is written")
        disturb()  # type: ignore[operator]
        peer.go_on()
        return command.end()


def remove(folder: Path) -> None:
    """With all that is in it, also what is being written into it meanwhile."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def test_a_destination_that_vanishes_is_not_made_again(tmp_path: Path, out: Path, holding: ScriptedPeer) -> None:
    done = disturbed(tmp_path, holding, lambda: remove(out))
    assert str(out) in done.error(6)
    assert not out.exists()
    fetch_to_the_end(tmp_path, TREE)


def test_a_folder_that_vanishes_leaves_no_file_with_a_hole(tmp_path: Path, out: Path, holding: ScriptedPeer) -> None:
    done = disturbed(tmp_path, holding, lambda: remove(out / "tree"))
    assert str(out / "tree") in done.error(6)
    whole = TREE.contents()
    assert all(content == whole[name] for name, content in tree(out).items() if not name.endswith(".part"))
    fetch_to_the_end(tmp_path, TREE)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unfinished_file_that_vanishes(tmp_path: Path, out: Path, workers: int) -> None:
    with ScriptedPeer(SINGLE, holds=48) as peer:
        done = disturbed(tmp_path, peer, lambda: (out / "data.bin.part").unlink(), workers=workers)
    assert str(out / "data.bin") in done.error(6)
    assert "removed while it was written" in done.error(6)
    assert not (out / "data.bin").exists()
    fetch_to_the_end(tmp_path, SINGLE)


def test_an_unfinished_file_that_vanishes_with_the_worker_that_wrote_it(tmp_path: Path, out: Path) -> None:
    """Its successor makes the file anew, and has not seen what was in it."""
    with ScriptedPeer(SINGLE, holds=48) as peer:
        with running(tmp_path, *get(SINGLE.save(tmp_path), peers=(peer.address,))) as command:
            part = out / "data.bin.part"
            command.until(lambda: peer.blocks_sent == 48 and some_written(SINGLE, part), "data is written")
            (worker,) = command.workers
            worker.kill()
            part.unlink()
            command.until(lambda: command.workers and command.workers != [worker], "it is replaced")
            peer.go_on()
            done = command.end()
    assert f"{out / 'data.bin'}: it was removed while it was written" in done.error(6)
    assert not (out / "data.bin").exists()
    fetch_to_the_end(tmp_path, SINGLE)


def test_an_unfinished_file_of_an_earlier_run_that_vanishes_before_anything_is_written(tmp_path: Path, out: Path) -> None:
    with ScriptedPeer(SINGLE, holds=48) as peer:
        words = get(SINGLE.save(tmp_path), peers=(peer.address,))
        with running(tmp_path, *words) as command:
            command.until(lambda: some_written(SINGLE, out / "data.bin.part"), "data is written")
            command.signal(signal.SIGINT)
            assert command.end().code == 7
        with running(tmp_path, *words) as command:
            command.until(lambda: len(peer.links) > 1 and peer.links[1].count(ids.REQUEST), "the rest is asked for")
            (out / "data.bin.part").unlink()
            peer.go_on()
            done = command.end()
    assert f"{out / 'data.bin'}: it was removed while it was written" in done.error(6)
    assert not (out / "data.bin").exists()
    fetch_to_the_end(tmp_path, SINGLE)


def test_a_link_put_in_place_of_an_unfinished_file_is_not_followed(tmp_path: Path, out: Path) -> None:
    (tmp_path / "precious").write_text("mine")

    def plant() -> None:
        (out / "data.bin.part").unlink()
        (out / "data.bin.part").symlink_to(tmp_path / "precious")

    with ScriptedPeer(SINGLE, holds=48) as peer:
        done = disturbed(tmp_path, peer, plant)
    assert str(out / "data.bin") in done.error(6)
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (out / "data.bin").exists()


def test_a_directory_put_where_the_finished_file_belongs(tmp_path: Path, out: Path) -> None:
    with ScriptedPeer(SINGLE, holds=48) as peer:
        done = disturbed(tmp_path, peer, lambda: (out / "data.bin").mkdir())
    assert "Is a directory" in done.error(6)
    (out / "data.bin").rmdir()
    again = fetch_to_the_end(tmp_path, SINGLE)
    assert again.one("complete")["downloaded"] == 0


# what is there already


def test_only_the_wrong_pieces_of_a_file_are_fetched_again(tmp_path: Path, out: Path) -> None:
    TREE.lay_out(out)
    with (out / "tree" / "a.bin").open("r+b") as file:
        file.seek(200_000)
        file.write(b"wrong")
    done = fetch_to_the_end(tmp_path, TREE)
    assert done.one("complete")["downloaded"] == TREE.piece_length


@pytest.mark.parametrize("length", [0, 100_000, 1_000_000, 9_000_000])
def test_an_unfinished_file_of_a_wrong_length_is_mended(tmp_path: Path, out: Path, length: int) -> None:
    out.mkdir()
    (out / "data.bin.part").write_bytes((SINGLE.data + bytes(9_000_000))[:length])
    done = fetch_to_the_end(tmp_path, SINGLE)
    missing = 0 if length > len(SINGLE.data) else len(SINGLE.data) - length // SINGLE.piece_length * SINGLE.piece_length
    assert done.one("complete")["downloaded"] == missing
