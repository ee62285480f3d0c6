"""The vectors of BEP 52: torrents of v2 alone, and hybrids. Their files hold nothing but `x`."""

from __future__ import annotations

import hashlib

from vector_parts import HASH, changed, single, torrent


def block_hashes(data: bytes) -> list[bytes]:
    return [hashlib.sha256(data[at : at + 16384]).digest() for at in range(0, len(data), 16384)]


def merkle(hashes: list[bytes], width: int, pad: bytes = bytes(32)) -> bytes:
    """The root over `hashes` with `pad` behind them up to `width`, a power of two; the definition, slowly."""
    hashes = hashes + [pad] * (width - len(hashes))
    while len(hashes) > 1:
        hashes = [hashlib.sha256(hashes[n] + hashes[n + 1]).digest() for n in range(0, len(hashes), 2)]
    return hashes[0]


def width_of(count: int) -> int:
    return 1 << (count - 1).bit_length()


def layer(data: bytes, piece_length: int) -> bytes:
    """The piece layer of a file longer than a piece."""
    leaves, some = block_hashes(data), piece_length // 16384
    return b"".join(merkle(leaves[at : at + some], some) for at in range(0, len(leaves), some))


def leaf(length: int, /, **changes: object) -> dict[bytes, object]:
    """A file of a file tree whose bytes are all `x`, with its root."""
    hashes = block_hashes(b"x" * length)
    entry: dict[bytes, object] = {b"length": length}
    if length:
        entry[b"pieces root"] = merkle(hashes, width_of(len(hashes)))
    return {b"": changed(entry, changes)}


def v2(tree: object, **changes: object) -> dict[bytes, object]:
    info: dict[bytes, object] = {b"file tree": tree, b"meta version": 2, b"name": b"root", b"piece length": 32768}
    return changed(info, changes)


