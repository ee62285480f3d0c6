"""Some files of a torrent: what is fetched, what lies on disk afterwards, and other files in later runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import Outcome, get, run, running
from support.scripted_peer import ScriptedPeer
from support.torrents import PIECE, make, tree

# Pieces of 64 KiB: 0 a|b, 1 b, 2 b|c/d|c/e|f, 3 f, 4 f|g.
LENGTHS = {
    "a.bin": 50_000,
    "b.bin": 100_000,
    "c/d.txt": 7,
    "c/e.txt": 3000,
    "f.bin": 130_000,
    "g.bin": 1000,
    "empty": 0,
}
MADE = make(LENGTHS, name="tree")
CONTENTS = MADE.contents()


@pytest.fixture
def peer() -> Iterator[ScriptedPeer]:
    with ScriptedPeer(MADE) as found:
        yield found


def fetch(root: Path, peer: ScriptedPeer, *words: str) -> Outcome:
    done = run(root, *get(MADE.save(root), *words, peers=(peer.address,)))
    assert (done.code, done.err) == (0, "")
    return done


def visible(root: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(root / "out").items() if not name.startswith(".")}


def parts(root: Path) -> list[Path]:
    return sorted((root / "out").glob(".tree.*.btfast-parts"))


def expected(*names: str) -> dict[str, bytes]:
    return {f"tree/{name}": CONTENTS[f"tree/{name}"] for name in names}


def test_only_what_is_wanted_is_there_and_told(tmp_path: Path, peer: ScriptedPeer) -> None:
    done = fetch(tmp_path, peer, "--select", "*.txt")
    assert visible(tmp_path) == expected("c/d.txt", "c/e.txt")
    complete = done.one("complete")
    assert complete["files"] == ["tree/c/d.txt", "tree/c/e.txt"]
    assert (complete["bytes"], complete["downloaded"]) == (3007, PIECE)
    metadata = done.one("metadata")
    assert (metadata["files"], metadata["wanted_files"], metadata["wanted_size"]) == (7, 2, 3007)
    assert [event["path"] for event in done.all("file")] == ["tree/c/d.txt", "tree/c/e.txt"]
    assert len(parts(tmp_path)) == 1


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--files", "1,5-"], ["b.bin", "g.bin", "empty"]),
        (["--select", "tree/c/*", "--files", "0"], ["a.bin", "c/d.txt", "c/e.txt"]),
        (["--select", "*.bin", "--exclude", "[bf].*"], ["a.bin", "g.bin"]),
    ],
)
def test_files_are_named_in_many_ways(tmp_path: Path, peer: ScriptedPeer, words: list[str], names: list[str]) -> None:
    fetch(tmp_path, peer, *words)
    assert visible(tmp_path) == expected(*names)


def test_a_file_of_whole_pieces_needs_no_parts_file(tmp_path: Path) -> None:
    made = make({"a": 2 * PIECE, "b": PIECE}, name="even")
    with ScriptedPeer(made) as peer:
        done = run(tmp_path, *get(made.save(tmp_path), "--files", "0", peers=(peer.address,)))
    assert done.one("complete")["downloaded"] == 2 * PIECE
    assert list(tree(tmp_path / "out")) == ["even/a"]


def test_more_files_take_what_the_parts_file_has(tmp_path: Path, peer: ScriptedPeer) -> None:
    fetch(tmp_path, peer, "--select", "*.txt")
    done = fetch(tmp_path, peer, "--select", "b.bin")  # piece 2 is here; of 0 and 1 nothing is
    assert done.one("complete")["downloaded"] == 2 * PIECE
    assert visible(tmp_path) == expected("b.bin", "c/d.txt", "c/e.txt")
    done = fetch(tmp_path, peer)
    assert done.one("complete")["downloaded"] == len(MADE.data) - 3 * PIECE
    assert tree(tmp_path / "out") == CONTENTS  # the parts file has gone: nothing needs it


def test_fewer_files_leave_what_is_there(tmp_path: Path, peer: ScriptedPeer) -> None:
    fetch(tmp_path, peer)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    done = fetch(tmp_path, peer, "--files", "1")
    assert done.one("complete")["downloaded"] == 0
    assert done.one("complete")["files"] == ["tree/b.bin"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_another_choice_after_each_other_fetches_no_piece_twice(tmp_path: Path, peer: ScriptedPeer) -> None:
    fetched = 0
    for words in (["--files", "0"], ["--files", "2"], ["--files", "5"], ["--files", "0,2"], ["--files", "1"], []):
        fetched += fetch(tmp_path, peer, *words).one("complete")["downloaded"]
    assert fetched == len(MADE.data)
    assert tree(tmp_path / "out") == CONTENTS


def test_a_file_of_the_user_that_was_not_asked_for_stays_as_it_is(tmp_path: Path, peer: ScriptedPeer) -> None:
    (tmp_path / "out/tree").mkdir(parents=True)
    (tmp_path / "out/tree/a.bin").write_bytes(b"mine" * 12_500)  # of the right length, too
    (tmp_path / "out/tree/f.bin").mkdir()
    (tmp_path / "out/tree/c").symlink_to(tmp_path)
    done = fetch(tmp_path, peer, "--files", "1")
    assert (tmp_path / "out/tree/a.bin").read_bytes() == b"mine" * 12_500
    assert (tmp_path / "out/tree/b.bin").read_bytes() == CONTENTS["tree/b.bin"]
    assert done.one("complete")["downloaded"] == 3 * PIECE


def test_damage_in_the_parts_file_is_found_and_fetched_again(tmp_path: Path, peer: ScriptedPeer) -> None:
    fetch(tmp_path, peer, "--files", "0")
    (path,) = parts(tmp_path)
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    done = fetch(tmp_path, peer, "--files", "1")
    assert done.one("complete")["downloaded"] == 3 * PIECE
    assert visible(tmp_path) == expected("a.bin", "b.bin")


def spoil(path: Path, at: int) -> None:
    """Wrong bytes, in a way that neither the size nor the times of the file tell."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"wrong")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_shared_pieces_are_not_hashed_again(tmp_path: Path, peer: ScriptedPeer) -> None:
    fetch(tmp_path, peer, "--files", "1")
    (path,) = parts(tmp_path)
    for at in (0, PIECE):  # of pieces 0 and 2
        spoil(path, at)
    spoil(tmp_path / "out/tree/b.bin", 100)  # its share of piece 0
    assert fetch(tmp_path, peer, "--files", "1").one("complete")["downloaded"] == 0
    assert fetch(tmp_path, peer, "--files", "1").one("complete")["downloaded"] == 0
    path.touch()
    assert fetch(tmp_path, peer, "--files", "1").one("complete")["downloaded"] == 2 * PIECE
    assert visible(tmp_path) == expected("b.bin")


