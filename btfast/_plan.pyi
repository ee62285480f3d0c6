from collections.abc import Sequence
from typing import final

@final
class Plan:
    def __new__(
        cls,
        root: int,
        piece_length: int,
        paths: list[bytes | None],
        lengths: Sequence[int],
        available: Sequence[int],
        *,
        sha1: bool = True,
        sha256: bool = False,
        expected_sha1: bytes | None = None,
        expected_sha256: bytes | None = None,
        keep: bool = False,
        sums: bool = False,
    ) -> Plan: ...
    @property
    def file_count(self) -> int: ...
    @property
    def piece_count(self) -> int: ...
    @property
    def piece_length(self) -> int: ...
    @property
    def total_length(self) -> int: ...
    @property
    def states(self) -> bytes: ...
    @property
    def sha1(self) -> bytes | None: ...
    @property
    def sha256(self) -> bytes | None: ...
    def sum(self, file: int) -> bytes | None: ...
    def stop(self) -> None: ...
