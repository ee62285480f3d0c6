"""What may be named as a source, and the one line for what may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.disks import permissions_bind

from btfast import errors
from btfast.client import sources
from btfast.client.sources import absolute_directory, read_source, shown


async def test_a_path_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.torrent"
    path.write_bytes(b"de")
    assert await read_source(str(path)) == (str(path), b"de", "")
    assert await read_source(path) == (str(path), b"de", "")


async def test_a_large_file_is_read_beside_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "a.torrent"
    path.write_bytes(bytes(3 << 20))
    assert (await read_source(path)).data == bytes(3 << 20)


async def test_bytes_and_torrents_are_taken_as_they_are() -> None:
    class Parsed:
        name = "parsed"
        raw = b"de"

    assert await read_source(b"de") == ("(torrent in memory)", b"de", "")
    assert await read_source(Parsed()) == ("parsed", b"de", "")


@pytest.mark.parametrize("url", ["http://x/a.torrent", "HTTPS://x/a"])
async def test_a_url_is_left_to_the_network_process(url: str) -> None:
    assert await read_source(url) == (url, None, "")


HEX = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "source",
    [f"magnet:?xt=urn:btih:{HEX}", f"MAGNET:?xt=urn:btih:{HEX.upper()}", HEX, HEX.upper(), "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH"],
)
async def test_magnet_links_and_info_hashes_are_left_to_the_peers(source: str) -> None:
    assert await read_source(source) == (source, None, f"magnet:?xt=urn:btih:{HEX}")


async def test_what_a_magnet_link_says_goes_along() -> None:
    link = f"magnet:?xt=urn:btih:{HEX}&dn=a%20b&tr=http%3A%2F%2Ft%2Fannounce&x.pe=10.0.0.1:5"
    assert (await read_source(link)).magnet == link


async def test_a_file_that_is_called_like_an_info_hash_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / HEX).write_bytes(b"de")
    assert await read_source(HEX) == (HEX, b"de", "")


@pytest.mark.parametrize(
    ("source", "cls", "part"),
    [
        ("magnet:?xt=urn:btih:" + "0" * 39, errors.InputError, "not 40 hexadecimal or 32 base32"),
        ("magnet:?xt=urn:btmh:1220" + "0" * 63, errors.InputError, "not 1220 and 64 hexadecimal"),
        ("ftp://x/a.torrent", errors.InputError, "ftp URLs are not supported"),
        ("no.torrent", errors.SourceNotFoundError, "no such file"),
        ("/dev/null/no.torrent", errors.SourceNotFoundError, "no such file"),
        ("/dev/zero", errors.InputError, "not a regular file"),
        ("/", errors.InputError, "a directory"),
        ("a\0b", errors.InputError, "not a path"),
        ("x" * 5000, errors.StorageError, "cannot be read"),
        (17, errors.InputError, "not understood"),
    ],
)
async def test_what_cannot_be_used_says_why(source: str, cls: type[errors.Error], part: str) -> None:
    with pytest.raises(cls, match=part) as caught:
        await read_source(source)
    assert type(caught.value) is cls
    assert "\n" not in str(caught.value)


async def test_a_file_without_permission_is_a_storage_error(tmp_path: Path) -> None:
    path = tmp_path / "a.torrent"
    path.write_bytes(b"de")
    path.chmod(0)
    with permissions_bind(), pytest.raises(errors.StorageError, match="check its permissions"):
        await read_source(path)


async def test_a_file_too_large_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "TORRENT_LIMIT", 10)
    path = tmp_path / "a.torrent"
    path.write_bytes(bytes(11))
    for source in (path, bytes(11)):
        with pytest.raises(errors.InputError, match="too large"):
            await read_source(source)


def test_names_that_are_not_utf8_can_be_shown() -> None:
    assert shown(os.fsdecode(b"a\xff")) == "a\ufffd"
    assert shown("naïve") == "naïve"


def test_directories_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_directory("x/../y") == str(tmp_path / "y")
    for bad in (os.fsdecode(b"\xff"), "a\0b"):
        with pytest.raises(errors.InputError, match="not a UTF-8 path"):
            absolute_directory(bad)
