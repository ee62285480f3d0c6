"""What the network process and a worker tell each other besides the records of the rings."""

from __future__ import annotations

import msgspec

from btfast.frames import frame
from btfast.storage.identity import Identity

# Kinds of job records. `index` is a piece for the kinds that say so, and a file for FINISH_FILE, DEMOTE_FILE and MAKE_LINK.
WRITE_PIECE = 1  # hash the payload at `offset`; write it where it belongs if it matches `digest`
FINISH_FILE = 2  # every byte is written: make it durable and give it its final name, and the marks that `digest` packs;
# the `digest` of the answer says which file it was when it was durable (identity.py)
DEMOTE_FILE = 3  # it has its final name but is not complete: back to the name of an unfinished file
WRITE_PART = 4  # write the payload at `offset` into the piece as it is, from the byte that `digest` tells on
RESTORE_PIECE = 5  # the parts file has it, with this `digest`: give the wanted files their shares of it
SAVE_BLOCKS = 6  # as WRITE_PART, of a piece that is not whole when a run ends; where it fails nothing is lost but them
MAKE_LINK = 7  # all other files have their final names: make this one, a symbolic link; MISMATCH: it is left out
# `offset` of the two for files: how many workers have died over it. Each may have done it and not said so any more.

# A completion record has the job's kind plus this, and one of the statuses; its detail is the errno of FAILED.
DONE = 128
OK = 0
MISMATCH = 1
FAILED = 2
DISAGREE = 3  # of the two hashes of a hybrid's piece one is right and one is wrong

# What a check says of a piece.
BAD = 0
GOOD = 1
MISSING = 2
SPLIT = 3  # right by one half of a hybrid and wrong by the other
IN_PARTS = 4  # good in the parts file, and so are the shares of it that wanted files have
TO_RESTORE = 5  # good in the parts file; wanted files lack their shares


class Link(msgspec.Struct, frozen=True, array_like=True):
    """A symbolic link of a torrent. `text`: what stands in it; `leads_to`: the path of that, relative to the directory.

    Both are empty for one that must not be made.
    """

    file: int
    text: str
    leads_to: str


