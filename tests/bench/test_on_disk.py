"""The loads that check data and make torrents of it, at a size of a few MiB."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.loads.base import Load, Scale
from bench.loads.on_disk import Check, Cold, Create, Hybrid
from bench.payload import MIB


@pytest.mark.parametrize("kind", [Check, Cold, Create, Hybrid])
def test_every_program_that_is_here_does_the_job(tmp_path: Path, kind: type[Load]) -> None:
    with kind(Scale(size=4 * MIB), tmp_path) as load:
        clients = [client for client in load.clients if client.missing() is None]
        samples = load.rounds(clients, 1, lambda sample: None)
    assert {"btfast", "libtorrent"} <= {sample.client for sample in samples}
    assert [sample.failure for sample in samples if sample.failure] == []
    assert all(sample.figures["mib_s"] > 0 for sample in samples)


def test_wrong_hashes_are_not_taken_for_a_torrent(tmp_path: Path) -> None:
    with Create(Scale(size=4 * MIB), tmp_path) as load:
        load.job.folder.mkdir()
        assert load.check() == "no torrent was made"
        (load.job.folder / "made.torrent").write_bytes(b"d4:infod6:pieces20:" + bytes(20) + b"ee")
        assert load.check() == "its piece hashes are wrong"
