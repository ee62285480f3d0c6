"""What is downloaded: files of deterministic bytes, their v1 torrents, and the comparison afterwards."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec

from bench.tools import build

MIB = 1 << 20
SHM = Path("/dev/shm")
CHUNK = 4 * MIB

Bencodable = int | bytes | str | Sequence["Bencodable"] | Mapping[str, "Bencodable"]


def bencode(value: Bencodable) -> bytes:
    """The canonical bencoding (BEP 3)."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    if isinstance(value, Mapping):
        return b"d%be" % b"".join(bencode(key) + bencode(value[key]) for key in sorted(value))
    return b"l%be" % b"".join(map(bencode, value))


def info_of(torrent: bytes) -> bytes:
    """The info dict of one of our own torrents as others write it, found by its neighbours."""
    start = torrent.index(b"4:infod") + 6
    return torrent[start : _end(torrent, start)]


def _end(data: bytes, at: int) -> int:
    """Where the bencoded value at `at` ends."""
    if data[at : at + 1] == b"i":
        return data.index(b"e", at) + 1
    if data[at : at + 1] in (b"d", b"l"):
        at += 1
        while data[at : at + 1] != b"e":
            at = _end(data, at)
        return at + 1
    colon = data.index(b":", at)
    return colon + 1 + int(data[at:colon])


class Payload(msgspec.Struct, frozen=True):
    """One single-file torrent: its content on this machine, and the .torrent that describes it."""

    content: Path
    torrent: Path
    size: int
    piece_length: int
    info_hash: str  # hex
    hashes: bytes  # 20 bytes a piece

    def magnet(self, url: str) -> str:
        """A link that names a tracker."""
        return f"magnet:?xt=urn:btih:{self.info_hash}&dn={self.content.name}&tr={quote(url, safe='')}"

    def announced(self, url: str) -> Path:
        """A copy of the torrent that names a tracker; the info-hash is the same."""
        path = self.torrent.with_name(f"{self.torrent.stem}.announced.torrent")
        if not path.exists():
            path.write_bytes(b"d8:announce" + bencode(url) + self.torrent.read_bytes()[1:])
        return path


def _chunks(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(size):
            yield chunk


def make_file(path: Path, size: int, seed: int) -> None:
    """Fills `path` with `size` bytes, the same for the same seed on any machine."""
    subprocess.run([build("payload"), str(path), str(size), str(seed)], check=True)


def make_torrent(content: Path, piece_length: int) -> Payload:
    """Hashes `content` and writes `content`.torrent beside it."""
    hashes = b"".join(hashlib.sha1(piece).digest() for piece in _chunks(content, piece_length))
    size = content.stat().st_size
    info = bencode({"length": size, "name": content.name, "piece length": piece_length, "pieces": hashes})
    torrent = content.with_name(content.name + ".torrent")
    torrent.write_bytes(b"d4:info" + info + b"e")
    return Payload(content, torrent, size, piece_length, hashlib.sha1(info).hexdigest(), hashes)


def _raise_once(hashes: list[bytes], pad: bytes) -> list[bytes]:
    if len(hashes) % 2:
        hashes = [*hashes, pad]
    return [hashlib.sha256(hashes[n] + hashes[n + 1]).digest() for n in range(0, len(hashes), 2)]


def make_v2_torrent(content: Path, piece_length: int, *, hybrid: bool) -> Payload:
    """The same in BitTorrent v2 (BEP 52): a merkle tree over 16 KiB leaves; a hybrid has the v1 hashes, too."""
    leaf, pad = 16384, bytes(32)
    layer = [hashlib.sha256(block).digest() for block in _chunks(content, leaf)]
    size, at_pieces, level = content.stat().st_size, b"", leaf
    while len(layer) > 1 or not at_pieces:
        if level == piece_length:
            at_pieces = b"".join(layer)
        layer, pad, level = _raise_once(layer, pad), hashlib.sha256(pad + pad).digest(), 2 * level
    tree = {content.name: {"": {"length": size, "pieces root": layer[0]}}}
    values: dict[str, Bencodable] = {
        "file tree": tree, "meta version": 2, "name": content.name, "piece length": piece_length,
    }  # fmt: skip
    hashes = b""
    if hybrid:
        hashes = b"".join(hashlib.sha1(piece).digest() for piece in _chunks(content, piece_length))
        values |= {"length": size, "pieces": hashes}
    info = bencode(values)
    torrent = content.with_name(f"{content.name}.{'hybrid' if hybrid else 'v2'}.torrent")
    layers = b"d" + bencode(layer[0]) + bencode(at_pieces) + b"e"
    torrent.write_bytes(b"d4:info" + info + b"12:piece layers" + layers + b"e")
    short = hashlib.sha1(info).hexdigest() if hybrid else hashlib.sha256(info).hexdigest()[:40]
    return Payload(content, torrent, size, piece_length, short, hashes)


def make_payload(folder: Path, size: int, piece_length: int, seed: int = 1) -> Payload:
    content = folder / "payload.bin"
    make_file(content, size, seed)
    return make_torrent(content, piece_length)


def make_many(folder: Path, count: int, size: int, piece_length: int) -> list[Payload]:
    """`count` files of `size` bytes, a torrent each."""
    payloads = []
    whole = folder / "whole"
    make_file(whole, count * size, 2)
    with whole.open("rb") as file:
        for number in range(count):
            content = folder / f"file-{number:04}.bin"
            content.write_bytes(file.read(size))
            payloads.append(make_torrent(content, piece_length))
    whole.unlink()
    return payloads


def difference(payload: Payload, folder: Path) -> str | None:
    """Compares the download in `folder` byte by byte with its source; None when equal, else what is wrong."""
    path = folder / payload.content.name
    if not path.is_file():
        return f"{path.name} is missing"
    if path.stat().st_size != payload.size:
        return f"{path.name} has {path.stat().st_size} bytes instead of {payload.size}"
    pairs = zip(_chunks(payload.content, CHUNK), _chunks(path, CHUNK), strict=True)
    for number, (wanted, found) in enumerate(pairs):
        if wanted != found:
            return f"{path.name} differs between bytes {number * CHUNK} and {(number + 1) * CHUNK}"
    return None


def memory_available() -> int:
    """Bytes that can be taken without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def source_folder(size: int) -> Path:
    """Where `size` bytes of source data go: tmpfs when there is room in it and in memory, else the temporary folder."""
    if SHM.is_dir() and os.access(SHM, os.W_OK):
        room = min(shutil.disk_usage(SHM).free, memory_available() - 2048 * MIB)
        if room > size + 64 * MIB:
            return SHM
    return Path(os.environ.get("TMPDIR", "/var/tmp"))
