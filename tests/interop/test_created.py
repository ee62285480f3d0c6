"""Torrents that btfast makes, in libtorrent's eyes: the same info-hashes, loaded, and every piece verified."""

from __future__ import annotations

import os
import random
from pathlib import Path

import libtorrent as lt
import pytest
from support.libtorrent_peer import Libtorrent, finish

from btfast._bencode import decode
from btfast.metainfo.create import Recipe, create_torrent
from btfast.metainfo.listing import Listing, list_files

K16 = 16384
VERSIONS = {"1": lt.create_torrent.v1_only, "2": lt.create_torrent.v2_only, "hybrid": 0}
FLAGS = lt.file_flags_t

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the one way to tell libtorrent of links and flags

each_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = random.Random(8)
    root = tmp_path / "seed" / "t"
    lengths = {
        "a": 100_000, "b/c": 5, "b/d/e": K16, "b/d/f": 3 * K16, "empty": 0, "run": 300, "u": K16 + 1, "é": 2 * K16 - 1,
    }  # fmt: skip
    for path, length in lengths.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(rng.randbytes(length))
    (root / "run").chmod(0o755)
    (root / "b/link").symlink_to("../a")
    return root


def theirs(path: Path, listing: Listing, piece_length: int, flags: int) -> lt.info_hash_t:
    """The info-hashes that libtorrent comes to for the same files in the same order."""
    storage = lt.file_storage()
    for file in listing.files:
        place = file.path if listing.single else (listing.name, *file.path)
        kind = FLAGS.flag_executable if file.executable else 0
        kind |= FLAGS.flag_hidden if file.hidden else 0
        link = ""
        if file.link is not None:
            kind, link = FLAGS.flag_symlink, b"/".join(file.link).decode()
        storage.add_file(b"/".join(place).decode(), file.length, kind, file.mtime_ns // 10**9, link)
    made = lt.create_torrent(storage, piece_length, flags | lt.create_torrent.symlinks)
    lt.set_piece_hashes(made, str(path.parent))
    return lt.torrent_info(made.generate()).info_hashes()


@each_version
@pytest.mark.parametrize("piece_length", [K16, 4 * K16])
@pytest.mark.parametrize("what", ["t", "t/a", "t/b/d/e", "t/run"])
def test_info_hashes_are_those_of_libtorrent(folder: Path, version: str, piece_length: int, what: str) -> None:
    path = folder.parent / what
    ours = lt.torrent_info(decode(create_torrent(str(path), Recipe(version=version, piece_length=piece_length))))  # type: ignore[arg-type]
    expected = theirs(path, list_files(str(path)), piece_length, VERSIONS[version])
    assert str(ours.info_hashes().v1) == str(expected.v1)
    assert str(ours.info_hashes().v2) == str(expected.v2)


@each_version
def test_so_they_are_with_times_and_hidden_files(folder: Path, version: str) -> None:
    (folder / ".x").write_bytes(b"hidden")
    for number, path in enumerate(folder.rglob("*")):
        os.utime(path, (number + 5, number + 5), follow_symlinks=False)
    recipe = Recipe(version=version, piece_length=K16, mtime=True, dot_hidden=True)  # type: ignore[arg-type]
    ours = lt.torrent_info(decode(create_torrent(str(folder), recipe))).info_hashes()
    flags = VERSIONS[version] | lt.create_torrent.modification_time
    expected = theirs(folder, list_files(str(folder), dot_hidden=True), K16, flags)
    assert (str(ours.v1), str(ours.v2)) == (str(expected.v1), str(expected.v2))


def test_aligned_v1_is_what_libtorrent_calls_canonical(folder: Path) -> None:
    ours = lt.torrent_info(decode(create_torrent(str(folder), Recipe(piece_length=K16, align=True))))
    flags = lt.create_torrent.v1_only | lt.create_torrent.canonical_files_no_tail_padding
    assert str(ours.info_hashes().v1) == str(theirs(folder, list_files(str(folder)), K16, flags).v1)


@each_version
def test_libtorrent_verifies_every_piece(folder: Path, version: str) -> None:
    # Names that libtorrent's own hybrids get wrong: a folder before a file whose name sorts before the slash.
    (folder / "b-x").write_bytes(random.Random(1).randbytes(5000))
    torrent = create_torrent(str(folder), Recipe(version=version, piece_length=K16))  # type: ignore[arg-type]
    with Libtorrent() as peer:
        handle = peer.add_what_is_there(torrent, folder.parent)
        finish(handle)
        status = handle.status()
        assert status.is_seeding
        assert status.num_pieces == lt.torrent_info(decode(torrent)).num_pieces()


@each_version
def test_libtorrent_notices_what_does_not_match(folder: Path, version: str) -> None:
    """Shows that the test before this one can fail."""
    torrent = create_torrent(str(folder), Recipe(version=version, piece_length=K16))  # type: ignore[arg-type]
    (folder / "a").write_bytes(bytes(100_000))
    with Libtorrent() as peer:
        handle = peer.add_what_is_there(torrent, folder.parent)
        assert not handle.status().is_seeding


def test_what_libtorrent_makes_of_our_layers_is_what_we_wrote(folder: Path) -> None:
    torrent = create_torrent(str(folder), Recipe(version="hybrid", piece_length=K16))
    written = decode(torrent)
    loaded = lt.load_torrent_buffer(torrent)
    again = lt.write_torrent_file(loaded)
    assert again[b"piece layers"] == written[b"piece layers"]
