"""Writes the .torrent files of this folder and their MANIFEST.tsv. Run it after a change; a test compares.

Each row: file, `valid` or `invalid`; for valid ones the name and the paths as used, for invalid ones words of the
error.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import v2_vectors  # noqa: E402
from vector_parts import HASH, bencode, multi, single, torrent  # noqa: E402

PAD = {b"attr": b"p", b"length": 6, b"path": [b".pad", b"6"]}

VALID: dict[str, tuple[bytes, str, str]] = {
    "single": (torrent(single(), announce=b"http://127.0.0.1:6969/announce"), "plain.bin", "plain.bin"),
    "single_in_multi": (torrent(multi([b"only.txt"])), "root", "only.txt"),
    "trailing_newline": (torrent(single()) + b"\n", "plain.bin", "plain.bin"),
    "unsorted_keys": (
        b"d4:infod12:piece lengthi16384e6:pieces20:" + HASH + b"6:lengthi5e4:name1:xe8:announce3:urle",
        "x",
        "x",
    ),
    "duplicate_keys": (
        b"d4:infod6:lengthi5e4:name5:first4:name6:second12:piece lengthi16384e6:pieces20:" + HASH + b"ee",
        "first",
        "first",
    ),
    "pad_and_attrs": (
        torrent(
            multi(
                files=[
                    {b"length": 10, b"path": [b"run.sh"], b"attr": b"x"},
                    PAD,
                    {b"length": 10, b"path": [b".hidden"], b"attr": b"hx?"},
                    PAD,
                    {b"attr": b"p", b"length": 3},
                ]
            )
        ),
        "root",
        "run.sh|.pad/6|.hidden|.pad/6|.pad/3",
    ),
    "symlinks": (
        torrent(
            multi(
                files=[
                    {b"length": 10, b"path": [b"a", b"real"]},
                    {b"attr": b"l", b"path": [b"link"], b"symlink path": [b"a", b"real"]},
                    {b"attr": b"l", b"length": 0, b"path": [b"out"], b"symlink path": [b"..", b"..", b"etc"]},
                    {b"length": 10, b"path": [b"link", b"through"]},
                ]
            )
        ),
        "root",
        "a/real|link.1|out|link/through",
    ),
    "utf8_twins": (
        torrent(
            multi(
                files=[{b"length": 10, b"path": [b"\xe4.txt"], b"path.utf-8": [b"\xc3\xa4.txt"]}],
                **{"name.utf-8": "ö".encode(), "name": b"\xf6"},
            )
        ),
        "ö",
        "ä.txt",
    ),
    "not_utf8": (torrent(multi([b"\xff\xfea", b"b\x80.txt"], name=b"r\xe9")), "r_", "__a/b_.txt"),
    "climbs_out": (
        torrent(
            multi(
                [b"..", b"..", b"etc", b"passwd"],
                [b"/etc/shadow"],
                [b"..\\..\\boot.ini"],
                [b"C:\\autoexec.bat"],
                [b"c:", b"x"],
                [b"a\0b"],
                [b"./.."],
                [b".", b"", b"y"],
                name=b"../../../tmp",
            )
        ),
        "......tmp",
        "_/_/etc/passwd|etcshadow|....boot.ini|C_autoexec.bat|c_/x|a_b|...|y",
    ),
    "name_unusable": (
        torrent(multi([b"a"], name=b"..")),
        hashlib.sha1(bencode(multi([b"a"], name=b".."))).hexdigest(),
        "a",
    ),
    "device_names": (
        torrent(multi([b"CON"], [b"aux.c"], [b"nul .txt", b"x"], [b"com1.tar.gz"], [b"console"], name=b"PRN")),
        "_PRN",
        "_CON|_aux.c|_nul .txt/x|_com1.tar.gz|console",
    ),
    "unseen_characters": (
        torrent(multi(["photo\u202egpj.exe".encode()], [b"bell\x07"], ["line\u2028end".encode()], [b"\x1b[2J"])),
        "root",
        "photo_gpj.exe|bell_|line_end|_[2J",
    ),
    "same_name": (
        torrent(multi([b"a.txt"], [b"a.txt"], [b"a.1.txt"], [b"a.txt"])),
        "root",
        "a.txt|a.2.txt|a.1.txt|a.3.txt",
    ),
    "same_but_for_case": (
        torrent(multi([b"Readme"], [b"README"], ["É".encode()], ["e\u0301".encode()])),
        "root",
        "Readme|README|É|e\u0301",
    ),
    "file_or_directory": (torrent(multi([b"x"], [b"X", b"y"], [b"x", b"y"])), "root", "x.1|X/y|x/y"),
    "working_names": (
        torrent(multi([b"a"], [b"a.part"], [b"b.part", b"c"], [b"b"])),
        "root",
        "a|a.1.part|b.part/c|b.1",
    ),
    "long_names": (
        torrent(multi([b"d" * 300, b"n" * 300 + b".tar"], ["ü".encode() * 200], [b"w" * 250], [b"v" * 251])),
        "root",
        "|".join(
            ["d" * 255 + "/" + "n" * 246 + ".tar", "ü" * 125, "w" * 250, "v" * 250],
        ),
    ),
    "very_deep": (
        torrent(multi([b"d"] * 40 + [b"leaf"])),
        "root",
        hashlib.sha1(b"/".join([b"d"] * 40)).hexdigest() + "/leaf",
    ),
    "empty_files": (
        torrent(multi(files=[{b"length": n, b"path": [b"%d" % i]} for i, n in enumerate((0, 5, 0, 0, 5, 0))])),
        "root",
        "0|1|2|3|4|5",
    ),
    "odd_piece_length": (torrent(single(piece_length=12345)), "plain.bin", "plain.bin"),
    "odd_top_level": (
        torrent(
            single(private=b"1", source=b"\xff", attr=7, unknown=[{}]),
            announce=b" http://a/b c ",
            nodes=[[b"h", 1], [b"h"], b"x", [b"::1", 2], [1, 2], [b"h", 0], [b"h", -1]],
            comment=[],
            creation_date=b"now",
            url_list=[b"", b"ftp://x/", b"http://w/f", b"http://w/f", 7, b"http://\xff/"],
            httpseeds=b"https://h/s",
            **{"announce-list": [[], [b""], [b"\xff"]]},
        ),
        "plain.bin",
        "plain.bin",
    ),
}

INVALID: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a .torrent file"),
    "web_page": (b"<!DOCTYPE html><html><body>404</body></html>", "not a .torrent file"),
    "a_list": (b"l4:infoe", "not a .torrent file"),
    "truncated": (torrent(single())[:-30], "damaged"),
    "huge_length_prefix": (b"d4:infod4:name99999999999:", "damaged"),
    "deeply_nested": (b"d4:info" + b"l" * 500 + b"e" * 500 + b"e", "nested too deeply"),
    "leading_zero": (b"d4:infod6:lengthi007e4:name1:xee", "damaged"),
    "no_info": (torrent(single()).replace(b"4:info", b"4:inf0"), "no info dict"),
    "info_is_a_list": (torrent([]), "no info dict"),
    "no_name": (torrent(single(name=None)), "no name"),
    "name_is_a_number": (torrent(single(name=5)), "no name"),
    "no_piece_length": (torrent(single(piece_length=None)), "piece length"),
    "piece_length_zero": (torrent(single(piece_length=0)), "piece length"),
    "piece_length_negative": (torrent(single(piece_length=-16384)), "piece length"),
    "piece_length_too_large": (torrent(single(length=1, piece_length=536854529, pieces=HASH)), "piece length"),
    "no_pieces": (torrent(single(pieces=None)), "piece hashes"),
    "pieces_is_a_number": (torrent(single(pieces=5)), "piece hashes"),
    "pieces_cut": (torrent(single(pieces=HASH + HASH[:19])), "piece hashes"),
    "pieces_too_few": (torrent(single(pieces=HASH)), "1 piece hashes where 2"),
    "pieces_too_many": (torrent(single(pieces=HASH * 3)), "3 piece hashes where 2"),
    "length_zero": (torrent(single(length=0, pieces=b"")), "0 bytes in all"),
    "length_negative": (torrent(single(length=-1)), "length"),
    "length_beyond_63_bits": (torrent(single(length=2**63)), "length"),
    "length_is_text": (torrent(single(length=b"20000")), "length"),
    "total_beyond_63_bits": (
        torrent(multi(files=[{b"length": 2**62, b"path": [b"%d" % i]} for i in range(2)])),
        "in all",
    ),
    "no_files": (torrent(multi()), "list of files is empty"),
    "files_is_a_dict": (torrent(multi(files={b"a": 1})), "list of files is empty"),
    "file_is_a_string": (torrent(multi(files=[b"x"])), "file 0 is not a dict"),
    "no_path": (torrent(multi(files=[{b"length": 1}])), "file 0 has no path"),
    "path_without_elements": (torrent(multi([])), "file 0 has no path"),
    "path_of_numbers": (torrent(multi([b"a"], files=[{b"length": 1, b"path": [1, 2]}])), "file 0 has no path"),
    "path_is_a_string": (torrent(multi(files=[{b"length": 1, b"path": b"a"}])), "file 0 has no path"),
    "symlink_to_a_number": (
        torrent(multi(files=[{b"attr": b"l", b"path": [b"a"], b"symlink path": 5}])),
        "file 0 is a symlink",
    ),
    "one_name_too_often": (torrent(multi(*[[b"a.txt"]] * 102)), "others want its name"),
}

VALID |= v2_vectors.VALID
INVALID |= v2_vectors.INVALID


def main() -> None:
    """Writes everything."""
    lines = ["file\texpected\tname or words of the error\tpaths"]
    for stem, (data, name, paths) in VALID.items():
        (HERE / f"{stem}.torrent").write_bytes(data)
        lines.append(f"{stem}.torrent\tvalid\t{name}\t{paths}")
    for stem, (data, words) in INVALID.items():
        (HERE / f"{stem}.torrent").write_bytes(data)
        lines.append(f"{stem}.torrent\tinvalid\t{words}\t")
    (HERE / "MANIFEST.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
