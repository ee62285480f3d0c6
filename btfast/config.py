"""Settings with their units, ranges and defaults, and the parsing of what people write for them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from btfast.errors import InputError

_UNITS = {
    "": 1, "B": 1,
    "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)(?:/s)?\s*\Z")

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}\Z")

ARENA_MINIMUM = 16 << 20
ARENA_DEFAULT = 256 << 20
RATE_MINIMUM = 1 << 10  # bytes a second: a block would take longer than peers wait


def parse_size(text: str | int) -> int:
    """Bytes from `10MiB`, `800M`, `4096`: KiB MiB GiB TiB are powers of 1024, K M G T (KB ...) powers of 1000.

    Raises InputError.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.match(text)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise InputError(f"size {text!r}: not understood: write a number with KiB, MiB, GiB, K, M or G")
    return int(float(match[1]) * unit)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a session behaves. Every field is also an option of the command line, of btfast.toml and of the environment."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 6881  # where peers reach us; another free one if it is taken
    bind: str = ""  # local address for all sockets; empty = any
    workers: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0  # 0 = one a core
    memory: str | int = 0  # arena budget, bytes or "512MiB"; 0 = 256 MiB or a quarter of what the cgroup allows
    io: Literal["auto", "direct", "buffered"] = "auto"
    jobs: Annotated[int, msgspec.Meta(ge=1)] = 100  # torrents active at once
    max_peers: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 200  # connected peers a torrent
    max_time: Annotated[float, msgspec.Meta(ge=0)] = 0.0  # seconds a session may take; 0 = no limit
    max_up: str | int = 0  # payload bytes a second that all torrents together send, or "10MiB"; 0 = no cap
    max_down: str | int = 0  # bytes a second that all torrents together receive; 0 = no cap
    max_up_torrent: str | int = 0  # the same of each torrent
    max_down_torrent: str | int = 0
    super_seed: bool = False  # seeds show each peer one piece after another (BEP 16)
    peer_timeout: Annotated[float, msgspec.Meta(gt=0)] = 120.0  # seconds without any source of data before an item fails
    disk_timeout: Annotated[float, msgspec.Meta(ge=0)] = 60.0  # seconds that a full or failing disk is waited for
    seed_ratio: Annotated[float, msgspec.Meta(ge=0)] | None = None  # None = leave when done
    seed_time: Annotated[float, msgspec.Meta(ge=0)] | None = None  # seconds
    trackers: bool = True
    dht: bool = True  # find peers in the DHT (BEP 5); never for private torrents
    dht_bootstrap: tuple[str, ...] = ()  # host:port of nodes to begin with, instead of the public ones
    pex: bool = True  # peers may name other peers (BEP 11); never in private torrents
    lsd: bool = True  # ask the local network (BEP 14); never about private torrents
    check: bool = False  # hash what is there first, also under final names
    encryption: Literal["off", "allow", "require"] = "allow"  # of connections to peers, both ways (MSE)
    reuse: tuple[str, ...] = ()  # directories of files that may be copied instead of fetched
    accept_stale: tuple[str, ...] = ()  # globs of files to take as they are where a web seed has other versions of them
    in_place: bool = False  # write under the final names, without .part
    state: str = ""  # directory for what is worth keeping between runs; empty = btfast in the XDG state directory

    def __post_init__(self) -> None:
        for name in ("max_up", "max_down", "max_up_torrent", "max_down_torrent"):
            rate = parse_size(getattr(self, name))
            if rate and rate < RATE_MINIMUM:
                option = name.replace("_", "-")
                raise InputError(f"{option} {getattr(self, name)}: too slow: give at least 1KiB, or 0 for no cap")
        budget = parse_size(self.memory)
        if budget and budget < ARENA_MINIMUM:
            raise InputError(f"memory {self.memory}: too small: give at least {ARENA_MINIMUM >> 20} MiB")

        for node in self.dht_bootstrap:
            if not _HOST_PORT.match(node) or not 0 < int(node.rpartition(":")[2]) < 65536:
                raise InputError(f"dht-bootstrap {node[:80]!r}: not understood: write host:port or [v6]:port")

    @property
    def seeds(self) -> bool:
        """Whether items go on serving after they are complete."""
        return self.seed_ratio is not None or self.seed_time is not None


def checked(settings: Settings) -> Settings:
    """The settings, each of its type and within its range: a caller's mistake must not end in another process.

    Raises InputError.
    """
    try:
        return msgspec.convert(msgspec.structs.asdict(settings), Settings)
    except msgspec.ValidationError as error:
        raise InputError(f"settings: {error}: correct them") from error