def test_what_was_not_asked_for_then_has_no_share_of_them(tmp_path: Path, peer: ScriptedPeer) -> None:
    with ScriptedPeer(MADE, have={3}) as poor:
        words = get(MADE.save(tmp_path), "--files", "4", "--peer-timeout", "3", peers=(poor.address,))
        run(tmp_path, *words).error(3)
    fetch(tmp_path, peer, "--files", "1")  # piece 2 comes, to which f.bin.part is as it was and has no share
    assert fetch(tmp_path, peer, "--files", "1,4").one("complete")["downloaded"] == len(MADE.data) - 4 * PIECE
    assert visible(tmp_path) == expected("b.bin", "f.bin")
    done = fetch(tmp_path, peer, "--files", "0,2,3")  # pieces 0 and 2 are in the parts file, these have nothing of them
    assert done.one("complete")["downloaded"] == 0
    assert visible(tmp_path) == expected("a.bin", "b.bin", "c/d.txt", "c/e.txt", "f.bin")


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_what_stands_in_the_place_of_the_parts_file_is_not_followed(
    tmp_path: Path, peer: ScriptedPeer, kind: str
) -> None:
    fetch(tmp_path, peer, "--files", "0")
    (path,) = parts(tmp_path)
    path.unlink()
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    line = run(tmp_path, *get(MADE.save(tmp_path), "--files", "5", peers=(peer.address,))).error(6)
    assert path.name in line
    assert not (tmp_path / "elsewhere").exists()


