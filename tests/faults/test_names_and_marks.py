"""Executable bits, times and symbolic links of a torrent, and names that only some disks tell apart."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.commands import get, run
from support.disks import folding_disk
from support.scripted_peer import ScriptedPeer
from support.torrents import Made, make, tree

from btfast._bencode import decode, encode
from btfast.metainfo.torrent import Torrent
from btfast.storage import folding
from btfast.storage.folding import folds, placed

Change = Callable[[list[dict[str, Any]]], None]


def changed(made: Made, change: Change) -> Made:
    """The torrent after `change` of its list of files."""
    torrent = decode(made.torrent)
    change([{key.decode(): value for key, value in file.items()} for file in torrent[b"info"][b"files"]])
    info = torrent[b"info"]
    files = [{key.decode(): value for key, value in file.items()} for file in info[b"files"]]
    change(files)
    info[b"files"] = files
    return made._replace(torrent=encode(torrent), info_hash=hashlib.sha1(encode(info)).digest())


def marked(files: list[dict[str, Any]]) -> None:
    files[0] |= {"attr": "x", "mtime": 1_000_000_000}
    files[1] |= {"attr": "hx"}
    files[2] |= {"mtime": 12}
    files += [
        {"path": ["bin", "link"], "length": 0, "attr": "l", "symlink path": ["data", "b"]},
        {"path": ["folder"], "length": 0, "attr": "l", "symlink path": ["data"]},
        {"path": ["over"], "length": 0, "attr": "l", "symlink path": ["folder", "b"]},
        {"path": ["out"], "length": 0, "attr": "l", "symlink path": ["..", "..", "..", "etc", "passwd"]},
        {"path": ["gone"], "length": 0, "attr": "l", "symlink path": ["nothing"]},
    ]


MADE = changed(make({"bin/a": 70_000, "data/b": 10, "data/empty": 0}, name="t"), marked)
CONTENTS = make({"bin/a": 70_000, "data/b": 10, "data/empty": 0}, name="t").contents()


def test_modes_times_and_links_are_as_the_torrent_says(tmp_path: Path) -> None:
    with ScriptedPeer(MADE) as peer:
        words = get(MADE.save(tmp_path), peers=(peer.address,))
        done = run(tmp_path, *words)
        assert done.code == 0
        again = run(tmp_path, *words)
    links = {"t/bin/link": b"-> ../data/b", "t/over": b"-> folder/b"}
    found = tree(tmp_path / "out")
    assert {path: data for path, data in found.items() if path != "t/folder"} == CONTENTS | links
    assert os.readlink(tmp_path / "out/t/folder") == "data"
    assert (tmp_path / "out/t/over").read_bytes() == CONTENTS["t/data/b"]
    warned = [message for message in done.warnings if "is left out" in message]
    assert len(warned) == 2
    gone = tmp_path / "out/t/gone"
    assert warned[1] == f"{gone}: the link is left out: No such file or directory: it may lead to what is not there"
    assert sorted(done.one("complete")["files"]) == sorted([*CONTENTS, *links, "t/folder"])
    status = {path: (tmp_path / "out" / path).stat() for path in CONTENTS}
    assert status["t/bin/a"].st_mtime == 1_000_000_000
    assert status["t/data/empty"].st_mtime == 12
    assert status["t/data/b"].st_mtime > 1_600_000_000
    executable = {path: bool(entry.st_mode & stat.S_IXUSR) for path, entry in status.items()}
    assert executable == {"t/bin/a": True, "t/data/b": True, "t/data/empty": False}
    assert (again.code, again.one("complete")["downloaded"]) == (0, 0)
    assert tree(tmp_path / "out") == found


def test_a_link_is_made_only_to_what_was_chosen_and_never_through_one_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/b").write_bytes(b"not of this torrent")
    (tmp_path / "out/t").mkdir(parents=True)
    (tmp_path / "out/t/data").symlink_to(tmp_path / "secret")
    (tmp_path / "out/t/folder").write_bytes(b"mine")
    with ScriptedPeer(MADE) as peer:
        done = run(tmp_path, *get(MADE.save(tmp_path), "--exclude", "data", peers=(peer.address,)))
    assert done.code == 0
    assert done.one("complete")["files"] == ["t/bin/a"]
    reasons = [message.split(": ")[2] for message in done.warnings if "is left out" in message]
    assert reasons == ["Not a directory", "File exists", "Not a directory", *["No such file or directory"] * 2]
    assert (tmp_path / "out/t/folder").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path / "out/t/bin")) == ["a"]


CLASHING = make({"Readme": 10, "README": 20, "docs/a": 5, "Docs/A": 6, "e\u0301": 1, "\u00e9": 2}, name="case")


def test_names_that_differ_in_case_stay_as_they_are_where_that_counts(tmp_path: Path) -> None:
    with ScriptedPeer(CLASHING) as peer:
        done = run(tmp_path, *get(CLASHING.save(tmp_path), peers=(peer.address,)))
    assert (done.code, done.warnings) == (0, [])
    assert tree(tmp_path / "out") == CLASHING.contents()


def test_a_disk_that_ignores_case_gets_other_names_and_they_are_told(tmp_path: Path) -> None:
    with folding_disk(tmp_path / "disk") as disk, ScriptedPeer(CLASHING) as peer:
        done = run(tmp_path, *get(CLASHING.save(tmp_path), "-o", disk, peers=(peer.address,)))
        assert done.code == 0
        assert "the name 'README' is unsafe or clashes: written as 'README.1'" in done.warnings
        assert sorted(tree(disk).values()) == sorted(CLASHING.contents().values())


def test_the_names_for_such_a_disk_clash_nowhere() -> None:
    torrent = Torrent.parse(CLASHING.torrent)
    other = torrent.where_case_is_ignored()
    assert ["/".join(file.path) for file in other.files] == ["Readme", "README.1", "docs/a", "Docs/A.1", "e\u0301", "\u00e9.1"]
    assert other.renamed == (("README", "README.1"), ("Docs/A", "Docs/A.1"), ("\u00e9", "\u00e9.1"))
    assert other.where_case_is_ignored().files == other.files
    assert other.info_hash == torrent.info_hash


def test_looking_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not folds(str(tmp_path / "not/there/yet"))
    assert os.listdir(tmp_path) == []
    (tmp_path / "A").touch()
    assert not folds(str(tmp_path), writing=False)
    assert os.listdir(tmp_path) == ["A"]
    monkeypatch.setattr(folding, "folds", lambda directory, *, writing: True)  # the kernel here may have no such disk
    assert placed(Torrent.parse(CLASHING.torrent), str(tmp_path)).renamed


def test_only_files_in_which_nothing_is_right_are_renamed(tmp_path: Path) -> None:
    made = make({"a": 70_000, "b": 270_000, "c": 70_000, "d": 270_000}, name="t")
    contents = made.contents()
    (tmp_path / "out/t").mkdir(parents=True)
    (tmp_path / "out/t/a").write_bytes(b"notes")
    (tmp_path / "out/t/b").write_bytes(contents["t/b"][:269_000] + bytes(1000))
    (tmp_path / "out/t/c").write_bytes(b"x" * 70_000)
    (tmp_path / "out/t/d").write_bytes(contents["t/d"])
    with ScriptedPeer(made) as peer:
        done = run(tmp_path, *get(made.save(tmp_path), peers=(peer.address,)))
    assert done.code == 0, done.err
    assert tree(tmp_path / "out") == contents | {"t/a.old": b"notes", "t/c.old": b"x" * 70_000}
