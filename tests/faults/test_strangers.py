"""What stands where a torrent's files belong and is somebody else's is never lost; what is the torrent's is used."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from support.commands import Outcome, get, run, running
from support.scripted_peer import ScriptedPeer, serving
from support.torrents import Made, assert_arrived, make, tree

SINGLE = make(2_000_001)
OTHER = make(2_000_001, seed=1)  # under the same name
PART = make(1_000_001, name="data.bin.part")
SMALL = make(20_001, name="small.bin")
NOTES = b"nobody else has these" * 5000


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def fetch(root: Path, made: Made, *words: str) -> Outcome:
    with ScriptedPeer(made) as peer:
        return run(root, *get(made.save(root), *words, peers=(peer.address,)))


def interrupted(root: Path, made: Made, *, number: signal.Signals = signal.SIGINT) -> int:
    """Bytes that a run has kept which was interrupted in between."""
    with ScriptedPeer(made, rate=1_500_000) as peer, running(root, *get(made.save(root), peers=(peer.address,))) as command:
        command.until(lambda: peer.blocks_sent > 60, "some pieces are there")
        command.signal(number)
        kept: int = command.end().one("failed")["done"]
    assert 0 < kept < len(made.data)
    return kept


@pytest.mark.parametrize("first", [SINGLE, PART], ids=["the name", "the name with the suffix"])
def test_a_file_is_not_taken_for_the_unfinished_one_of_another_torrent(tmp_path: Path, first: Made) -> None:
    second = PART if first is SINGLE else SINGLE
    with serving(ScriptedPeer(first, rate=50_000), ScriptedPeer(second)) as (slow, quick):
        torrents = (first.save(tmp_path, "first"), second.save(tmp_path, "second"))
        with running(tmp_path, *get(torrents[0], peers=(slow.address,))) as command:
            command.until(lambda: slow.blocks_sent > 1, "the first is at work")
            assert "is writing it" in run(tmp_path, *get(torrents[1], peers=(quick.address,))).error(10)
            slow.rate = 0
            assert command.end().code == 0
        slow.rate = 2_000_000
        both = run(tmp_path, *get(*torrents, "-o", "both", "-j", "2", peers=(slow.address, quick.address)))
        assert "is writing it" in both.error(10)
    assert_arrived(first, tmp_path / "out")
    assert_arrived(first, tmp_path / "both")
    after = fetch(tmp_path, second)
    assert after.code == (0 if first is SINGLE else 6), after.err
    assert tree(tmp_path / "out") == first.contents() | (second.contents() if first is SINGLE else {})


def test_what_another_torrent_has_begun_is_left_to_it(tmp_path: Path, out: Path) -> None:
    kept = interrupted(tmp_path, SINGLE)
    before = tree(out)
    line = fetch(tmp_path, OTHER).error(6)
    assert f"{out}/data.bin.part: it belongs to another torrent" in line
    assert tree(out) == before
    done = fetch(tmp_path, SINGLE)
    assert (done.code, done.err) == (0, "")
    assert done.one("complete")["downloaded"] <= len(SINGLE.data) - kept


def test_an_unfinished_file_of_another_program_is_renamed(tmp_path: Path, out: Path) -> None:
    (out / "data.bin.part").write_bytes(NOTES)
    done = fetch(tmp_path, SINGLE)
    assert done.code == 0
    (warning,) = done.warnings
    assert f"{out}/data.bin.part: something unfinished that is not the torrent's was there before" in warning
    assert tree(out) == SINGLE.contents() | {"data.bin.part.old": NOTES}


def test_an_unfinished_file_of_which_a_piece_is_right_is_gone_on_with(tmp_path: Path, out: Path) -> None:
    (out / "data.bin.part").write_bytes(SINGLE.data[:200_000])
    done = fetch(tmp_path, SINGLE)
    assert (done.code, done.err) == (0, "")
    assert done.one("complete")["downloaded"] < len(SINGLE.data)
    assert_arrived(SINGLE, out)


@pytest.mark.parametrize("words", [(), ("--in-place",)], ids=["by way of .part", "in place"])
def test_a_file_of_the_user_is_renamed_and_so_is_the_next(tmp_path: Path, out: Path, words: tuple[str, ...]) -> None:
    (out / "data.bin").write_bytes(NOTES)
    done = fetch(tmp_path, SINGLE, *words)
    assert done.code == 0
    (warning,) = done.warnings
    assert warning == f"{out}/data.bin: a file that is not the torrent's was there before: it is 'data.bin.old' now"
    assert tree(out) == SINGLE.contents() | {"data.bin.old": NOTES}
    done = fetch(tmp_path, OTHER, *words)
    assert done.code == 0
    assert tree(out) == OTHER.contents() | {"data.bin.old": NOTES, "data.bin.old.2": SINGLE.data}


def test_a_finished_file_that_somebody_has_written_into_is_renamed(tmp_path: Path, out: Path) -> None:
    assert fetch(tmp_path, SMALL).code == 0
    (out / "small.bin").write_bytes(NOTES)
    done = fetch(tmp_path, SMALL)
    assert done.code == 0
    assert tree(out) == SMALL.contents() | {"small.bin.old": NOTES}


@pytest.mark.parametrize("change", ["nothing is known", "check"])
def test_a_damaged_file_that_was_made_for_the_torrent_is_mended(tmp_path: Path, out: Path, change: str) -> None:
    assert fetch(tmp_path, SMALL, "--state", "state").code == 0
    before = (out / "small.bin").stat()
    with (out / "small.bin").open("r+b") as file:
        file.write(b"damage")
    os.utime(out / "small.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    if change == "check":
        words = ["--check"]
    else:
        words = []
        shutil.rmtree(tmp_path / "state")
    done = fetch(tmp_path, SMALL, "--state", "state", *words)
    assert (done.code, done.err) == (0, "")
    assert_arrived(SMALL, out)


def test_what_a_killed_run_has_left_is_gone_on_with_although_nothing_of_it_is_right(tmp_path: Path, out: Path) -> None:
    made = make({"a": 10_000_000, "b": 10_000_000}, name="t", piece_length=16 << 20)
    with ScriptedPeer(made, rate=4_000_000) as peer:
        words = get(made.save(tmp_path), "--memory", "16MiB", peers=(peer.address,))  # pieces are written part by part
        with running(tmp_path, *words) as command:
            part = out / "t" / "a.part"
            command.until(lambda: part.exists() and any(part.read_bytes()), "something was written")
            for process in [*command.family, command.process]:
                process.kill()
    shutil.rmtree(tmp_path / "state", ignore_errors=True)
    done = fetch(tmp_path, made)
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, out)


def test_an_unfinished_file_in_which_nothing_was_written_is_nobodys(tmp_path: Path, out: Path) -> None:
    (out / "data.bin.part").touch()
    os.truncate(out / "data.bin.part", len(SINGLE.data))
    done = fetch(tmp_path, SINGLE)
    assert (done.code, done.err) == (0, "")
    assert_arrived(SINGLE, out)


@pytest.mark.parametrize("made", [SINGLE, make({"a": 1_000_001, "b": 1_000_000}, name="t")], ids=["file", "folder"])
def test_a_complete_file_beside_an_unfinished_one_is_used(tmp_path: Path, out: Path, made: Made) -> None:
    interrupted(tmp_path, made)
    made.lay_out(out)
    done = run(tmp_path, *get(made.save(tmp_path), "--peer-timeout", "0.3"))
    assert (done.code, done.err) == (0, "")
    assert done.one("complete")["downloaded"] == 0
    assert_arrived(made, out)


def test_a_file_that_is_recorded_as_complete_is_used_without_a_look_at_its_unfinished_twin(tmp_path: Path, out: Path) -> None:
    made = make({"a": 1_000_001, "b": 1_000_000}, name="t")
    interrupted(tmp_path, made)
    shutil.copytree(out, tmp_path / "kept")
    assert fetch(tmp_path, made).code == 0
    (out / "t" / "b").unlink()
    (tmp_path / "kept" / "t" / "a.part").rename(out / "t" / "a.part")  # a file without the mark of one that was made here
    done = fetch(tmp_path, made, "--check")
    assert done.one("complete")["downloaded"] <= 1_000_000 + made.piece_length
    found = tree(out)
    assert len(found.pop("t/a.part.old")) == 1_000_001
    assert found == made.contents()


def test_an_unknown_unfinished_file_beside_the_complete_one_is_renamed(tmp_path: Path, out: Path) -> None:
    (out / "data.bin").write_bytes(SINGLE.data)
    (out / "data.bin.part").write_bytes(NOTES)
    done = run(tmp_path, *get(SINGLE.save(tmp_path), "--peer-timeout", "0.3"))
    assert done.code == 0
    assert len(done.warnings) == 1
    assert tree(out) == SINGLE.contents() | {"data.bin.part.old": NOTES}


@pytest.mark.parametrize("final", [False, True])
def test_of_two_that_are_not_complete_the_better_one_is_gone_on_with(tmp_path: Path, out: Path, final: bool) -> None:
    good = SINGLE.data[:1_500_000] + bytes(len(SINGLE.data) - 1_500_000)
    bad = SINGLE.data[:500_000] + bytes(len(SINGLE.data) - 500_000)
    (out / "data.bin").write_bytes(good if final else bad)
    (out / "data.bin.part").write_bytes(bad if final else good)
    done = fetch(tmp_path, SINGLE)
    assert done.code == 0
    assert done.one("complete")["downloaded"] <= 600_000
    assert tree(out) == SINGLE.contents() | {"data.bin.part.old" if final else "data.bin.old": bad}


def test_what_comes_under_the_final_name_meanwhile_is_renamed(tmp_path: Path, out: Path) -> None:
    with ScriptedPeer(SINGLE, rate=1_500_000) as peer:
        with running(tmp_path, *get(SINGLE.save(tmp_path), peers=(peer.address,))) as command:
            command.until(lambda: peer.blocks_sent > 10, "it is at work")
            (out / "data.bin").write_bytes(NOTES)
            assert command.end().code == 0
    assert tree(out) == SINGLE.contents() | {"data.bin.old": NOTES}


def test_many_are_told_in_a_few_lines_and_no_file_of_the_torrent_is_in_the_way(tmp_path: Path, out: Path) -> None:
    made = make({"a": 40_000, "a.old": 40_000} | {f"{n:02}": 30_000 for n in range(40)}, name="t")
    (out / "t").mkdir()
    for name in made.contents():
        (out / name).write_bytes(b"old " + name.encode())
    done = fetch(tmp_path, made)
    assert done.code == 0
    assert len(done.warnings) == 21
    assert "22 more files" in done.warnings[-1]
    found = tree(out)
    assert {name: found[name] for name in made.contents()} == made.contents()
    assert found["t/a.old.2"] == b"old t/a"
    assert found["t/a.old.old"] == b"old t/a.old"
    assert len(found) == 2 * 42
