"""btfast.check from Python."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.torrents import make

import btfast


def test_the_result_names_what_is_wrong(tmp_path: Path) -> None:
    made = make({"a": 100_000, "b": 70_000}, name="t")
    made.lay_out(tmp_path)
    path = made.save(tmp_path)
    result = btfast.check(path, tmp_path)
    assert result.complete
    assert (result.pieces, result.good, result.size, result.name) == (3, 3, 170_000, "t")
    (tmp_path / "t/b").write_bytes(bytes(70_000))
    result = btfast.check(btfast.Torrent.load(path), tmp_path)
    assert not result.complete
    assert result.bad == ((1, 2),)
    assert [(file.path, file.state) for file in result.files] == [(tmp_path / "t/a", "bad"), (tmp_path / "t/b", "bad")]


def test_progress_and_sums(tmp_path: Path) -> None:
    made = make(1_000_000, name="one")
    made.lay_out(tmp_path)
    seen: list[tuple[int, int]] = []
    result = btfast.check(
        made.torrent, tmp_path, progress=lambda done, total: seen.append((done, total)), sums=True, workers=3
    )
    assert seen[-1] == (1_000_000, 1_000_000)
    assert result.files[0].sha256 == hashlib.sha256(made.data).hexdigest()


def test_errors_say_whose_fault_it_was(tmp_path: Path) -> None:
    made = make(10, name="one")
    with pytest.raises(btfast.SourceNotFoundError, match="no such directory"):
        btfast.check(made.torrent, tmp_path / "nowhere")
    with pytest.raises(btfast.SourceNotFoundError, match="no such file"):
        btfast.check(tmp_path / "no.torrent", tmp_path)
    with pytest.raises(btfast.InputError):
        btfast.check(b"nonsense", tmp_path)
