"""Every option of `btfast create` on the command line, and what libtorrent reads in the torrent that comes of it."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest
from support.commands import run

from btfast._bencode import decode

FLAGS = lt.file_flags_t
K32 = 32_768
DAY = 1_580_551_200

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the one way to ask libtorrent for links and flags


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = random.Random(3)
    for path, length in {"run": 70_000, "sub/b": 20_000, ".dot": 9000, "z.log": 50_000}.items():
        (tmp_path / "t" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / path).write_bytes(rng.randbytes(length))
        os.utime(tmp_path / "t" / path, (DAY, DAY))
    (tmp_path / "t/run").chmod(0o755)
    (tmp_path / "t/link").symlink_to("sub/b")
    return tmp_path


def create(root: Path, *words: str | Path) -> tuple[lt.torrent_info, dict[bytes, Any]]:
    """What libtorrent makes of it, and all that it has."""
    done = run(root, "create", "t", "-o", "t.torrent", "--force", *words)
    assert (done.code, done.err) == (0, "")
    raw = (root / "t.torrent").read_bytes()
    return lt.torrent_info(decode(raw)), decode(raw)


def files(info: lt.torrent_info) -> dict[str, tuple[int, int]]:
    """Sizes and flags of those that are no pads, by path."""
    storage = info.files()
    return {
        storage.file_path(n).removeprefix("t/"): (storage.file_size(n), int(storage.file_flags(n)))
        for n in range(storage.num_files())
        if not storage.file_flags(n) & FLAGS.flag_pad_file
    }


def test_what_names_sources_and_people(root: Path) -> None:
    words = ["--tracker", "http://a/announce,udp://b:1/announce", "--tracker", "http://c/announce", "--comment", "ünder"]
    words += ["--web-seed", "http://w/one/", "--web-seed", "http://w/two/", "--http-seed", "http://h/seed.php"]
    words += ["--http-seed", "http://h/other", "--node", "h.example:5", "--node", "[::1]:6", "--source", "S", "--private"]
    info, top = create(root, *words, "--name", "other", "--update-url", "http://u/new")
    assert [(tracker.url, tracker.tier) for tracker in info.trackers()] == [
        ("http://a/announce", 0), ("udp://b:1/announce", 0), ("http://c/announce", 1),
    ]  # fmt: skip
    assert {seed["url"] for seed in info.web_seeds()} >= {"http://w/one/", "http://w/two/"}
    assert top[b"httpseeds"] == [b"http://h/seed.php", b"http://h/other"]
    assert info.nodes() == [("h.example", 5), ("::1", 6)]
    assert (info.comment(), info.name(), info.priv()) == ("ünder", "other", True)
    assert top[b"info"][b"source"] == b"S"
    assert top[b"info"][b"update-url"] == b"http://u/new"


def test_what_names_relatives(root: Path) -> None:
    (root / "t2").mkdir()
    (root / "t2/x").write_bytes(b"x")
    assert run(root, "create", "t2", "--version", "hybrid").code == 0
    other = lt.torrent_info(decode((root / "t2.torrent").read_bytes()))
    info, _ = create(root, "--similar", "ab" * 20, "--similar", "t2.torrent", "--collection", "one", "--collection", "two")
    assert [str(similar) for similar in info.similar_torrents()] == ["ab" * 20, str(other.info_hashes().v1)]
    assert info.collections() == ["one", "two"]


@pytest.mark.parametrize("version", ["1", "2", "hybrid"])
def test_version_and_size_of_pieces(version: str, root: Path) -> None:
    info, _ = create(root, "--version", version, "--piece-size", "32KiB")
    assert (info.info_hashes().has_v1(), info.info_hashes().has_v2()) == (version != "2", version != "1")
    assert info.piece_length() == K32


def test_dates_and_times_only_when_asked_for(root: Path) -> None:
    info, top = create(root)
    assert b"creation date" not in top
    assert not any(b"mtime" in file for file in top[b"info"][b"files"])
    info, top = create(root, "--mtime", "--date")
    assert info.creation_date() == top[b"creation date"] > DAY
    times = {b"/".join(file[b"path"]): file[b"mtime"] for file in top[b"info"][b"files"]}
    assert {times[path] for path in (b"run", b"sub/b", b".dot", b"z.log")} == {DAY}
    assert times[b"link"] > DAY


def test_marks_of_files(root: Path) -> None:
    found = files(create(root)[0])
    assert found["run"][1] & FLAGS.flag_executable
    assert not found[".dot"][1] & FLAGS.flag_hidden
    assert found["link"][1] & FLAGS.flag_symlink
    found = files(create(root, "--dot-hidden")[0])
    assert found[".dot"][1] & FLAGS.flag_hidden
    assert found["run"][1] & FLAGS.flag_executable
    found = files(create(root, "--no-attributes")[0])
    assert not found["run"][1] & FLAGS.flag_executable


def test_what_is_left_out_and_what_links_lead_to(root: Path) -> None:
    found = files(create(root, "--exclude", "*.log", "--exclude", "sub/b")[0])
    assert found.keys() == {"run", ".dot", "link"}
    found = files(create(root, "--follow-links")[0])
    assert found["link"] == (20_000, 0)


@pytest.mark.parametrize("words", [(), ("--align",)])
def test_files_begin_with_pieces_where_that_is_asked_for(words: tuple[str, ...], root: Path) -> None:
    info, _ = create(root, "--piece-size", "32KiB", *words)
    storage = info.files()
    begins = [
        storage.file_offset(n) % K32 == 0
        for n in range(storage.num_files())
        if storage.file_size(n) and not storage.file_flags(n) & FLAGS.flag_pad_file
    ]
    assert all(begins) is bool(words)


def test_it_goes_to_stdout_and_is_the_same_every_time_with_any_number_of_workers(root: Path) -> None:
    create(root, "--version", "hybrid")
    first = (root / "t.torrent").read_bytes()
    create(root, "--version", "hybrid", "--workers", "1")
    assert (root / "t.torrent").read_bytes() == first
