"""Making .torrent files: what is in them, and what is refused."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path
from typing import Any, Literal

import pytest

from btfast._bencode import decode
from btfast.errors import Error, InputError, SourceNotFoundError, StorageError
from btfast.metainfo import create
from btfast.metainfo.create import Recipe, automatic_piece_length, create_torrent
from btfast.metainfo.links import lead
from btfast.metainfo.torrent import Torrent

PIECE = 16384


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files of all sorts."""
    rng = random.Random(3)
    root = tmp_path / "t"
    for path, size in {"b": 5, "a/x": 3 * PIECE, "a-x": PIECE, "Z": 0, "a/y": 700, ".dot": 9, "ü": 20}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(rng.randbytes(size))
    (root / "a/y").chmod(0o755)
    (root / "link").symlink_to("a/x")
    return root


def made(path: Path, **recipe: Any) -> dict[bytes, Any]:
    found: dict[bytes, Any] = decode(create_torrent(str(path), Recipe(piece_length=PIECE, **recipe)))
    return found


def paths(info: dict[bytes, Any]) -> list[str]:
    return [b"/".join(file[b"path"]).decode() for file in info[b"files"]]


def test_files_are_in_the_order_of_bep_52(folder: Path) -> None:
    info = made(folder)[b"info"]
    assert paths(info) == [".dot", "Z", "a/x", "a/y", "a-x", "b", "link", "ü"]
    hybrid = Torrent.parse(create_torrent(str(folder), Recipe(piece_length=PIECE, version="hybrid")))
    plain = Torrent.parse(create_torrent(str(folder), Recipe(piece_length=PIECE, version="2")))
    assert [file.path for file in hybrid.files if not file.pad] == [file.path for file in plain.files]


def test_the_same_files_give_the_same_bytes(folder: Path) -> None:
    first = create_torrent(str(folder), Recipe(version="hybrid"))
    for path in folder.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    assert create_torrent(str(folder), Recipe(version="hybrid"), threads=3) == first
    assert b"creation date" not in first


def test_attributes_links_and_times(folder: Path) -> None:
    files = {b"/".join(file[b"path"]): file for file in made(folder, dot_hidden=True)[b"info"][b"files"]}
    assert files[b"a/y"][b"attr"] == b"x"
    assert files[b".dot"][b"attr"] == b"h"
    assert files[b"link"] == {b"attr": b"l", b"length": 0, b"path": [b"link"], b"symlink path": [b"a", b"x"]}
    assert b"attr" not in files[b"a/x"]
    os.utime(folder / "b", (5, 5))
    files = {b"/".join(file[b"path"]): file for file in made(folder, attributes=False, mtime=True)[b"info"][b"files"]}
    assert b"attr" not in files[b"a/y"]
    assert files[b"b"][b"mtime"] == 5


def test_links_can_be_followed_or_left_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/f").write_bytes(bytes(100))
    (folder / "out").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="leads out of the folder"):
        made(folder)
    info = made(folder, follow_links=True)[b"info"]
    assert "out/f" in paths(info)
    assert {b"/".join(file[b"path"]): file[b"length"] for file in info[b"files"]}[b"link"] == 3 * PIECE
    assert "out/f" not in paths(made(folder, exclude=("out",))[b"info"])
    (folder / "loop").symlink_to(".")
    with pytest.raises(InputError, match="a folder that it is in"):
        made(folder, follow_links=True)
    (folder / "loop").unlink()
    (folder / "self").symlink_to(".")
    with pytest.raises(InputError, match="leads to no file or folder of the torrent"):
        made(folder, exclude=("out",))
    (folder / "self").unlink()
    (folder / "broken").symlink_to("nowhere")
    with pytest.raises(InputError, match="leads to no file"):
        made(folder, exclude=("out",))


