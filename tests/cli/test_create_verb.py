"""`btfast create` as a user runs it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Command
from support.commands import PROMISED, environment, running
from swarm_of_one import until

import btfast
from btfast._bencode import decode
from btfast.cli.create import write
from btfast.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    (root / "a").write_bytes(os.urandom(100_000))
    (root / "b").write_bytes(os.urandom(50_000))
    return root


def test_a_torrent_is_written_that_its_data_fits(btfast_command: Command, folder: Path, tmp_path: Path) -> None:
    done = btfast_command("create", "data")
    assert (done.code, done.err) == (0, "")
    torrent = btfast.Torrent.load(tmp_path / "data.torrent")
    assert done.out.startswith(f"data.torrent: 146 KiB, 10 pieces of 16.0 KiB, info-hash {torrent.info_hash.hex()}, in ")
    assert btfast_command("check", "data.torrent").code == 0
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("version", ["1", "2", "hybrid"])
def test_options_reach_the_torrent(btfast_command: Command, folder: Path, tmp_path: Path, version: str) -> None:
    words = ["--version", version, "--piece-size", "32KiB", "--private", "--comment", "c", "--source", "s", "--name", "n"]
    words += ["--tracker", "http://a/announce", "--tracker", "udp://b:1,udp://c:2", "--web-seed", "http://w/x"]
    words += ["--node", "h:5", "--similar", "ab" * 20, "--collection", "k", "--exclude", "b", "-o", "x.torrent", "--json"]
    done = btfast_command("create", "data", *words)
    assert done.code == 0, done.err
    torrent = btfast.Torrent.load(tmp_path / "x.torrent")
    assert (torrent.name, torrent.private, torrent.comment, torrent.source) == ("n", True, "c", "s")
    assert torrent.announce_list == (("http://a/announce",), ("udp://b:1", "udp://c:2"))
    assert (torrent.info_hash_v1 is not None, torrent.info_hash_v2 is not None) == (version != "2", version != "1")
    assert [file.path for file in torrent.files if not file.pad] == [("a",)]
    info = decode(torrent.info_raw)
    assert (info[b"similar"], info[b"collections"]) == ([b"\xab" * 20], [b"k"])
    assert torrent.creation_date is None
    *progress, told = done.objects
    assert {event["event"] for event in progress} <= {"progress"}
    assert (told["event"], told["info_hash"], told["piece_length"]) == ("created", torrent.info_hash.hex(), 32768)
    assert told["info_hash_v2"] == (torrent.info_hash_v2.hex() if torrent.info_hash_v2 else None)


def test_a_date_only_when_asked_for(btfast_command: Command, folder: Path, tmp_path: Path) -> None:
    btfast_command("create", "data", "--date", env={"SOURCE_DATE_EPOCH": "12345"})
    assert btfast.Torrent.load(tmp_path / "data.torrent").creation_date == 12345


def test_nothing_is_replaced_unless_forced(btfast_command: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data.torrent").write_text("precious")
    done = btfast_command("create", "data")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "data.torrent: exists" in done.err
    assert (tmp_path / "data.torrent").read_text() == "precious"
    assert btfast_command("create", "data", "--force").code == 0
    btfast.Torrent.load(tmp_path / "data.torrent")


@pytest.mark.parametrize("there", [False, True])
def test_a_file_system_without_links_takes_the_torrent_and_nothing_is_replaced_there_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    target = tmp_path / "x.torrent"
    if there:
        target.write_text("precious")
        with pytest.raises(InputError, match="exists"):
            write(str(target), b"new", force=False)
    else:
        write(str(target), b"new", force=False)
    assert target.read_bytes() == (b"precious" if there else b"new")
    assert os.listdir(tmp_path) == ["x.torrent"]


def test_it_can_go_to_stdout(btfast_command: Command, folder: Path, tmp_path: Path) -> None:
    btfast_command("create", "data", "-o", "x")
    words = [sys.executable, "-m", "btfast", "create", "data", "-o", "-"]
    done = subprocess.run(words, cwd=tmp_path, env=environment(tmp_path), capture_output=True, check=True)
    assert done.stdout == (tmp_path / "x").read_bytes()
    assert not (tmp_path / "data.torrent").exists()


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("nowhere",), 5, "nowhere: no such file or folder"),
        (("data", "-o", "data/x.torrent"), 2, "would be in the folder"),
        (("data", "-o", "data"), 2, "a folder"),
        (("data/a", "-o", "data/a", "--force"), 2, "is what the torrent is to be made of"),
        (("data", "-o", "no/where.torrent"), 6, "cannot be written"),
        (("data", "-o", "-", "--json"), 2, "--json"),
        (("data", "--version", "3"), 2, "--version"),
        (("data", "--piece-size", "3MiB"), 2, "not a power of two"),
        (("data", "--piece-size", "much"), 2, "not understood"),
        (("data", "--tracker", "x"), 2, "tracker 'x'"),
        (("data", "--similar", "x"), 2, "x"),
        (("data", "--similar", "no.torrent"), 5, "no.torrent"),
        (("data", "--workers", "1000"), 2, "--workers"),
        (("data", "--name", "x\udcff"), 2, "not UTF-8"),
        (("data", "--comment", "x\udcff"), 2, "not UTF-8"),
        (("data", "--source", "x\udcff"), 2, "not UTF-8"),
        (("data", "--collection", "x\udcff"), 2, "not UTF-8"),
        ((), 2, "PATH"),
    ],
)
def test_wrong_use_is_one_line(
    btfast_command: Command, folder: Path, tmp_path: Path, words: tuple[str, ...], code: int, part: str
) -> None:
    done = btfast_command("create", *words)
    assert (done.code, done.err.count("\n"), done.out) == (code, 1, "")
    assert part in done.err
    assert not (tmp_path / "data.torrent").exists()


def test_names_that_will_change_elsewhere_are_told(btfast_command: Command, folder: Path) -> None:
    (folder / "aux").write_bytes(b"x")
    done = btfast_command("create", "data")
    assert done.code == 0
    assert done.err.startswith("btfast: warning: 1 name will be changed")


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 38)
    with running(tmp_path, "create", "hole", "--log", "log", "-v") as command:
        until(lambda: len(os.listdir(f"/proc/{command.process.pid}/task")) > 1, "it hashes in threads")
        command.process.send_signal(signal.SIGINT)
        _, err = command.process.communicate(timeout=PROMISED)
        assert (command.process.returncode, err.count("\n")) == (7, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hole", "log"]
