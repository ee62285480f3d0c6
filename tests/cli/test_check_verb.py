"""`btfast check` as a user runs it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from command_line import Command
from support.commands import LOCAL, PROMISED, running
from support.torrents import Made, assert_arrived, make, tree
from swarm_of_one import seeding

import btfast
from btfast._bencode import encode

FILES = {"a": 200_000, "b": 70_000, "c": 0}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    found = make(FILES, name="t")
    found.lay_out(tmp_path / "data")
    found.save(tmp_path)
    return found


def test_good_data_is_one_line_and_exit_code_0(btfast_command: Command, made: Made) -> None:
    done = btfast_command("check", "t.torrent", "data")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("t: 264 KiB, all good: checked in ")
    assert done.out.count("\n") == 1


def test_what_is_wrong_is_named_and_exit_code_4(btfast_command: Command, made: Made, tmp_path: Path) -> None:
    (tmp_path / "data/t/a").write_bytes(bytes(200_000))
    (tmp_path / "data/t/c").unlink()
    (tmp_path / "data/t/x\x1b").touch()
    done = btfast_command("check", "t.torrent", "data")
    assert done.code == 4
    assert done.out.splitlines() == ["t/a: bad: bad pieces 0-3", "t/b: bad: bad pieces 3", "t/c: missing", "t/x?: extra"]
    assert done.err == "btfast: error: t.torrent: 3 files of 3 not good: 4 pieces bad or missing: --repair fetches them\n"
    assert btfast_command("check", "-q", "t.torrent", "data").out == ""


def test_what_is_no_torrent_file_or_directory_is_called_by_its_name(btfast_command: Command, made: Made) -> None:
    done = btfast_command("check", "http://127.0.0.1:9/t.torrent", "data")
    assert (done.code, "a URL: `btfast get --metadata-only`" in done.err) == (2, True)
    done = btfast_command("check", "t.torrent", "t.torrent")
    assert (done.code, "t.torrent: a file: name the directory that it is in" in done.err) == (5, True)


def test_nothing_is_written(btfast_command: Command, made: Made, tmp_path: Path) -> None:
    (tmp_path / "data/t/b").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    btfast_command("check", "t.torrent", "data")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_json_has_an_object_a_file_and_one_end(btfast_command: Command, made: Made, tmp_path: Path) -> None:
    done = btfast_command("check", "--json", "t.torrent", "data")
    assert [event["event"] for event in done.objects if event["event"] != "progress"] == [
        "added", "metadata", "checked", "checked", "checked", "complete", "summary",
    ]  # fmt: skip
    (tmp_path / "data/t/b").write_bytes(bytes(60_000))
    (tmp_path / "data/t" / os.fsdecode(b"\xff")).touch()
    done = btfast_command("check", "--json", "t.torrent", "data")
    events = {event.get("path", event["event"]): event for event in done.objects}
    assert events["t/b"]["state"] == "wrong_size"
    assert (events["t/b"]["found"], events["t/b"]["missing"]) == (60_000, [[3, 4]])
    assert events["t/b"]["bad"] == []
    assert events["t/\ufffd"]["state"] == "extra"
    assert events["failed"]["exit_code"] == events["summary"]["exit_code"] == done.code == 4
    assert events["failed"]["done"] == 0


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("no.torrent", "data"), 5, "no such file"),
        (("t.torrent", "nowhere"), 5, "nowhere: no such directory"),
        (("t.torrent", "t.torrent"), 5, "t.torrent: a file: name the directory that it is in"),
        (("t.torrent", "data", "--workers", "-1"), 2, "--workers"),
        (("t.torrent", "data", "--sums", "md5"), 2, "--sums"),
        ((), 2, "TORRENT"),
    ],
)
def test_wrong_use_is_one_line(btfast_command: Command, made: Made, words: tuple[str, ...], code: int, part: str) -> None:
    done = btfast_command("check", *words)
    assert (done.code, done.err.count("\n")) == (code, 1)
    assert part in done.err


def test_a_list_of_sums_that_sha256sum_agrees_with(btfast_command: Command, made: Made, tmp_path: Path) -> None:
    done = btfast_command("check", "t.torrent", "data", "--sums", "sha256")
    assert done.code == 0
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path / "data", check=True)
    assert len((tmp_path / "data/SHA256SUMS").read_text().splitlines()) == 3
    again = btfast_command("check", "t.torrent", "data", "--sums", "sha256")
    assert (again.code, "exists" in again.err) == (2, True)
    assert btfast_command("check", "t.torrent", "data", "--sums", "sha256", "--force").code == 0
    (tmp_path / "data/t/a").unlink()
    done = btfast_command("check", "-q", "t.torrent", "data", "--sums", "sha256", "--sums-file", "-")
    assert done.code == 4
    assert done.out == f"{hashlib.sha256(b'').hexdigest()}  t/c\n"


def test_repair_fetches_the_bad_pieces_alone(btfast_command: Command, made: Made, tmp_path: Path) -> None:
    made.lay_out(tmp_path / "seed")
    wrong = made.contents()["t/b"][:1000] + bytes(80_000)  # no piece of it is right: it could be anybody's
    (tmp_path / "data/t/b").write_bytes(wrong)
    (tmp_path / "data/t/c").unlink()
    with seeding(made.torrent, tmp_path / "seed") as seeder:
        words = ["check", "--repair", "--json", "t.torrent", "data", *LOCAL, "--no-trackers", "--no-dht", "--no-lsd"]
        done = btfast_command(*words, "--peer", seeder.address)
    assert done.code == 0, done.err
    assert tree(tmp_path / "data") == made.contents() | {"t/b.old": wrong}
    (complete,) = [event for event in done.objects if event["event"] == "complete"]
    assert complete["downloaded"] < 3 * made.piece_length


@pytest.mark.parametrize("version", ["2", "hybrid"])
def test_repair_of_v2_data(btfast_command: Command, made: Made, tmp_path: Path, version: str) -> None:
    made.lay_out(tmp_path / "seed")
    torrent = btfast.Torrent.create(tmp_path / "seed/t", version=version, piece_length=65536)  # type: ignore[arg-type]
    (tmp_path / "v2.torrent").write_bytes(torrent.raw)
    wrong = bytearray(made.contents()["t/a"])
    wrong[70_000] ^= 1
    (tmp_path / "data/t/a").write_bytes(wrong)
    checked = btfast_command("check", "v2.torrent", "data")
    assert (checked.code, checked.out) == (4, "t/a: bad: bad pieces 1\n")
    with seeding(torrent.raw, tmp_path / "seed") as seeder:
        words = ["check", "--repair", "--json", "v2.torrent", "data", *LOCAL, "--no-trackers", "--no-dht", "--no-lsd"]
        done = btfast_command(*words, "--peer", seeder.address)
    assert done.code == 0, done.err
    assert_arrived(made, tmp_path / "data")
    (complete,) = [event for event in done.objects if event["event"] == "complete"]
    assert complete["downloaded"] <= 2 * 65536


def test_an_interrupt_is_exit_code_7_and_one_end(tmp_path: Path) -> None:
    size, piece_length = 1 << 38, 1 << 26
    info = {"name": "hole", "length": size, "piece length": piece_length, "pieces": bytes(20 * (size // piece_length))}
    (tmp_path / "hole.torrent").write_bytes(encode({"info": info}))
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(size)
    with running(tmp_path, "check", "--json", "hole.torrent", ".") as command:
        assert command.process.stdout is not None
        while (event := json.loads(command.process.stdout.readline())["event"]) != "progress":
            assert event in ("added", "metadata")
        command.process.send_signal(signal.SIGTERM)
        events = [json.loads(line) for line in command.process.stdout if '"progress"' not in line]
        assert command.process.wait(PROMISED) == 7
    assert [(event["event"], event["exit_code"]) for event in events] == [("failed", 7), ("summary", 7)]