def test_an_interrupted_choice_goes_on(tmp_path: Path) -> None:
    with ScriptedPeer(MADE, holds=8) as peer:
        words = get(MADE.save(tmp_path), "--files", "1", peers=(peer.address,))
        with running(tmp_path, *words) as command:
            command.until(lambda: parts(tmp_path), "a piece that two files share is written")
            command.signal(signal.SIGKILL)
            command.end()
        peer.go_on()
        done = fetch(tmp_path, peer, "--files", "1")
        assert 0 < done.one("complete")["downloaded"] < 3 * PIECE
    assert visible(tmp_path) == expected("b.bin")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--files", "7"], "tree: has no file 7: its files are 0 to 6, see `btfast info`"),
        (["--select", "*.iso"], "tree: no file is wanted: select '*.iso': see `btfast info`"),
        (["--priority", "a.bin"], "priority 'a.bin': not understood: write GLOB=high, GLOB=normal or GLOB=low"),
    ],
)
def test_a_choice_that_fits_nothing_says_so(tmp_path: Path, words: list[str], reason: str) -> None:
    assert reason in run(tmp_path, *get(MADE.save(tmp_path), *words)).error(2)
    assert not (tmp_path / "out").exists()


def test_the_order_follows_priorities(tmp_path: Path) -> None:
    """One connection, so that requests come in the picker's order; the first is known when its piece is asked for."""
    made = make({name: 2 * PIECE for name in "abcdef"}, name="order")
    words = ["--priority", "[ab]=low", "--priority", "e=high", "--exclude", "f"]
    order = requested(made, tmp_path, *words)
    assert set(order[:2]) == {8, 9}
    assert set(order[2:6]) == {4, 5, 6, 7}
    assert set(order[6:]) == {0, 1, 2, 3}


def test_the_order_is_sequential_where_that_is_wanted(tmp_path: Path) -> None:
    made = make({"a": 5 * PIECE, "b": 7 * PIECE}, name="order")
    assert requested(made, tmp_path, "--sequential") == list(range(12))
    order = requested(made, tmp_path / "other", "--sequential", "--first-last")
    assert order == [0, 4, 5, 11, *(n for n in range(12) if n not in (0, 4, 5, 11))]


def requested(made: object, root: Path, *words: str) -> list[int]:
    """The pieces in the order in which they were asked for."""
    root.mkdir(exist_ok=True)
    with ScriptedPeer(made) as peer:  # type: ignore[arg-type]
        done = run(root, *get(made.save(root), *words, peers=(peer.address,)))  # type: ignore[attr-defined]
        assert (done.code, done.err) == (0, "")
        requests = [message for link in peer.links for message in link.received if message[0] == 6]
    return list(dict.fromkeys(int(message[1]) for message in requests))  # type: ignore[call-overload]


def test_seeding_leaves_what_it_reads_in_the_parts_file(tmp_path: Path, peer: ScriptedPeer) -> None:
    fetch(tmp_path, peer, "--exclude", "*d.txt")
    kept = parts(tmp_path)
    assert len(kept) == 1
    seeding = ["seed", "--json", "--bind", "127.0.0.1", "--port", "0", "--no-trackers", "--no-dht", "--seed-time", "0.1"]
    assert run(tmp_path, *seeding, MADE.save(tmp_path), "--data", "out").code == 0
    assert parts(tmp_path) == kept
    again = run(tmp_path, *get(MADE.save(tmp_path), "--exclude", "*d.txt"))
    assert (again.code, again.one("complete")["downloaded"]) == (0, 0)
    assert visible(tmp_path) == expected(*(name for name in LENGTHS if name != "c/d.txt"))
