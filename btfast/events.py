"""What a run reports: the lines of `--json` and the events of the Python API are these Structs.

Sizes in bytes, times in seconds, rates in bytes per second. `id` numbers the items of a run from 0, in the order they
were added. Every item ends in exactly one `Complete` or `Failed`; a command line run ends with one `Summary`.
"""

from __future__ import annotations

import msgspec


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=False):
    v: int = 1


class Added(_Event, frozen=True, kw_only=True, tag="added"):
    """A source was accepted; its data is not yet looked at."""

    id: int
    source: str
    directory: str


class Metadata(_Event, frozen=True, kw_only=True, tag="metadata"):
    """The torrent behind the source is known."""

    id: int
    name: str
    info_hash: str  # 40 hexadecimal digits
    size: int
    files: int
    pieces: int
    piece_length: int
    private: bool
    wanted_files: int = 0  # of `files`, as chosen
    wanted_size: int = 0  # of `size`


class Progress(_Event, frozen=True, kw_only=True, tag="progress"):
    """Where an item stands, about once a second; of one that only serves, while anything about it changes."""

    id: int
    # "queued", "metadata" (a magnet link's is sought), "checking", "downloading", "finishing", "seeding", "paused" (for a
    # disk that is full or fails); "hashing" of
    # `btfast check` and `create`, whose `done` is what was read and `rate_down` how fast
    state: str
    done: int  # of the files that are wanted, verified and written
    total: int
    rate_down: float  # payload
    rate_up: float
    peers: int
    seeds: int
    eta: float | None  # None when it cannot be told
    uploaded: int = 0
    web_seeds: int = 0  # that have sent something and still may


class FileDone(_Event, frozen=True, kw_only=True, tag="file"):
    """A file is complete, verified, on disk, and has its final name."""

    id: int
    path: str
    size: int


class PieceFailed(_Event, frozen=True, kw_only=True, tag="piece_failed"):
    """A piece did not match its hash and is fetched again."""

    id: int
    index: int
    peers: list[str]


class Peer(_Event, frozen=True, kw_only=True, tag="peer"):
    """A peer or web seed was connected, lost or banned. A web seed's `address` is its URL, its `client` "web seed"."""

    id: int
    address: str
    change: str  # "connected", "disconnected", "banned"
    reason: str
    client: str = ""


class Warning(_Event, frozen=True, kw_only=True, tag="warning"):
    """Something the user should know that does not end the item."""

    id: int | None
    message: str


class Checked(_Event, frozen=True, kw_only=True, tag="checked"):
    """How a file stands that `btfast check` looked at."""

    id: int
    path: str  # below the directory
    size: int  # as the torrent says
    found: int | None  # as it is on disk; null where it is no file
    # "good", "bad", "missing", "unfinished", "wrong_size", "unreadable", "unverified", "not_a_file"; "extra": none of the
    # torrent's files
    state: str
    bad: tuple[tuple[int, int], ...] = ()  # pieces with bytes of it that do not match: first and last of each run
    missing: tuple[tuple[int, int], ...] = ()  # pieces with bytes of it that are not all there
    reason: str = ""
    sha256: str | None = None  # of a good file, with --sums


class Complete(_Event, frozen=True, kw_only=True, tag="complete"):
    """All that is wanted of the item is verified, on disk, under its final names."""

    id: int
    source: str
    name: str
    info_hash: str
    directory: str
    files: list[str]  # paths relative to `directory`
    bytes: int  # size of what was wanted
    downloaded: int  # payload fetched in this run
    uploaded: int
    reused: int = 0  # bytes copied from files that were on this machine already
    wasted: int  # payload that was fetched in vain: duplicates and failed pieces
    seconds: float
    rate: float  # downloaded / seconds
    limited_by: str  # "peers", "web seeds", "disk", "hashing", "network process", "limit", "nothing to do"


class Failed(_Event, frozen=True, kw_only=True, tag="failed"):
    """The item could not be completed; what was verified is kept."""

    id: int
    source: str
    error: str
    kind: str  # name of the exception class in btfast.errors
    exit_code: int
    done: int = 0
    total: int = 0


class Summary(_Event, frozen=True, kw_only=True, tag="summary"):
    """The end of a command line run."""

    items: int
    complete: int
    failed: int
    bytes: int
    downloaded: int
    uploaded: int
    seconds: float
    exit_code: int


Event = Added | Metadata | Progress | FileDone | Checked | PieceFailed | Peer | Warning | Complete | Failed | Summary
