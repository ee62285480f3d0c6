"""Requests in runs: what is served, what is refused, and what is read ahead, over files of any size."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest
from engine_parts import Owner, connected, small_context

from btfast._bitfield import Bitfield
from btfast.engine.served_files import ServedFiles
from btfast.engine.serving import AHEAD, FEW, UNREAD, Serving
from btfast.metainfo.geometry import BLOCK, FileSpan
from btfast.storage.layout import Layout
from btfast.storage.messages import OpenTorrent
from btfast.swarm.pieces import Pieces
from btfast.wire import messages
from btfast.wire.extensions import OUR_REQQ

PIECE = 8 << 20


class NotingFiles(ServedFiles):
    """Notes what is read ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead: list[FileSpan] = []

    def read_ahead(self, layout: Layout, spans: list[FileSpan]) -> None:
        self.ahead += spans
        super().read_ahead(layout, spans)


class Seeding:
    """One torrent that is complete, and a peer of it that is unchoked."""

    def __init__(self, folder: Path, lengths: list[int], *, piece_length: int = PIECE, fast: bool = True) -> None:
        self.data = random.Random(7).randbytes(sum(lengths))
        at = 0
        for number, length in enumerate(lengths):
            (folder / str(number)).write_bytes(self.data[at : at + length])
            at += length
        order = OpenTorrent(
            torrent=0, directory=str(folder), paths=[str(number) for number in range(len(lengths))], lengths=lengths, pads=[],
            piece_length=piece_length, in_place=True, io="auto",
        )  # fmt: skip
        context = small_context()
        self.files = context.served = NotingFiles()
        layout = Layout(order)
        pieces = Pieces(layout.geometry, Bitfield.full(layout.geometry.piece_count))
        pieces.found(list(range(layout.geometry.piece_count)))
        self.serving = Serving(context, layout, layout.geometry, pieces)
        self.lost: list[int] = []
        self.serving.handle_lost = lambda index, error: self.lost.append(index)
        self.owner = Owner()
        self.peer, self.theirs = connected(context, self.owner)
        self.peer.fast = fast
        self.peer.am_choking = False

    def refusals(self) -> list[bytes]:
        """The messages that have come; no blocks."""
        self.peer.stream.drop_blocks()
        self.peer.flush()
        data = self.theirs.recv(1 << 16)
        return [data[at : at + 17] for at in range(0, len(data), 17)]

    def answers(self) -> list[tuple[int, int, bytes]]:
        """The blocks that have come: index, begin, bytes."""
        self.peer.flush()
        self.theirs.setblocking(False)
        found, blocks = bytearray(), []
        while self.peer.stream.uploads or self.peer.stream.sent > len(found):
            try:
                found += self.theirs.recv(1 << 20)
            except BlockingIOError:
                self.peer.stream.flush()
        while found:
            size = int.from_bytes(found[:4], "big")
            if found[4] == 7:
                index, begin = int.from_bytes(found[5:9], "big"), int.from_bytes(found[9:13], "big")
                blocks.append((index, begin, bytes(found[13 : 4 + size])))
            del found[: 4 + size]
        return blocks

    def close(self) -> None:
        self.peer.close("over")
        self.theirs.close()


@pytest.mark.parametrize("lengths", [[3 * BLOCK + 9], [BLOCK - 5, 7, 2 * BLOCK], [2000] * 40, [0, 1, 0, 70_000]])
async def test_a_run_is_answered_block_by_block(tmp_path: Path, lengths: list[int]) -> None:
    seeding = Seeding(tmp_path, lengths)
    total = sum(lengths)
    seeding.serving.handle_requests(seeding.peer, 0, 0, total)
    blocks = seeding.answers()
    assert [(begin, len(data)) for _, begin, data in blocks] == [
        (begin, min(BLOCK, total - begin)) for begin in range(0, total, BLOCK)
    ]
    assert b"".join(data for _, _, data in blocks) == seeding.data
    seeding.close()


@pytest.mark.parametrize(("index", "begin", "length"), [(1, 0, 2 * BLOCK), (0, BLOCK, 4 * BLOCK), (0, 2**32 - 1, 2 * BLOCK)])
async def test_a_run_that_leaves_the_torrent_ends_the_connection(tmp_path: Path, index: int, begin: int, length: int) -> None:
    seeding = Seeding(tmp_path, [4 * BLOCK])
    seeding.serving.handle_requests(seeding.peer, index, begin, length)
    assert "do not exist" in seeding.owner.closed[0]
    seeding.close()


