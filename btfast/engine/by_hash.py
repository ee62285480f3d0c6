"""The torrents of a session by info-hash, and by what an encrypted connection names them by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


class ByHash(dict[bytes, T]):
    """The second index is made when it is first asked, and kept by single assignments and deletions."""

    def __init__(self) -> None:
        super().__init__()
        self._by_skey: dict[bytes, bytes] | None = None

    def __setitem__(self, info_hash: bytes, torrent: T) -> None:
        super().__setitem__(info_hash, torrent)
        if self._by_skey is not None:
            self._by_skey[_skey_hash(info_hash)] = info_hash

    def __delitem__(self, info_hash: bytes) -> None:
        super().__delitem__(info_hash)
        if self._by_skey is not None:
            del self._by_skey[_skey_hash(info_hash)]

    def name(self, info_hashes: Iterable[bytes], torrent: T) -> None:
        """It is found by each of them that finds nothing else."""
        for info_hash in info_hashes:
            if info_hash not in self:
                self[info_hash] = torrent

    def forget(self, info_hashes: Iterable[bytes], torrent: T) -> None:
        """Undoes `name`."""
        for info_hash in info_hashes:
            if self.get(info_hash) is torrent:
                del self[info_hash]

    def first(self, info_hashes: Iterable[bytes]) -> T | None:
        """What any of them finds."""
        return next((self[info_hash] for info_hash in info_hashes if info_hash in self), None)

    def find_skey(self, hashed: bytes) -> bytes | None:
        """The info-hash whose skey_hash that is."""
        if self._by_skey is None:
            self._by_skey = {_skey_hash(info_hash): info_hash for info_hash in self}
        return self._by_skey.get(hashed)


def _skey_hash(info_hash: bytes) -> bytes:
    from btfast.wire.mse import skey_hash  # where nobody encrypts it need not be loaded

    return skey_hash(info_hash)
