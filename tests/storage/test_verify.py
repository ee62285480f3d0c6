"""What a check says of the data on disk."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.torrents import Made, make

from btfast._bencode import encode
from btfast.metainfo.torrent import Torrent
from btfast.storage.verify import FileVerdict, Verdict, verify

PIECE = 16384
FILES = {"a": 3 * PIECE, "sub/b": PIECE // 2, "sub/c": 2 * PIECE, "empty": 0}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    found = make(FILES, name="t", piece_length=PIECE)
    found.lay_out(tmp_path)
    return found


def look(made: Made, folder: Path, **options: bool) -> tuple[Verdict, dict[str, FileVerdict]]:
    verdict = verify(Torrent.parse(made.torrent), str(folder), **options)  # type: ignore[arg-type]
    return verdict, {file.path: file for file in verdict.files}


def states(made: Made, folder: Path) -> dict[str, str]:
    return {path: file.state for path, file in look(made, folder)[1].items() if file.state != "good"}


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_complete_data_is_good(made: Made, tmp_path: Path) -> None:
    verdict, files = look(made, tmp_path)
    assert {file.state for file in files.values()} == {"good"}
    assert set(files) == {f"t/{path}" for path in FILES}
    assert (verdict.good, verdict.bad, verdict.missing, verdict.extra) == (6, (), (), ())


def test_a_wrong_byte_is_told_by_file_and_piece(made: Made, tmp_path: Path) -> None:
    flip(tmp_path / "t/a", PIECE + 5)
    verdict, files = look(made, tmp_path)
    assert files["t/a"].state == "bad"
    assert files["t/a"].bad == ((1, 1),)
    assert verdict.bad == ((1, 1),)
    assert states(made, tmp_path) == {"t/a": "bad"}


def test_a_piece_of_two_files_makes_both_suspect(made: Made, tmp_path: Path) -> None:
    flip(tmp_path / "t/sub/b", 0)
    assert states(made, tmp_path) == {"t/sub/b": "bad", "t/sub/c": "bad"}


def test_a_missing_file_and_what_can_no_longer_be_verified(made: Made, tmp_path: Path) -> None:
    (tmp_path / "t/sub/b").unlink()
    (tmp_path / "t/empty").unlink()
    verdict, files = look(made, tmp_path)
    assert states(made, tmp_path) == {"t/sub/b": "missing", "t/sub/c": "unverified", "t/empty": "missing"}
    assert files["t/sub/b"].found is None
    assert files["t/sub/c"].missing == ((3, 3),)
    assert verdict.missing == ((3, 3),)


@pytest.mark.parametrize("size", [PIECE, 4 * PIECE])
def test_a_file_of_another_size(made: Made, tmp_path: Path, size: int) -> None:
    os.truncate(tmp_path / "t/a", size)
    _, files = look(made, tmp_path)
    assert files["t/a"].state == "wrong_size"
    assert files["t/a"].found == size
    assert files["t/a"].missing == (((1, 2),) if size == PIECE else ())


def test_unfinished_files_are_looked_into(made: Made, tmp_path: Path) -> None:
    (tmp_path / "t/a").rename(tmp_path / "t/a.part")
    verdict, files = look(made, tmp_path)
    assert files["t/a"].state == "unfinished"
    assert verdict.good == 6
    assert verdict.extra == ()


def test_what_does_not_belong_there_is_named(made: Made, tmp_path: Path) -> None:
    (tmp_path / "t/sub/deep").mkdir()
    (tmp_path / "t/sub/deep/x").touch()
    (tmp_path / "t/y").touch()
    (tmp_path / "t/z").symlink_to("y")
    (tmp_path / "beside").touch()
    assert look(made, tmp_path)[0].extra == ("t/sub/deep/x", "t/y", "t/z")


def test_no_link_is_followed(made: Made, tmp_path: Path) -> None:
    (tmp_path / "t/a").rename(tmp_path / "a")
    (tmp_path / "t/a").symlink_to("../a")
    (tmp_path / "t/sub").rename(tmp_path / "sub")
    (tmp_path / "t/sub").symlink_to("../sub")
    assert states(made, tmp_path) == {"t/a": "not_a_file", "t/sub/b": "missing", "t/sub/c": "missing"}


def test_a_fifo_or_a_directory_in_a_files_place_is_no_file(made: Made, tmp_path: Path) -> None:
    (tmp_path / "t/a").unlink()
    os.mkfifo(tmp_path / "t/a")
    (tmp_path / "t/empty").unlink()
    (tmp_path / "t/empty").mkdir()
    assert states(made, tmp_path) == {"t/a": "not_a_file", "t/empty": "not_a_file"}


def test_sums_come_from_the_same_read(made: Made, tmp_path: Path) -> None:
    flip(tmp_path / "t/a", 5)
    verdict, files = look(made, tmp_path, sums=True)
    assert verdict.bad == ((0, 0),)
    for path, file in files.items():
        good = path != "t/a"
        assert file.sha256 == (hashlib.sha256((tmp_path / path).read_bytes()).digest() if good else None)
    assert verdict.bytes_read <= sum(FILES.values()) + PIECE


def test_sums_of_many_files_read_hardly_anything_twice(tmp_path: Path) -> None:
    made = make({f"{n}": 40_000 for n in range(100)}, name="t", piece_length=PIECE)
    made.lay_out(tmp_path)
    (tmp_path / "t/50").unlink()
    verdict, files = look(made, tmp_path, sums=True)
    assert {path: file.state for path, file in files.items() if file.state != "good"} == {
        "t/49": "unverified", "t/50": "missing", "t/51": "unverified",
    }  # fmt: skip
    assert sum(file.sha256 is not None for file in files.values()) == 97
    assert verdict.bytes_read <= 99 * 40_000 + 4 * PIECE


def test_a_single_file_has_no_strangers(tmp_path: Path) -> None:
    made = make(3 * PIECE, name="one", piece_length=PIECE)
    made.lay_out(tmp_path)
    (tmp_path / "other").touch()
    verdict, files = look(made, tmp_path)
    assert verdict.extra == ()
    assert files["one"].state == "good"


@pytest.mark.parametrize(
    ("target", "state"),
    [("../a", "good"), ("./../sub/../a", "good"), ("../b", "bad"), ("/a", "bad"), ("../../t/a", "bad"), (None, "missing")],
)
def test_a_symbolic_link_has_to_lead_where_the_torrent_says(tmp_path: Path, target: str | None, state: str) -> None:
    content = bytes(100)
    info = {
        "name": "t", "piece length": PIECE, "pieces": hashlib.sha1(content).digest(),
        "files": [
            {"length": 100, "path": ["a"]},
            {"length": 0, "path": ["sub", "l"], "attr": "l", "symlink path": ["a"]},
        ],
    }  # fmt: skip
    (tmp_path / "t/sub").mkdir(parents=True)
    (tmp_path / "t/a").write_bytes(content)
    if target is not None:
        (tmp_path / "t/sub/l").symlink_to(target)
    verdict = verify(Torrent.parse(encode({"info": info})), str(tmp_path))
    assert [file.state for file in verdict.files] == ["good", state]


@contextmanager
def nobody() -> Iterator[None]:
    """As somebody whom permissions hold back: for root they would not count."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_must_not_be_read_is_not_called_missing() -> None:
    made = make(FILES, name="t", piece_length=PIECE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made.lay_out(folder)
        folder.chmod(0o755)
        (folder / "t/a").chmod(0)
        (folder / "t/sub").chmod(0o600)
        with nobody():
            verdict, files = look(made, folder)
        (folder / "t/sub").chmod(0o755)
    assert {path: file.state for path, file in files.items()} == {
        "t/a": "unreadable", "t/sub/b": "unreadable", "t/sub/c": "unreadable", "t/empty": "good",
    }  # fmt: skip
    assert all("Permission denied" in file.reason for path, file in files.items() if path != "t/empty")
    assert verdict.missing == ((0, 5),)


def test_a_directory_that_is_not_there_is_an_error(made: Made, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        look(made, tmp_path / "nowhere")


def test_progress_reaches_the_end_and_may_end_it(made: Made, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    torrent = Torrent.parse(made.torrent)
    verify(torrent, str(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6, 6)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(torrent, str(tmp_path), progress=stop)


@pytest.fixture(params=["2", "hybrid"])
def of_v2(request: pytest.FixtureRequest, tmp_path: Path) -> Torrent:
    """The same files as a torrent of BEP 52, with one of several pieces in the middle."""
    made = make({**FILES, "sub/c": 2 * PIECE + 5, "z": 3}, name="t", piece_length=PIECE)
    made.lay_out(tmp_path)
    return Torrent.create(tmp_path / "t", version=request.param, piece_length=PIECE)


@pytest.mark.parametrize("sums", [False, True])
def test_v2_data_is_checked_by_its_trees(of_v2: Torrent, tmp_path: Path, sums: bool) -> None:
    assert {file.state for file in verify(of_v2, str(tmp_path), sums=sums).files} == {"good"}
    flip(tmp_path / "t/sub/c", PIECE + 7)
    flip(tmp_path / "t/z", 0)
    (tmp_path / "t/a").unlink()
    verdict = verify(of_v2, str(tmp_path), sums=sums)
    # Files do not share pieces, so that no other one is in doubt.
    states = {file.path: file.state for file in verdict.files if file.state != "good"}
    assert states == {"t/a": "missing", "t/sub/c": "bad", "t/z": "bad"}
    pieces = of_v2.geometry.file_pieces(next(n for n, file in enumerate(of_v2.files) if file.path == ("sub", "c")))
    assert [file.bad for file in verdict.files if file.path == "t/sub/c"] == [((pieces[1], pieces[1]),)]
    if sums:
        digests = {file.path: file.sha256 for file in verdict.files if file.sha256 is not None}
        assert digests == {
            path: hashlib.sha256((tmp_path / path).read_bytes()).digest() for path in ("t/sub/b", "t/empty")
        }


def test_files_whose_piece_layers_are_not_known_are_judged_by_their_roots(of_v2: Torrent, tmp_path: Path) -> None:
    bare = Torrent.from_metadata(of_v2.info_raw)
    assert bare.hashes.missing
    assert {file.state for file in verify(bare, str(tmp_path)).files} == {"good"}
    flip(tmp_path / "t/a", 0)
    os.truncate(tmp_path / "t/sub/c", 5)
    states = {file.path: file.state for file in verify(bare, str(tmp_path)).files if file.state != "good"}
    assert states == {"t/a": "bad", "t/sub/c": "wrong_size"}


def test_halves_of_a_hybrid_that_contradict_each_other_are_told(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(2 * PIECE))
    right = Torrent.create(tmp_path / "one", version="hybrid", piece_length=PIECE)
    lying = right.raw.replace(right.pieces, right.pieces[:20] + bytes(20))
    (file,) = verify(Torrent.parse(lying), str(tmp_path)).files
    assert (file.state, file.bad) == ("bad", ((1, 1),))
    assert "contradict" in file.reason