async def test_no_more_than_our_reqq_is_queued_and_the_rest_is_rejected(tmp_path: Path) -> None:
    seeding = Seeding(tmp_path, [40 << 20], piece_length=40 << 20)
    length = (OUR_REQQ + 3) * BLOCK
    seeding.serving.handle_requests(seeding.peer, 0, 0, length)
    assert seeding.peer.stream.uploads == OUR_REQQ
    assert seeding.refusals() == [messages.encode_reject(0, (OUR_REQQ + n) * BLOCK, BLOCK) for n in range(3)]
    seeding.close()


async def test_a_choked_peer_has_each_block_rejected(tmp_path: Path) -> None:
    seeding = Seeding(tmp_path, [3 * BLOCK - 1])
    seeding.peer.am_choking = True
    seeding.serving.handle_requests(seeding.peer, 0, BLOCK, 2 * BLOCK - 1)
    assert seeding.peer.stream.uploads == 0
    assert seeding.refusals() == [messages.encode_reject(0, BLOCK, BLOCK), messages.encode_reject(0, 2 * BLOCK, BLOCK - 1)]
    seeding.close()


async def test_the_rest_of_a_piece_is_read_ahead_once(tmp_path: Path) -> None:
    seeding = Seeding(tmp_path, [2 * PIECE])
    for begin in range(0, 2 * AHEAD, BLOCK):
        seeding.serving.handle_request(seeding.peer, 0, begin, BLOCK)
    assert seeding.files.ahead == [FileSpan(0, 0, AHEAD), FileSpan(0, AHEAD, AHEAD)]
    seeding.serving.handle_requests(seeding.peer, 1, PIECE - 3 * BLOCK, 2 * BLOCK)
    assert seeding.files.ahead[2:] == [FileSpan(0, 2 * PIECE - 3 * BLOCK, 3 * BLOCK)]
    seeding.close()


async def test_the_pieces_that_wait_in_a_peers_queue_are_read_ahead_before_the_first_block_has_left(tmp_path: Path) -> None:
    piece = 1 << 18
    seeding = Seeding(tmp_path, [16 * piece], piece_length=piece)
    for index in (3, 4, 5, 9):
        for begin in range(0, piece, BLOCK):
            seeding.serving.handle_request(seeding.peer, index, begin, BLOCK)
    assert seeding.peer.stream.payload_sent == 0
    assert seeding.files.ahead == [FileSpan(0, index * piece, piece) for index in (3, 4, 5, 9)]
    seeding.close()


async def test_blocks_here_and_there_do_not_keep_the_disk_busy(tmp_path: Path) -> None:
    pieces = 64
    seeding = Seeding(tmp_path, [pieces << 20], piece_length=1 << 20)
    for turn in range(20):
        for index in range(pieces):
            seeding.serving.handle_request(seeding.peer, index, turn * BLOCK, BLOCK)
    asked = 20 * pieces * BLOCK
    assert sum(span.length for span in seeding.files.ahead) <= UNREAD + asked
    seeding.close()


async def test_one_file_of_many_that_is_gone_costs_its_piece_only(tmp_path: Path) -> None:
    seeding = Seeding(tmp_path, [BLOCK] * (2 * FEW), piece_length=FEW * BLOCK)
    (tmp_path / str(FEW + 1)).unlink()
    for index in (0, 1):
        seeding.serving.handle_requests(seeding.peer, index, 0, FEW * BLOCK)
    assert seeding.lost == [1]
    assert [index for index, _, _ in seeding.answers()] == [0] * FEW
    seeding.close()


@pytest.mark.parametrize("reason", [errno.EMFILE, errno.ENFILE])
async def test_a_piece_is_not_given_up_since_no_descriptor_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    seeding = Seeding(tmp_path, [2 * BLOCK])

    def none_free(*_: object) -> None:
        raise OSError(reason, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(seeding.files, "segments", none_free)
        seeding.serving.handle_request(seeding.peer, 0, 0, BLOCK)
        assert seeding.refusals() == [messages.encode_reject(0, 0, BLOCK)]
    assert seeding.lost == []
    seeding.serving.handle_request(seeding.peer, 0, 0, BLOCK)
    assert seeding.peer.stream.uploads == 1
    seeding.close()
