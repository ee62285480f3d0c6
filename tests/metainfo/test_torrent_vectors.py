"""Every .torrent of our own vectors and of the shared ones does what its manifest says."""

from __future__ import annotations

import csv
import importlib.util
import re
from pathlib import Path, PurePosixPath

import pytest

from btfast.errors import InputError
from btfast.metainfo.torrent import Torrent

OWN = Path(__file__).resolve().parents[1] / "vectors"
SHARED = (Path(__file__).resolve().parents[2] / ".." / "shared" / "vectors").resolve()
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared vectors are not here")

PLACES = {
    "absolute_filename": ("temp/abcde", "temp/foobar"),
    "duplicate_files": ("temp/foo/bar.txt", "temp/foo/bar.1.txt"),
    "invalid_directory_name": ("test2/_/foo", "test2/_/foo.1"),
    "invalid_name2": ("b61560c2918f463768cd122b6d2fdd47b77bdb35/foo/bar.txt",),
    "invalid_name3": ("foobar /foo/bar.txt",),
    "pad_file_no_path": ("temp/foo/bar.txt", "temp/.pad/2124"),
    "slash_path": ("temp/_/_/bar",),
    "slash_path2": ("temp/abc....def/_/bar",),
    "slash_path3": ("temp....abc",),
    "v2_invalid_filename": ("_estMB",),
    "v2_invalid_filename2": ("test/_", "test/_.1", "test/stress_test2"),
    "symlink_filtered_path": ("temp/a/_/bar", "temp/a/_/foo"),
}


def rows(manifest: Path) -> list[dict[str, str]]:
    if not manifest.is_file():
        return []
    lines = [line for line in manifest.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def torrents(folder: str) -> list[pytest.param]:
    found = [row for row in rows(SHARED / folder / "MANIFEST.tsv") if row["file"].endswith(".torrent")]
    return [pytest.param(SHARED / folder / row["file"], row, id=PurePosixPath(row["file"]).stem) for row in found]


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        Torrent.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message


def test_own_vectors_are_what_their_maker_makes() -> None:
    spec = importlib.util.spec_from_file_location("make_vectors", OWN / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    made = {stem: row[0] for group in (maker.VALID, maker.INVALID) for stem, row in group.items()}
    assert {path.stem: path.read_bytes() for path in OWN.glob("*.torrent")} == made
    assert [row["file"] for row in rows(OWN / "MANIFEST.tsv")] == [f"{stem}.torrent" for stem in made]


@pytest.mark.parametrize("row", rows(OWN / "MANIFEST.tsv"), ids=lambda row: PurePosixPath(row["file"]).stem)
def test_own_vectors(row: dict[str, str]) -> None:
    path = OWN / row["file"]
    if row["expected"] == "invalid":
        assert row["name or words of the error"] in refused(path)
        return
    torrent = Torrent.load(path)
    assert torrent.name == row["name or words of the error"]
    assert "|".join("/".join(file.path) for file in torrent.files) == row["paths"]


@needs_shared
@pytest.mark.parametrize(("path", "row"), torrents("libtorrent") + torrents("webtorrent-fixtures"))
def test_shared_torrents_load_or_are_refused_as_their_manifest_says(path: Path, row: dict[str, str]) -> None:
    facts = row["facts_own_parser"]
    if row["expected"] == "invalid":
        refused(path)
        return
    torrent = Torrent.load(path)
    assert f"pl={torrent.piece_length} " in facts
    assert (torrent.info_hash_v1 is not None) is ("npieces=" in facts)
    assert (torrent.info_hash_v2 is not None) is ("v2files=" in facts)
    if torrent.info_hash_v1 is not None:
        assert f"info_sha1={torrent.info_hash_v1.hex()}" in facts
        assert f"npieces={torrent.piece_count} " in facts
        assert f"nfiles={len(torrent.files)} " in facts
        if not any(file.symlink for file in torrent.files):
            assert f"| total={torrent.total_length} " in facts
    if torrent.info_hash_v2 is not None:
        real = [file.length for file in torrent.files if not file.pad]
        assert f"info_sha256={torrent.info_hash_v2.hex()}" in facts
        assert f"v2files={len(real)} " in facts
        assert f"v2total={sum(real)} " in facts
    for index, file in enumerate(torrent.files):
        place = torrent.file_path(index)
        assert not place.is_absolute()
        assert ".." not in place.parts
        assert "" not in file.path
    expected = PLACES.get(path.stem, ())
    assert tuple(str(torrent.file_path(index)) for index in range(len(expected))) == expected
    assert tuple(torrent.path_text(index) for index in range(len(expected))) == expected


@needs_shared
@pytest.mark.parametrize("row", rows(SHARED / "generated" / "README.tsv"), ids=lambda row: row["file"])
def test_generated_torrents_have_the_hashes_that_real_clients_use(row: dict[str, str]) -> None:
    path = SHARED / "generated" / row["file"]
    torrent = Torrent.load(path)
    v1, v2 = (info_hash.hex() if info_hash else "-" for info_hash in (torrent.info_hash_v1, torrent.info_hash_v2))
    assert (v1, v2) == (row["v1_sha1"], row["v2_sha256"])
    assert [info_hash.hex() for info_hash in torrent.swarm_hashes] == [each[:40] for each in (v1, v2) if each != "-"]
    assert torrent.info_hash == torrent.swarm_hashes[0]
    assert len(torrent.files) == int(row["files_v2" if v1 == "-" else "files_v1"])
    assert torrent.hashes.complete
    assert torrent.private is ("private" in row["file"])
    assert bool(torrent.url_list) is ("web" in row["file"])
    assert bool(torrent.nodes) is ("nodes" in row["file"])
    assert not torrent.renamed


@needs_shared
def test_notes_of_the_shared_manifest_hold() -> None:
    folder = SHARED / "libtorrent" / "raw" / "test" / "test_torrents"

    def load(stem: str) -> Torrent:
        return Torrent.load(folder / f"{stem}.torrent")

    assert load("creation_date").creation_date == 1234567
    assert load("no_creation_date").creation_date is None
    assert load("dht_nodes").nodes == (("127.0.0.1", 6881), ("192.168.1.1", 6881))
    assert len(load("duplicate_web_seeds").url_list) == 3
    assert load("empty_httpseed").httpseeds == ()
    assert len(load("httpseed").httpseeds) == 1
    for stem in ("url_list", "url_list2", "url_list3"):
        assert load(stem).url_list == ()
    assert load("url_seed").url_list == ("http://test.com/file",)
    assert load("url_seed_multi").url_list == ("http://test.com/file/",)
    assert load("url_seed_multi_single_file").url_list == ("http://test.com/file/temp/foo/bar.txt",)
    for stem in ("url_seed_multi_space", "url_seed_multi_space_nolist"):
        assert load(stem).url_list == ("http://test.com/test%20file/foo%20bar/",)
    assert load("whitespace_url").announce_list == (("udp://test.com/announce",),)
    assert [file.pad for file in load("pad_file").files] == [False, True]
    assert load("symlink1").files[1].symlink == ("a", "b", "bar")
    assert load("symlink_filtered_path").files[1].symlink == ("a", "_", "bar")
    assert re.fullmatch(r"[0-9a-f]{40}", load("invalid_name2").name)
    assert load("large_piece_size").piece_length == 536854528
