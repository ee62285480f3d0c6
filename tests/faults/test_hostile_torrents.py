"""Malformed and hostile .torrents through the command line: one clear line each, the rest of the list goes on, and
nothing is ever written outside the destination."""

from __future__ import annotations

import csv
import hashlib
import json
import resource
from pathlib import Path

import pytest
from support.commands import get, run
from support.scripted_peer import ScriptedPeer, serving
from support.torrents import Made, assert_arrived, make, tree

from btfast import Torrent
from btfast._bencode import encode
from btfast.cli import main
from btfast.errors import InputError

OWN = Path(__file__).resolve().parents[1] / "vectors"
SHARED = (Path(__file__).resolve().parents[2] / ".." / "shared" / "vectors").resolve()
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared vectors are not here")


def listed(folder: Path) -> list[Path]:
    """The torrents of a folder of vectors, by its manifest."""
    manifest = folder / "MANIFEST.tsv"
    if not manifest.is_file():
        return []
    lines = [line for line in manifest.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return [folder / row["file"] for row in rows if row["file"].endswith(".torrent")]


def readable(path: Path) -> bool:
    try:
        Torrent.load(path)
    except InputError:
        return False
    return True


ALL = listed(OWN) + listed(SHARED / "libtorrent") + listed(SHARED / "webtorrent-fixtures")
GOOD = [path for path in ALL if readable(path)]
BAD = [path for path in ALL if path not in GOOD]


@needs_shared
def test_both_kinds_of_vectors_are_many() -> None:
    assert len(BAD) > 80
    assert len(GOOD) > 80


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
@pytest.mark.parametrize("words", [("info",), ("info", "--json"), ("magnet",)], ids=" ".join)
def test_a_malformed_torrent_is_refused_in_one_line(
    path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"btfast: error: {path}: ")
    assert said.err.count("\n") == 1
    assert said.err[:-1].isprintable()
    assert len(said.err) < 1000


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_what_a_readable_torrent_says_is_safe_to_print(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(path)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert all(line.isprintable() for line in said.out.splitlines())
    assert main(["info", "--json", str(path)]) == 0
    json.loads(capsys.readouterr().out)


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))


@pytest.mark.parametrize("stem", ["deeply_nested", "huge_length_prefix", "web_page", "empty", "v2_empty_tree"])
def test_the_real_command_refuses_it_with_little_memory(tmp_path: Path, stem: str) -> None:
    done = run(tmp_path, "info", OWN / f"{stem}.torrent", preexec_fn=limit_memory)
    assert stem in done.error(2)
    assert done.out == ""


def test_a_list_goes_on_past_every_malformed_torrent(tmp_path: Path) -> None:
    """All of them in one list, good ones among them: these complete, and the JSON names each of the others."""
    first, second = make(300_000, name="first"), make(300_001, name="second")
    lines = [first.save(tmp_path), *BAD, second.save(tmp_path), tmp_path / "none.torrent"]
    (tmp_path / "list").write_text("".join(f"{line}\n" for line in lines))
    with serving(ScriptedPeer(first), ScriptedPeer(second)) as peers:
        done = run(tmp_path, *get("-i", "list", peers=tuple(peer.address for peer in peers)))
    assert done.code == 5  # the highest: one of them does not exist
    assert {event["source"] for event in done.all("complete")} == {str(lines[0]), str(lines[-2])}
    failed = {event["source"]: event for event in done.all("failed")}
    assert set(failed) == {str(path) for path in [*BAD, lines[-1]]}
    assert {(failed[str(path)]["kind"], failed[str(path)]["exit_code"]) for path in BAD} == {("InputError", 2)}
    assert failed[str(lines[-1])]["exit_code"] == 5
    errors = done.err.splitlines()
    assert len(errors) == len(failed)
    assert all(line.startswith("btfast: error: ") for line in errors)
    assert all(any(line.startswith(f"btfast: error: {path}: ") for line in errors) for path in BAD)
    summary = done.one("summary")
    assert (summary["items"], summary["complete"], summary["failed"]) == (len(lines), 2, len(lines) - 2)
    for made in (first, second):
        assert (tmp_path / "out" / made.name).read_bytes() == made.data


