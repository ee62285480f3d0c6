"""Which files of this machine are taken for those of a torrent, and what is copied of them."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from btfast._bencode import encode
from btfast.metainfo import merkle
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout
from btfast.storage.messages import OpenTorrent
from btfast.storage.reuse import LocalFiles, take_files

PIECE = 32768
DATA = {"a": 5 * PIECE + 77, "b": PIECE, "c": 40, "d": 2 * PIECE}


def contents(lengths: Mapping[str, int]) -> dict[str, bytes]:
    return {name: random.Random(name).randbytes(length) for name, length in lengths.items()}


def v1(files: dict[str, bytes], *, padded: bool = False) -> Torrent:
    import hashlib

    stream, entries = b"", []
    for name, data in files.items():
        entries.append({"path": [name], "length": len(data)})
        stream += data
        if padded and len(stream) % PIECE:
            gap = -len(stream) % PIECE
            entries.append({"path": [".pad", str(gap)], "length": gap, "attr": "p"})
            stream += bytes(gap)
    hashes = b"".join(hashlib.sha1(stream[at : at + PIECE]).digest() for at in range(0, len(stream), PIECE))
    info = {"name": "t", "piece length": PIECE, "pieces": hashes, "files": entries}
    return Torrent.parse(encode({"info": info}), what="test")


def v2(files: dict[str, bytes]) -> Torrent:
    level = merkle.piece_level(PIECE)
    tree, layers = {}, {}
    for name, data in files.items():
        leaves = merkle.leaf_hashes(data)
        root = merkle.root_of(leaves, 0, len(data))
        tree[name] = {"": {"length": len(data), "pieces root": root}}
        if len(data) > PIECE:
            layers[root] = merkle.raised(leaves, 0, level)
    info = {"name": "t", "piece length": PIECE, "meta version": 2, "file tree": tree}
    return Torrent.parse(encode({"info": info, "piece layers": layers}), what="test")


def layout_of(torrent: Torrent, directory: Path) -> Layout:
    directory.mkdir(exist_ok=True)
    files = range(len(torrent.files))
    return Layout(
        OpenTorrent(
            torrent=0, directory=str(directory), paths=[str(torrent.file_path(file)) for file in files],
            lengths=[file.length for file in torrent.files], pads=[file for file in files if torrent.files[file].pad],
            piece_length=PIECE, in_place=False, io="auto",
        )
    )  # fmt: skip


def kept(folder: Path, files: Mapping[str, bytes]) -> LocalFiles:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    local = LocalFiles()
    assert local.scan(str(folder)) == []
    assert len(local) == len(files)
    return local


@pytest.mark.parametrize("kind", [v1, v2, lambda files: v1(files, padded=True)], ids=["v1", "v2", "v1 padded"])
def test_files_are_known_by_their_pieces_and_not_by_their_names(tmp_path: Path, kind: object) -> None:
    files = contents(DATA)
    torrent: Torrent = kind(files)  # type: ignore[operator]
    local = kept(tmp_path / "old", {f"was {name}": data for name, data in files.items() if name != "c"})
    layout = layout_of(torrent, tmp_path / "out")
    reused = take_files(torrent, layout, local, range(len(torrent.files)))
    names = {torrent.files[file].path[0] for file in reused.files}
    # Unpadded v1: of b and of d no piece lies in them alone but one of d's.
    assert names == ({"a", "d"} if kind is v1 else {"a", "b", "d"})
    assert reused.bytes == sum(len(files[name]) for name in names)
    assert reused.problems == []
    for name in names:
        assert (tmp_path / "out" / "t" / f"{name}.part").read_bytes() == files[name]
    assert len(list((tmp_path / "out" / "t").iterdir())) == len(names)


def test_a_file_without_a_piece_of_its_own_is_known_by_its_name(tmp_path: Path) -> None:
    files = contents(DATA)
    local = kept(tmp_path / "old", {"x": b"z" * 40, "c": files["c"]})
    layout = layout_of(v1(files), tmp_path / "out")
    assert take_files(v1(files), layout, local, range(4)).files == [2]
    assert (tmp_path / "out" / "t" / "c.part").read_bytes() == files["c"]


def test_another_file_of_the_same_size_is_left_where_it_is(tmp_path: Path) -> None:
    files = contents({"a": 5 * PIECE + 77})
    layout = layout_of(v1(files), tmp_path / "out")
    assert take_files(v1(files), layout, kept(tmp_path / "old", {"a": bytes(5 * PIECE + 77)}), [0]).files == []
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("place", [0, PIECE, 5 * PIECE - 1, 5 * PIECE + 76])
def test_of_nearly_the_same_files_the_better_one_is_taken(tmp_path: Path, place: int) -> None:
    files = contents({"a": 5 * PIECE + 77})
    near, far = bytearray(files["a"]), bytearray(files["a"])
    near[place] ^= 1
    far[: 4 * PIECE] = bytes(4 * PIECE)
    layout = layout_of(v1(files), tmp_path / "out")
    local = kept(tmp_path / "old", {"a": bytes(far), "near": bytes(near), "other": bytes(5 * PIECE + 77)})
    assert take_files(v1(files), layout, local, [0]).files == [0]
    assert (tmp_path / "out" / "t" / "a.part").read_bytes() == near


def test_a_file_that_has_changed_since_it_was_found_is_left_out(tmp_path: Path) -> None:
    files = contents({"a": 3 * PIECE, "b": 2 * PIECE})
    local = kept(tmp_path / "old", files)
    (tmp_path / "old" / "a").write_bytes(b"short")
    (tmp_path / "old" / "b").unlink()
    assert take_files(v1(files), layout_of(v1(files), tmp_path / "out"), local, [0, 1]) == ([], 0, [])


@pytest.mark.parametrize("refusal", [errno.EXDEV, errno.EINVAL, errno.ENOSYS])
def test_where_the_kernel_does_not_copy_the_bytes_are_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    files = contents({"a": 100 * PIECE + 5})
    assert take_files(v1(files), layout_of(v1(files), tmp_path / "out"), kept(tmp_path / "old", files), [0]).files == [0]
    assert (tmp_path / "out" / "t" / "a.part").read_bytes() == files["a"]


def test_a_copy_that_fails_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", fail)
    monkeypatch.setattr("btfast.storage.reuse._cloned", lambda source, target: False)
    files = contents({"a": 3 * PIECE})
    reused = take_files(v1(files), layout_of(v1(files), tmp_path / "out"), kept(tmp_path / "old", files), [0])
    assert reused.files == []
    assert len(reused.problems) == 1
    assert "No space left" in reused.problems[0]
    assert list((tmp_path / "out" / "t").iterdir()) == []


def test_a_copy_ends_when_it_is_not_wanted_any_more_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btfast.storage.reuse._cloned", lambda source, target: False)
    monkeypatch.setattr("btfast.storage.reuse._STRETCH", PIECE)
    files = contents({"a": 8 * PIECE, "b": 3 * PIECE})
    looks = iter([False, False, False, True, True, True])
    reused = take_files(
        v1(files), layout_of(v1(files), tmp_path / "out"), kept(tmp_path / "old", files), [0, 1], lambda: next(looks)
    )
    assert reused.files == []
    assert list((tmp_path / "out" / "t").iterdir()) == []


@pytest.mark.parametrize("kind", [v1, v2])
def test_all_parts_of_a_long_series_are_found(tmp_path: Path, kind: object) -> None:
    files = contents({f"part{number:02}": 2 * PIECE for number in range(60)})
    torrent: Torrent = kind(files)  # type: ignore[operator]
    names = [f"was {name}" for name in files]
    random.Random(4).shuffle(names)
    local = kept(tmp_path / "old", dict(zip(names, files.values(), strict=True)))
    layout = layout_of(torrent, tmp_path / "out")
    assert take_files(torrent, layout, local, range(60)).files == list(range(60))
    for name, data in files.items():
        assert (tmp_path / "out" / "t" / f"{name}.part").read_bytes() == data