class OpenTorrent(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """Where a torrent's files go. `paths` are safe, relative to `directory`, with `/` between their elements.

    `parts` is the name of the parts file there, "" for none; `mark` what files made for the torrent are marked with.
    `levels`: a byte a file, 0 for one that is not wanted; empty where all are. Files that are symbolic links are never
    made but by MAKE_LINK.
    """

    torrent: int
    directory: str
    paths: list[str]
    lengths: list[int]
    pads: list[int]
    piece_length: int
    aligned: bool = False  # each file begins with a piece, as in v2 alone
    in_place: bool
    io: str  # "auto", "direct", "buffered"
    parts: str = ""
    mark: bytes = b""
    levels: bytes = b""
    links: list[Link] = []


class CloseTorrent(msgspec.Struct, frozen=True, tag="close"):
    """Forget the torrent and close its files."""

    torrent: int


class CheckPieces(msgspec.Struct, frozen=True, tag="check"):
    """Hash pieces first, first+1, ... as they are on disk. Answered by PiecesChecked.

    `hashes` holds `size` bytes a piece: 20 of SHA-1, 32 of its tree, or both, in this order. `final`: of a file that is there
    under both of its names the final one is read.
    """

    torrent: int
    first: int
    hashes: bytes
    size: int = 20
    final: bool = False


class Surveyed(msgspec.Struct, frozen=True, tag="surveyed"):
    """`unfinished` and `final`: numbers of the files that are there under either name; `error`: why it cannot work here.

    `wrong_size`: those that have their final names and cannot be complete, whatever is in them. `seen`: which files all of
    them are. `parts`: whether there is a parts file. `beside`: those of the unfinished that are there under their final names
    as well, and whether these have the right size.
    """

    torrent: int
    unfinished: list[int]
    final: list[int]
    free: int  # bytes that the file system has left
    allocated: int  # bytes that the wanted files found, and the parts file, occupy already
    wrong_size: list[int] = []
    seen: dict[int, Identity] = {}
    parts: bool = False
    beside: dict[int, bool] = {}
    error: str = ""
    errno: int = 0


class PiecesChecked(msgspec.Struct, frozen=True, tag="checked"):
    """One of GOOD, BAD, MISSING, SPLIT, IN_PARTS, TO_RESTORE a piece; nothing when the torrent is closed."""

    torrent: int
    first: int
    states: bytes


class Known(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What earlier runs have recorded of a torrent in a destination, held against what is there now.

    `have`: the bitfield of durable pieces; `names`: one byte a file: under which name (identity.py) the file is that was
    recorded, ABSENT where it is not there or another one is, CHANGED where it is there but not as it was. `elsewhere`:
    nothing of it is there, and its volume is missing. `parts`: of the parts file, where that is the same. `taken`: files that
    are as they were taken. The others: see resume_store.Entry.
    """

    have: bytes
    names: bytes
    complete: bool = False
    elsewhere: bool = False
    partial: list[PartialPiece] = []
    parts: PartsSeen | None = None
    taken: list[TakenFile] = []
    uploaded: int = 0
    downloaded: int = 0
    peers: bytes = b""
    trackers: list[str] = []


class TakenFile(msgspec.Struct, frozen=True, array_like=True):
    """A file that is not what the torrent means: it was taken as `source` had it. `version`: what that said of it, or ""."""

    file: int
    source: str
    version: str


class PartsSeen(msgspec.Struct, frozen=True, array_like=True):
    """`pieces`: a bitfield of those that are right in the parts file; files of the bitfield `wanted` have their shares."""

    pieces: bytes
    wanted: bytes


class PartialPiece(msgspec.Struct, frozen=True, array_like=True):
    """Blocks of a piece that lie where they belong in its files, although the piece is not whole.

    `blocks`: bit b of it, as a little-endian number, stands for block b; `sums`: 8 bytes of xxh3_64 for each of them.
    """

    index: int
    blocks: bytes
    sums: bytes


class ReadBlocks(msgspec.Struct, frozen=True, tag="read"):
    """Read these blocks into the arena, where the piece lies from `offset` on; -1: only see whether they are there.

    Answered by BlocksRead.
    """

    question: int
    torrent: int
    offset: int
    partial: PartialPiece


class BlocksRead(msgspec.Struct, frozen=True, tag="blocks"):
    """Those of the blocks that are there and have their sums, as PartialPiece.blocks."""

    question: int
    blocks: bytes


class ReadLeaves(msgspec.Struct, frozen=True, tag="leaves"):
    """Hash the blocks of `count` pieces of one v2 file as they are on disk, from piece `first` on. Answered by LeavesRead."""

    question: int
    torrent: int
    first: int
    count: int


class LeavesRead(msgspec.Struct, frozen=True, tag="leaves_read"):
    """The SHA-256 of each block, one behind the other; b"" where something is not there."""

    question: int
    leaves: bytes


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """Which torrent in which destination is asked for; `suffix`: of an unfinished file's name; `parts`: of the parts file."""

    key: bytes
    directory: str
    paths: list[str]
    pads: list[int]
    suffix: str
    parts: str = ""


class Recall(msgspec.Struct, frozen=True, tag="recall"):
    """What is known about these? `store`: path of the database. Answered by Recalled."""

    question: int
    store: str
    wanted: list[Wanted]


class Recalled(msgspec.Struct, frozen=True, tag="recalled"):
    """None for a torrent of which nothing is known. `messages`: for the user; `error`: why nothing could be read."""

    question: int
    known: list[Known | None]
    messages: list[str] = []
    error: str = ""


class Seek(msgspec.Struct, frozen=True, tag="seek"):
    """Which files of earlier runs may be the same as those with these marks? Answered by Sought."""

    question: int
    store: str
    marks: list[list[int]]  # of each file


class Sought(msgspec.Struct, frozen=True, tag="sought"):
    """Paths, for each file, of files that are as they were when they were complete."""

    question: int
    paths: list[list[str]]


class FileSeen(msgspec.Struct, frozen=True, array_like=True):
    """File number `file` is at `path` now, which is its name `name` (identity.py); `sync`: bytes of it may not be durable.

    `moving`: more is being written to it, which the row does not claim: its time is not recorded, so that a run which
    follows on a crash looks at all of it. `identity`: which file was checked or finished, where that is what the row claims;
    None: the one that is there.
    """

    file: int
    path: str
    name: int
    sync: bool
    moving: bool = False
    identity: Identity | None = None


class Alike(msgspec.Struct, frozen=True, array_like=True):
    """File number `file`, at `path`, is complete: those of other torrents that have one of the `marks` may be the same."""

    file: int
    path: str
    marks: list[int]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be recorded of a torrent: `have` holds as soon as the `files` that changed since the last row are durable.

    `count`: of all its files, and the number of the parts file among the `files`; `used`: seconds since 1970. `parts`: None
    where no piece is in the parts file. The others: see Known.
    """

    torrent: int
    key: bytes
    directory: str
    count: int
    complete: bool
    have: bytes
    files: list[FileSeen]
    partial: list[PartialPiece]
    parts: PartsSeen | None = None
    taken: list[TakenFile] = []
    alike: list[Alike] = []
    uploaded: int
    downloaded: int
    peers: bytes
    trackers: list[str]
    used: int


class Record(msgspec.Struct, frozen=True, tag="record"):
    """Make the files durable and put the rows into the store. Answered by Recorded."""

    question: int
    store: str
    rows: list[Row]


class Recorded(msgspec.Struct, frozen=True, tag="recorded"):
    """`failed`: (torrent, file, errno) of files that could not be made durable; the rows of these torrents are not recorded.

    `messages`: for the user; `error`: why none could be recorded.
    """

    question: int
    failed: list[tuple[int, int, int]] = []
    messages: list[str] = []
    error: str = ""


class Reopen(msgspec.Struct, frozen=True, tag="reopen"):
    """A file has gone, or was replaced: it is opened anew, and made where it is not there. Answered by Reopened."""

    question: int
    torrent: int
    file: int


class Reopened(msgspec.Struct, frozen=True, tag="reopened"):
    """Nothing is written into what was open before."""

    question: int


class HashFile(msgspec.Struct, frozen=True, tag="hash"):
    """Hash the whole of a file, under whichever name it has. `kinds`: "sha-1", "sha-256", ... Answered by FileHashed."""

    question: int
    torrent: int
    file: int
    kinds: list[str]


class FileHashed(msgspec.Struct, frozen=True, tag="hashed"):
    """A digest of each kind, of `length` bytes; `errno`: why it could not be read."""

    question: int
    digests: list[bytes] = []
    length: int = 0
    errno: int = 0


class Problem(msgspec.Struct, frozen=True, tag="problem"):
    """An operation on a file failed; the completion record that follows has its errno."""

    torrent: int
    path: str
    message: str
    errno: int


Order = OpenTorrent | CloseTorrent | CheckPieces | ReadBlocks | ReadLeaves | Recall | Record | Reopen | HashFile | Seek
Answer = PiecesChecked | BlocksRead | LeavesRead | Recalled | Recorded | Reopened | FileHashed | Sought | Problem
Question = CheckPieces | ReadBlocks | ReadLeaves | Recall | Record | Reopen | HashFile | Seek
_WITH_NUMBER = (
    ReadBlocks, BlocksRead, ReadLeaves, LeavesRead, Recall, Recalled, Record, Recorded, Reopen, Reopened, HashFile, FileHashed,
    Seek, Sought,
)  # fmt: skip


def question_of(message: Order | Answer) -> tuple[int, int] | None:
    """What a question and its answer have in common; None for a message that is neither."""
    if isinstance(message, (CheckPieces, PiecesChecked)):
        return message.torrent, message.first
    if isinstance(message, _WITH_NUMBER):
        return -1, message.question
    return None


def torrent_of(question: Question) -> int:
    """The torrent that a question is about; -1 for those about the resume store."""
    return question.torrent if isinstance(question, (CheckPieces, ReadBlocks, ReadLeaves, Reopen, HashFile)) else -1


_encoder = msgspec.msgpack.Encoder()
_orders: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: Order | Answer) -> bytes:
    """One framed message."""
    return frame(_encoder.encode(message))


def decode_order(body: bytes) -> Order:
    return _orders.decode(body)


def decode_answer(body: bytes) -> Answer:
    return _answers.decode(body)