def both(tree: object, files: list[tuple[int, bytes, object]], /, **changes: object) -> dict[bytes, object]:
    """A hybrid; `files`: length, path and attr of each in the v1 half."""
    listed = [
        {b"length": length, b"path": path.split(b"/")} | ({b"attr": attr} if attr else {})
        for length, path, attr in files
    ]
    total = sum(length for length, _, _ in files)
    return v2(tree, **{"files": listed, "pieces": HASH * -(-total // 32768), **changes})


def layers(*lengths: int) -> dict[bytes, bytes]:
    """The piece layers of files of `x`."""
    return {leaf(length)[b""][b"pieces root"]: layer(b"x" * length, 32768) for length in lengths}  # type: ignore[index, misc]


TREE = {b"plain.bin": {b"": {b"length": 20000, b"pieces root": b"r" * 32}}}

VALID: dict[str, tuple[bytes, str, str]] = {
    "hybrid": (torrent(single(meta_version=2, file_tree=TREE), piece_layers={}), "plain.bin", "plain.bin"),
    "v2_single": (
        torrent(v2({b"plain.bin": leaf(100_000)}, name=b"plain.bin"), piece_layers=layers(100_000)),
        "plain.bin",
        "plain.bin",
    ),
    "v2_single_below_its_name": (torrent(v2({b"only.txt": leaf(5)})), "root", "only.txt"),
    "v2_multi": (
        torrent(
            v2(
                {
                    b"a": {b"empty": leaf(0), b"z.bin": leaf(70_000), b"nothing here": {}},
                    b"B": leaf(32768),
                    b"a.txt": leaf(1),
                    b"\xc3\xa4": leaf(40_000),
                    b"run": leaf(9, attr=b"x"),
                }
            ),
            piece_layers=layers(70_000, 40_000),
        ),
        "root",
        "B|a/empty|a/z.bin|a.txt|run|ä",
    ),
    "v2_no_layers": (torrent(v2({b"x": leaf(100_000), b"y": leaf(70_000)})), "root", "x|y"),
    "v2_some_layers": (
        torrent(v2({b"x": leaf(100_000), b"y": leaf(70_000)}), piece_layers=layers(70_000)),
        "root",
        "x|y",
    ),
    "v2_same_file_twice": (
        torrent(v2({b"x": leaf(100_000), b"y": leaf(100_000)}), piece_layers=layers(100_000)),
        "root",
        "x|y",
    ),
    "v2_layer_of_one_piece": (
        torrent(v2({b"x": leaf(100)}), piece_layers={leaf(100)[b""][b"pieces root"]: leaf(100)[b""][b"pieces root"]}),  # type: ignore[index]
        "root",
        "x",
    ),
    "v2_symlinks": (
        torrent(v2({b"link": {b"": {b"attr": b"l", b"length": 0, b"symlink path": [b"x"]}}, b"x": leaf(100)})),
        "root",
        "link|x",
    ),
    "v2_climbs_out": (
        torrent(
            v2(
                {
                    b"..": {b"..": {b"etc": {b"passwd": leaf(1)}}},
                    b"/etc/shadow": leaf(1),
                    b"C:\\autoexec.bat": leaf(1),
                    b"a\0b": leaf(1),
                    b"nul": leaf(1),
                    b"\xff": leaf(1),
                },
                name=b"../x",
            )
        ),
        "..x",
        "_/_/etc/passwd|etcshadow|C_autoexec.bat|a_b|_nul|_.1",
    ),
    "v2_names_clash": (
        torrent(v2({b"A": leaf(1), b"a": leaf(2), b"b": {b"c": leaf(3)}, b"b.part": leaf(4)})),
        "root",
        "A|a|b/c|b.part",
    ),
    "hybrid_multi": (
        torrent(
            both(
                {b"a": {b"b": leaf(40_000), b"c": leaf(0)}, b"d": leaf(32768), b"e": leaf(7, attr=b"x")},
                [(40_000, b"a/b", 0), (25_536, b".pad/25536", b"p"), (0, b"a/c", 0), (32768, b"d", 0), (7, b"e", b"x")],
            ),
            piece_layers=layers(40_000),
        ),
        "root",
        "a/b|.pad/25536|a/c|d|e",
    ),
    "hybrid_tail_pad": (
        torrent(both({b"a": leaf(5)}, [(5, b"a", 0), (32763, b".pad/32763", b"p")])),
        "root",
        "a|.pad/32763",
    ),
    "hybrid_utf8_twins": (
        torrent(
            both(
                {b"\xc3\xa4": leaf(5)},
                [],
                files=[{b"length": 5, b"path": [b"\xe4"], b"path.utf-8": [b"\xc3\xa4"]}],
                pieces=HASH,
            )
        ),
        "root",
        "ä",
    ),
    "v1_with_a_meta_version": (torrent(single(meta_version=1, file_tree=5)), "plain.bin", "plain.bin"),
}

INVALID: dict[str, tuple[bytes, str]] = {
    "v2_no_meta_version": (torrent(v2({b"x": leaf(5)}, meta_version=None)), "no meta version"),
    "v2_of_tomorrow": (torrent(v2({b"x": leaf(5)}, meta_version=3)), "meta version is 3"),
    "v2_meta_version_is_text": (torrent(v2({b"x": leaf(5)}, meta_version=b"2")), "meta version is b'2'"),
    "v2_no_tree": (torrent(v2({}, file_tree=None)), "file tree is missing"),
    "v2_tree_is_a_list": (torrent(v2([leaf(5)])), "file tree is missing or not a dict"),
    "v2_empty_tree": (torrent(v2({b"a": {b"b": {}}})), "file tree is empty"),
    "v2_file_without_a_name": (torrent(v2(leaf(5))), "file without a name"),
    "v2_file_and_directory": (torrent(v2({b"a": leaf(5) | {b"b": leaf(5)}})), "'a' as a file and as a directory"),
    "v2_file_is_a_number": (torrent(v2({b"a": {b"": 5}})), "file 'a' is not a dict"),
    "v2_node_is_a_number": (torrent(v2({b"a": {b"b": 5}})), "'a/b', which is neither"),
    "v2_no_length": (torrent(v2({b"a": leaf(5, length=None)})), "'a' has no usable length"),
    "v2_length_negative": (torrent(v2({b"a": leaf(5, length=-1)})), "'a' has no usable length"),
    "v2_no_root": (torrent(v2({b"a": leaf(5, pieces_root=None)})), "no pieces root"),
    "v2_root_too_short": (torrent(v2({b"a": leaf(5, pieces_root=b"r" * 31)})), "no pieces root"),
    "v2_zero_root": (torrent(v2({b"a": leaf(5, pieces_root=bytes(32))})), "no pieces root"),
    "v2_pad": (torrent(v2({b"a": leaf(5), b"p": leaf(5, attr=b"p")})), "pad file"),
    "v2_symlink_to_nothing": (torrent(v2({b"a": leaf(0, attr=b"l", symlink_path=[])})), "is a symlink whose target"),
    "v2_nothing_in_it": (torrent(v2({b"a": leaf(0)})), "0 bytes in all"),
    "v2_total_beyond_63_bits": (
        torrent(v2({b"a": leaf(5, length=2**62), b"b": leaf(6, length=2**62)})),
        "in all",
    ),
    "v2_too_many_pieces": (torrent(v2({b"a": leaf(5, length=2**40)})), "pieces"),
    "v2_unsorted": (
        b"d4:infod9:file treed1:bd0:d6:lengthi0eee1:ad0:d6:lengthi5e11:pieces root32:"
        + b"r" * 32
        + b"eee12:meta versioni2e4:name1:x12:piece lengthi16384eee",
        "not in ascending order",
    ),
    "v2_piece_length_odd": (torrent(v2({b"a": leaf(5)}, piece_length=49152)), "power of two"),
    "v2_piece_length_small": (torrent(v2({b"a": leaf(5)}, piece_length=8192)), "power of two"),
    "v2_layers_are_a_list": (torrent(v2({b"a": leaf(100_000)}), piece_layers=[]), "string of hashes"),
    "v2_layer_is_a_number": (torrent(v2({b"a": leaf(100_000)}), piece_layers={b"r" * 32: 5}), "string of hashes"),
    "v2_layer_of_nobody": (
        torrent(v2({b"a": leaf(100_000)}), piece_layers=layers(100_000, 70_000)),
        "no file of more than one piece",
    ),
    "v2_layer_wrong": (
        torrent(v2({b"a": leaf(100_000)}), piece_layers={root: b"r" * 128 for root in layers(100_000)}),
        "does not lead to root",
    ),
    "v2_layer_cut": (
        torrent(v2({b"a": leaf(100_000)}), piece_layers={root: found[:-1] for root, found in layers(100_000).items()}),
        "127 bytes of hashes",
    ),
    "v2_layer_padded": (
        torrent(v2({b"a": leaf(70_000)}), piece_layers={r: found + bytes(32) for r, found in layers(70_000).items()}),
        "128 bytes of hashes where level 1 has 3",
    ),
    "v2_one_root_two_lengths": (
        torrent(v2({b"a": leaf(100_000), b"b": leaf(100_000, length=100_001)})),
        "different lengths have one root",
    ),
    "hybrid_other_name": (torrent(both({b"a": leaf(5)}, [(5, b"b", 0)])), "'b' in the v1 half is 'a' in the v2 half"),
    "hybrid_other_length": (torrent(both({b"a": leaf(5)}, [(6, b"a", 0)])), "6 bytes in the v1 half and 5"),
    "hybrid_other_order": (
        torrent(
            both(
                {b"a": leaf(32768), b"b": leaf(32768)},
                [(32768, b"b", 0), (32768, b"a", 0)],
            )
        ),
        "'b' in the v1 half is 'a'",
    ),
    "hybrid_a_file_less": (torrent(both({b"a": leaf(5), b"b": leaf(0)}, [(5, b"a", 0)])), "1 files and the v2 half 2"),
    "hybrid_a_file_more": (
        torrent(both({b"a": leaf(5)}, [(5, b"a", 0), (0, b"b", 0)])),
        "more than the 1 files",
    ),
    "hybrid_not_aligned": (
        torrent(both({b"a": leaf(5), b"b": leaf(5)}, [(5, b"a", 0), (5, b"b", 0)])),
        "'b' does not begin with a piece",
    ),
    "hybrid_pad_too_long": (
        torrent(both({b"a": leaf(5)}, [(5, b"a", 0), (65536, b".pad/65536", b"p")])),
        "3 pieces and the v2 half 1",
    ),
    "hybrid_other_link": (
        torrent(
            both(
                {b"l": {b"": {b"attr": b"l", b"length": 0, b"symlink path": [b"x"]}}, b"x": leaf(5)},
                [],
                files=[
                    {b"attr": b"l", b"length": 0, b"path": [b"l"], b"symlink path": [b"y"]},
                    {b"length": 5, b"path": [b"x"]},
                ],
                pieces=HASH,
            )
        ),
        "'l' is another link",
    ),
    "hybrid_single_and_directory": (
        torrent(v2({b"a": {b"plain.bin": leaf(5)}}, name=b"plain.bin", length=5, pieces=HASH)),
        "'plain.bin' in the v1 half is 'a/plain.bin'",
    ),
}