@pytest.mark.parametrize("version", ["1", "2", "hybrid"])
def test_a_link_may_lead_to_a_folder_of_the_torrent(folder: Path, version: Literal["1", "2", "hybrid"]) -> None:
    (folder / "a/to").symlink_to("../a")
    torrent = Torrent.parse(create_torrent(str(folder), Recipe(piece_length=PIECE, version=version)))
    assert {file.path: file.symlink for file in torrent.files if file.symlink} == {("link",): ("a", "x"), ("a", "to"): ("a",)}
    assert all(lead(torrent.files).values())


def test_a_time_before_1970_is_left_out(folder: Path) -> None:
    os.utime(folder / "b", (-5, -5))
    files = {b"/".join(file[b"path"]): file for file in made(folder, mtime=True)[b"info"][b"files"]}
    assert b"mtime" not in files[b"b"]
    assert b"mtime" in files[b"a/x"]


def test_a_link_by_way_of_another_out_of_the_folder_is_seen(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (folder / "up").symlink_to("..")
    (folder / "sly").symlink_to("up/f")
    with pytest.raises(InputError, match="leads out of the folder"):
        made(folder, exclude=("up",))


@pytest.mark.parametrize("pattern", ["b", "?", "a*"])
def test_names_are_left_out(folder: Path, pattern: str) -> None:
    left = {"b": {"b"}, "?": {"b", "Z", "ü", "a/x", "a/y"}, "a*": {"a/x", "a/y", "a-x"}}[pattern]
    assert set(paths(made(folder)[b"info"])) - set(paths(made(folder, exclude=(pattern,))[b"info"])) == left


def test_paths_are_left_out(folder: Path) -> None:
    assert set(paths(made(folder)[b"info"])) - set(paths(made(folder, exclude=("a/*",))[b"info"])) == {"a/x", "a/y"}


def test_every_key_stands_where_its_bep_says(folder: Path) -> None:
    top = made(
        folder,
        name="other",
        announce_list=(("http://a/announce",), ("udp://b:1", "udp://c:2")),
        url_list=("http://w/",),
        httpseeds=("http://h/",),
        nodes=("node.example:6881", "[::1]:5"),
        private=True,
        source="SRC",
        comment="héllo",
        similar=(bytes(range(20)),),
        collections=("c1", "c2"),
        update_url="http://u/x.torrent",
        creation_date=7,
    )
    info = top.pop(b"info")
    assert top == {
        b"announce": b"http://a/announce",
        b"announce-list": [[b"http://a/announce"], [b"udp://b:1", b"udp://c:2"]],
        b"comment": "héllo".encode(),
        b"created by": top[b"created by"],
        b"creation date": 7,
        b"httpseeds": [b"http://h/"],
        b"nodes": [[b"node.example", 6881], [b"::1", 5]],
        b"url-list": [b"http://w/"],
    }
    assert top[b"created by"].startswith(b"btfast ")
    for key in (b"files", b"pieces"):
        del info[key]
    assert info == {
        b"collections": [b"c1", b"c2"],
        b"name": b"other",
        b"piece length": PIECE,
        b"private": 1,
        b"similar": [bytes(range(20))],
        b"source": b"SRC",
        b"update-url": b"http://u/x.torrent",
    }


def test_a_single_file_has_no_list(folder: Path) -> None:
    info = made(folder / "a/y", version="hybrid")[b"info"]
    assert (info[b"length"], info[b"name"], info[b"attr"]) == (700, b"y", b"x")
    assert b"files" not in info
    assert info[b"file tree"][b"y"][b""][b"length"] == 700
    assert info[b"pieces"] == hashlib.sha1((folder / "a/y").read_bytes()).digest()


def test_v1_files_can_begin_with_a_piece(folder: Path) -> None:
    torrent = Torrent.parse(create_torrent(str(folder), Recipe(piece_length=PIECE, align=True)))
    starts = [torrent.geometry.file_offset(n) for n, file in enumerate(torrent.files) if file.length and not file.pad]
    assert all(start % PIECE == 0 for start in starts)
    assert not torrent.files[-1].pad


@pytest.mark.parametrize(
    ("total", "expected"),
    [(1, 16384), (32 << 20, 32768), (1 << 30, 1 << 20), (4 << 30, 4 << 20), (100 << 30, 16 << 20), (1 << 50, 16 << 20)],
)
def test_the_piece_size_follows_from_the_amount_of_data(total: int, expected: int) -> None:
    assert automatic_piece_length(total) == expected


@pytest.mark.parametrize(
    ("recipe", "part"),
    [
        ({"version": "3"}, "no such version"),
        ({"piece_length": 1000}, "not a power of two"),
        ({"piece_length": 8192}, "not a power of two"),
        ({"piece_length": 1 << 29}, "not a power of two"),
        ({"name": "a/b"}, "no file can be called so"),
        ({"name": ".."}, "no file can be called so"),
        ({"announce_list": (("nonsense",),)}, "tracker 'nonsense'"),
        ({"announce_list": (("http://",),)}, "tracker"),
        ({"url_list": ("udp://x:1",)}, "web seed"),
        ({"update_url": "x"}, "update URL"),
        ({"nodes": ("x",)}, "address 'x'"),
        ({"similar": (b"short",)}, "not an info-hash"),
        ({"creation_date": -1}, "creation date"),
        ({"exclude": ("*",)}, "nothing to hash"),
    ],
)
def test_what_no_client_could_use_is_refused(folder: Path, recipe: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError, match=part):
        create_torrent(str(folder), Recipe(**recipe))


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        made(tmp_path / "nowhere")
    (tmp_path / "t").mkdir()
    with pytest.raises(InputError, match="nothing to hash"):
        made(tmp_path / "t")
    (tmp_path / "t/empty").touch()
    with pytest.raises(InputError, match="nothing to hash"):
        made(tmp_path / "t")
    os.mkfifo(tmp_path / "t/pipe")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        made(tmp_path / "t")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        made(tmp_path / "t/pipe")
    (tmp_path / "t/pipe").unlink()
    (tmp_path / "t" / os.fsdecode(b"\xff")).touch()
    with pytest.raises(InputError, match="not UTF-8"):
        made(tmp_path / "t")


def test_a_file_that_changes_meanwhile_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is made between the listing and the reading, and between the reading and the last look."""
    real = create.sweep_pieces

    def shorter(*arguments: Any) -> Any:
        os.truncate(folder / "a/x", 100)
        return real(*arguments)

    def touched(*arguments: Any) -> Any:
        found = real(*arguments)
        os.utime(folder / "b", (9, 9))
        return found

    for change in (touched, shorter):
        monkeypatch.setattr(create, "sweep_pieces", change)
        with pytest.raises(StorageError, match="changed while it was hashed"):
            made(folder)


def test_deep_folders_are_refused_before_they_break_a_decoder(tmp_path: Path) -> None:
    deep = tmp_path / "t" / "/".join("d" * 60)
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"x")
    with pytest.raises(InputError, match="folders deep"):
        made(tmp_path / "t", version="2")
    legal = tmp_path / "u" / "/".join("d" * 48)
    legal.mkdir(parents=True)
    (legal / "f").write_bytes(b"x")
    assert Torrent.parse(create_torrent(str(tmp_path / "u"), Recipe(version="2"))).piece_count == 1


def test_torrent_create_returns_the_value(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    torrent = Torrent.create(
        folder,
        version="hybrid",
        trackers=["http://a/announce", ["udp://b:1", "udp://c:2"]],
        web_seeds=["http://w/"],
        progress=lambda done, total: seen.append((done, total)),
        workers=2,
        comment="c",
    )
    assert torrent.announce_list == (("http://a/announce",), ("udp://b:1", "udp://c:2"))
    assert (torrent.comment, torrent.url_list) == ("c", ("http://w/",))
    assert torrent.info_hash_v1 is not None
    assert torrent.info_hash_v2 is not None
    assert seen[-1][0] == seen[-1][1] == torrent.total_length
    assert issubclass(InputError, Error)