def test_a_bad_option_of_one_item_does_not_hide_the_good_one(tmp_path: Path) -> None:
    """Bad as a bare argument, too, and the exit code is the highest of all."""
    made = make(100_000)
    with ScriptedPeer(made) as peer:
        done = run(tmp_path, *get(BAD[0], made.save(tmp_path), peers=(peer.address,)))
    assert str(BAD[0]) in done.error(2)
    assert done.one("complete")["name"] == "data.bin"
    assert_arrived(made, tmp_path / "out")


def test_readable_torrents_of_all_kinds_leave_nothing_outside_the_destination(tmp_path: Path) -> None:
    """With nobody to fetch from each ends with 3, or at once where it holds only empty files."""
    different = {Torrent.load(path).info_hash: path for path in GOOD}
    lines = [f"{path}\tout/{number}\n" for number, path in enumerate(different.values())]
    (tmp_path / "list").write_text("".join(lines))
    before = sorted(path.name for path in tmp_path.iterdir())
    done = run(tmp_path, *get("-i", "list"))
    assert len(done.all("complete")) + len(done.all("failed")) == len(lines)
    assert {event["kind"] for event in done.all("failed")} <= {"IncompleteError", "InputError"}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "out"])
    assert all(content == b"" for content in tree(tmp_path / "out").values())


HOSTILE_PATHS = [
    [b"..", b"..", b"escaped"], [b"/etc/escaped"], [b"", b"", b"root"], [b".", b"dot"], [b"a/../../escaped"],
    [b"a\\..\\..\\escaped"], [b"C:", b"drive"], [b"nul\0byte"], [b"line\nbreak"], [b"\x1b[31mred"], [b"\xff\xfe not utf8"],
    [b"x" * 400], [b"CON"], [b"trailing. "], [b".."], [b"same"], [b"same"], [b"SAME"], [b"\xe2\x80\xaegnp.exe"],
    [b"deep"] * 60 + [b"end"], [b"data.bin.part"], [b"data.bin"], [b".tree.btfast-lock"], [b"~", b"home"],
]  # fmt: skip


def hostile_names(name: bytes) -> Made:
    data = b"".join(bytes([n % 256]) * 1000 for n in range(len(HOSTILE_PATHS)))
    hashes = [hashlib.sha1(data[at : at + 16384]).digest() for at in range(0, len(data), 16384)]
    info: dict[str, object] = {
        "files": [{"length": 1000, "path": path} for path in HOSTILE_PATHS],
        "name": name, "piece length": 16384, "pieces": b"".join(hashes),
    }  # fmt: skip
    return Made("hostile", encode({"info": info}), hashlib.sha1(encode(info)).digest(), data, 16384, {})


@pytest.mark.parametrize("name", [b"tree", b"..", b"/", b"../../up", b"a" * 300, b"out.part", b"\xff"])
def test_hostile_names_stay_inside_the_destination(tmp_path: Path, name: bytes) -> None:
    made = hostile_names(name)
    (tmp_path / "deeper").mkdir()
    torrent = made.save(tmp_path)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with ScriptedPeer(made) as peer:
        done = run(tmp_path, *get(torrent, "-o", "deeper/out", peers=(peer.address,)))
    assert done.code == 0
    found = tree(tmp_path / "deeper" / "out")
    assert sorted(found.values()) == sorted(made.data[1000 * n : 1000 * n + 1000] for n in range(len(HOSTILE_PATHS)))
    outside = [str(path) for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "deeper" / "out")]
    assert sorted(outside) == before
    assert len({Path(path).parts[0] for path in found}) == 1
    assert len(done.one("complete")["files"]) == len(HOSTILE_PATHS)
    assert sorted(done.one("complete")["files"]) == sorted(found)
    assert len(done.warnings) >= 10
    assert all(line.isprintable() for line in done.err.splitlines())


@pytest.mark.parametrize("name", [b"", b"\0"])
def test_a_name_of_which_nothing_is_left_is_refused(tmp_path: Path, name: bytes) -> None:
    torrent = hostile_names(name).save(tmp_path)
    assert "has no name" in run(tmp_path, *get(torrent)).error(2)
    assert not (tmp_path / "out").exists()
