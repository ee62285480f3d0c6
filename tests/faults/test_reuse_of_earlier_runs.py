"""Files of torrents that earlier runs have completed are copied to torrents that have the same: nothing of them is fetched."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from hashlib import sha1
from pathlib import Path

import pytest
from support.commands import Outcome, get, run
from support.scripted_peer import ScriptedPeer
from support.torrents import Made, make, tree
from support.web_server import WebServer

from btfast._bencode import decode, encode
from btfast.metainfo.torrent import Torrent

SHARED = random.Random(7).randbytes(700_000)


def of(files: dict[str, bytes], name: str, **hints: Iterable[bytes]) -> Made:
    """A v1 torrent of these very files, with hints in its info dict (BEP 38)."""
    made = make({path: len(content) for path, content in files.items()}, name=name)
    data = b"".join(files.values())
    hashes = [sha1(data[at : at + made.piece_length]).digest() for at in range(0, len(data), made.piece_length)]
    info = decode(made.torrent)[b"info"] | {b"pieces": b"".join(hashes)}
    info |= {key.encode(): list(value) for key, value in hints.items()}
    return made._replace(torrent=encode({"info": info}), info_hash=sha1(encode(info)).digest(), data=data)


def fetch(root: Path, made: Made, *more: str) -> Outcome:
    with ScriptedPeer(made) as peer:
        done = run(root, *get(made.save(root), *more, peers=(peer.address,)))
    assert done.code == 0, done.err
    assert tree(root / "out").items() >= made.contents().items()
    return done


OLD = of({"big": SHARED, "one": b"1" * 9000}, "old")
NEW = {"two": b"2" * 9000, "below/big": SHARED}  # its pieces begin elsewhere


@pytest.mark.parametrize("hint", ["it names the old one", "it is named", "both are of a collection", "none"])
def test_torrents_that_are_called_similar(hint: str, tmp_path: Path) -> None:
    old, new = OLD, of(NEW, "new")
    if hint == "it names the old one":
        new = of(NEW, "new", similar=[OLD.info_hash])
    elif hint == "it is named":
        old = of({"big": SHARED, "one": b"1" * 9000}, "old", similar=[new.info_hash])
    elif hint == "both are of a collection":
        old = of({"big": SHARED, "one": b"1" * 9000}, "old", collections=[b"set"])
        new = of(NEW, "new", collections=[b"other", b"set"])
    fetch(tmp_path, old)
    before = {path: path.stat() for path in (tmp_path / "out/old").iterdir()}
    complete = fetch(tmp_path, new).one("complete")
    if hint == "none":
        assert complete["reused"] == 0
        return
    assert complete["reused"] == 700_000
    assert complete["downloaded"] == 65_536
    for path, status in before.items():
        assert (path.stat().st_mtime_ns, path.stat().st_nlink) == (status.st_mtime_ns, 1)
    assert (tmp_path / "out/new/below/big").stat().st_ino != (tmp_path / "out/old/big").stat().st_ino


@pytest.mark.parametrize("version", ["2", "hybrid"])
def test_files_of_the_same_root_whatever_they_are_called(version: str, tmp_path: Path) -> None:
    files = {"first": {"big": SHARED, "one": b"1" * 9000}, "second": {"another name": SHARED, "two": b"2" * 9000}}
    for name, contents in files.items():
        for path, data in contents.items():
            (tmp_path / "seed" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "seed" / name / path).write_bytes(data)
        torrent = Torrent.create(tmp_path / "seed" / name, version=version, piece_length=65536)
        (tmp_path / f"{name}.torrent").write_bytes(torrent.raw)
    served = {f"/{name}/{path}": data for name, contents in files.items() for path, data in contents.items()}
    with WebServer(served) as server:
        first = run(tmp_path, *get("first.torrent", "--web-seed", server.url))
        assert (first.code, first.one("complete")["reused"]) == (0, 0)
        before = len(server.requests)
        second = run(tmp_path, *get("second.torrent", "--web-seed", server.url))
        assert {request.path for request in server.requests[before:]} == {"/second/two"}
    assert (second.code, second.one("complete")["reused"]) == (0, 700_000)
    assert tree(tmp_path / "out") == tree(tmp_path / "seed")


@pytest.mark.parametrize("change", ["touched", "cut", "another in its place", "link"])
def test_a_file_that_is_not_as_it_was_is_left_alone(change: str, tmp_path: Path) -> None:
    fetch(tmp_path, OLD)
    path = tmp_path / "out/old/big"
    if change == "touched":
        os.utime(path)
    elif change == "cut":
        os.truncate(path, 5)
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere") if change == "link" else path.write_bytes(SHARED)
    complete = fetch(tmp_path, of(NEW, "new", similar=[OLD.info_hash])).one("complete")
    assert complete["reused"] == 0


def test_one_that_was_changed_and_given_its_old_time_is_copied_and_what_is_wrong_is_fetched(tmp_path: Path) -> None:
    fetch(tmp_path, OLD)
    path = tmp_path / "out/old/big"
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(200_000)
        file.write(b"changed")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    complete = fetch(tmp_path, of(NEW, "new", similar=[OLD.info_hash])).one("complete")
    assert complete["reused"] == 700_000
    assert complete["downloaded"] == 2 * 65_536
    assert path.read_bytes()[200_000:200_007] == b"changed"


def test_only_what_was_complete_is_kept_in_mind(tmp_path: Path) -> None:
    with ScriptedPeer(OLD) as peer:
        assert run(tmp_path, *get(OLD.save(tmp_path), "--select", "one", peers=(peer.address,))).code == 0
    assert fetch(tmp_path, of(NEW, "new", similar=[OLD.info_hash])).one("complete")["reused"] == 0


def test_some_files_of_a_torrent_do_as_well(tmp_path: Path) -> None:
    with ScriptedPeer(OLD) as peer:
        assert run(tmp_path, *get(OLD.save(tmp_path), "--select", "big", peers=(peer.address,))).code == 0
    assert fetch(tmp_path, of(NEW, "new", similar=[OLD.info_hash])).one("complete")["reused"] == 700_000
