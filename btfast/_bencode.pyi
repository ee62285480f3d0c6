from typing import Any

class BencodeError(ValueError):
    why: str
    offset: int
    def __init__(self, why: str, offset: int = -1) -> None: ...

def decode(
    data: bytes | bytearray | memoryview, *, strict: bool = True, max_depth: int = 64, max_tokens: int = 2_500_000
) -> Any: ...
def decode_prefix(
    data: bytes | bytearray | memoryview,
    *,
    offset: int = 0,
    strict: bool = True,
    max_depth: int = 64,
    max_tokens: int = 2_500_000,
) -> tuple[Any, int]: ...
def decode_with_info(
    data: bytes | bytearray | memoryview, *, strict: bool = False, max_depth: int = 64, max_tokens: int = 2_500_000
) -> tuple[Any, int, int]: ...
def info_span(data: bytes | bytearray | memoryview) -> tuple[int, int]: ...
def encode(value: object, *, max_depth: int = 64) -> bytes: ...
