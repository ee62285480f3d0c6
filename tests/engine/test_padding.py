"""Which blocks of a piece are nothing but pad."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from btfast._bencode import encode
from btfast.engine.padding import Padding, padding_of
from btfast.metainfo.geometry import BLOCK
from btfast.metainfo.torrent import Torrent
from btfast.swarm.blocks import BlockRun

calm = settings(deadline=None, derandomize=True, max_examples=100)


def torrent_of(files: list[tuple[int, bool]], piece_length: int) -> Torrent:
    listed = [{"length": n, "path": [str(i)], "attr": "p" if pad else "x"} for i, (n, pad) in enumerate(files)]
    pieces = -(-sum(n for n, _ in files) // piece_length)
    info = {"name": "n", "files": listed, "piece length": piece_length, "pieces": bytes(20 * pieces)}
    return Torrent.parse(encode({"info": info}))


def test_a_torrent_without_pads_has_no_padding() -> None:
    assert padding_of(torrent_of([(100, False), (0, True)], BLOCK)) is None


@calm
@given(
    st.lists(st.tuples(st.integers(0, 5 * BLOCK), st.booleans()), min_size=1, max_size=6).filter(
        lambda files: any(n for n, _ in files)
    ),
    st.sampled_from([BLOCK, 4 * BLOCK, 3 * BLOCK + 5]),
)
def test_blocks_without_a_byte_of_a_file_are_pads(files: list[tuple[int, bool]], piece_length: int) -> None:
    torrent = torrent_of(files, piece_length)
    stream = b"".join((b"\0" if pad else b"x") * n for n, pad in files)
    padding = Padding(torrent)
    for index in range(torrent.piece_count):
        piece = stream[index * piece_length : (index + 1) * piece_length]
        blocks = [piece[at : at + BLOCK] for at in range(0, len(piece), BLOCK)]
        assert padding.blocks(index) == sum((b"x" not in block) << number for number, block in enumerate(blocks))
        wanted, pads = padding.split(BlockRun(index, 0, len(blocks)))
        assert sum(run.count for run in wanted + pads) == len(blocks)
        for runs, held in ((wanted, True), (pads, False)):
            for run in runs:
                assert all((b"x" in blocks[n]) is held for n in range(run.first, run.first + run.count))
