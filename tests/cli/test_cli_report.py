"""How a run is shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from btfast.cli import report
from btfast.cli.bars import Bars
from btfast.cli.totals import Totals
from btfast.errors import StorageError
from btfast.events import Added, Complete, Event, Failed, Metadata, Peer, PieceFailed, Progress, Warning

ADDED = Added(id=0, source="a.torrent", directory="/d")
METADATA = Metadata(
    id=0, name="a", info_hash="00" * 20, size=2**30, files=2, pieces=4, piece_length=2**28, private=False
)
FAILED = Failed(id=1, source="b.torrent", error="b.torrent: gone: give up", kind="SourceNotFoundError", exit_code=5)


def complete(number: int = 0, **changes: Any) -> Complete:
    values: dict[str, Any] = {
        "source": "a.torrent", "name": "a", "info_hash": "00" * 20, "directory": "/d", "files": ["a/x", "a/y"],
        "bytes": 2**30, "downloaded": 2**30, "uploaded": 0, "wasted": 0, "seconds": 2.0, "rate": 2**29,
        "limited_by": "disk",
    }  # fmt: skip
    return Complete(id=number, **(values | changes))


def progress(number: int, **changes: Any) -> Progress:
    values: dict[str, Any] = {
        "state": "downloading", "done": 2**29, "total": 2**30, "rate_down": 2**20, "rate_up": 0, "peers": 3, "seeds": 1,
        "eta": 512,
    }  # fmt: skip
    return Progress(id=number, **(values | changes))


def show(events: list[Event], *, items: int = 2, quiet: bool = False, verbose: bool = False) -> Totals:
    totals = Totals(items)
    plain = report.PlainReporter(totals, quiet=quiet, verbose=verbose, results=True, progress=True)
    for event in events:
        totals.handle_event(event)
        plain.handle_event(event)
    return totals


def test_a_result_says_what_was_done_how_fast_and_what_limited_it(capsys: pytest.CaptureFixture[str]) -> None:
    show([complete()])
    assert capsys.readouterr() == ("a: 1.00 GiB in 2.0 s, 512 MiB/s, limited by the disk\n", "")


def test_a_result_without_a_download_claims_no_speed(capsys: pytest.CaptureFixture[str]) -> None:
    show([complete(downloaded=0, limited_by="nothing to do", uploaded=2**20)])
    assert capsys.readouterr().out == "a: 1.00 GiB, complete, 1.00 MiB served\n"


def test_errors_and_warnings_go_to_stderr_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show([FAILED, Warning(id=None, message="two\nlines"), METADATA])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "btfast: error: b.torrent: gone: give up\nbtfast: warning: two?lines\n"


def test_a_failure_names_its_source() -> None:
    event = Failed(id=0, source="c.torrent", error="tracker: refused: try later", kind="RemoteError", exit_code=3)
    assert report.failure_line(event) == "c.torrent: tracker: refused: try later"


def test_quiet_leaves_only_errors(capsys: pytest.CaptureFixture[str]) -> None:
    totals = show([ADDED, METADATA, complete(), Warning(id=0, message="w"), FAILED], quiet=True)
    show([totals.summary(1.0, 0)], quiet=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "btfast: error: b.torrent: gone: give up\n"


def test_verbose_tells_of_peers_and_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    peer = Peer(id=0, address="1.2.3.4:5", change="banned", reason="wrong data", client="x/1")
    show([METADATA, peer, PieceFailed(id=0, index=3, peers=["1.2.3.4:5"])], verbose=True)
    err = capsys.readouterr().err
    assert "peer 1.2.3.4:5 x/1: banned: wrong data" in err
    assert "piece 3: wrong data from 1.2.3.4:5" in err


def test_a_list_ends_in_one_line_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    totals = show([complete(), FAILED])
    summary = totals.summary(4.0, 0)
    assert (summary.complete, summary.failed, summary.exit_code) == (1, 1, 5)
    capsys.readouterr()
    show([complete(), FAILED, summary])
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "1 of 2 items complete, 1 failed: 1.00 GiB in 4.0 s, 256 MiB/s, limited by the disk"


def test_interrupted_items_share_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    gone = [Failed(id=n, source=f"{n}", error="stopped", kind="InterruptedError", exit_code=7) for n in range(3)]
    totals = show(list(gone), items=3)
    assert capsys.readouterr().err == ""
    show([*gone, totals.summary(1.0, 7)], items=3)
    assert capsys.readouterr().err == "btfast: error: 3 items: interrupted: run it again to go on\n"


def test_progress_is_one_plain_line_every_30_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report.time, "monotonic", lambda: 100.0)
    totals = Totals(1)
    totals.handle_event(progress(0))
    plain = report.PlainReporter(totals, quiet=False, verbose=False, results=True, progress=True)
    for now in (100.0, 129.9, 130.0, 130.25, 159.9, 160.0):
        plain.poll(now)
    line = "btfast: 50.0% of 1.00 GiB, 1.00 MiB/s down, 0 B/s up, 3 peers, 8 min 32 s left\n"
    assert capsys.readouterr() == ("", line * 2)


def test_json_is_one_object_a_line_with_its_version() -> None:
    stream = io.BytesIO()
    reporter = report.JsonReporter(stream)
    for event in (ADDED, METADATA, progress(0), complete(), Totals(1).summary(1.0, 0)):
        reporter.handle_event(event)
    objects = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [o["event"] for o in objects] == ["added", "metadata", "progress", "complete", "summary"]
    assert all(o["v"] == 1 for o in objects)


def test_the_log_keeps_what_happened(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    for event in (METADATA, FAILED):
        log = report.LogReporter(str(path), verbose=False)
        log.handle_event(event)
        log.close()
    lines = path.read_text().splitlines()
    assert [line.split(" ", 1)[1].split(":")[0] for line in lines] == ["detail", "error"]


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="log cannot be written"):
        report.LogReporter(str(tmp_path / "none" / "run.log"), verbose=False)


def test_bars_show_the_active_items_and_a_line_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    totals = Totals(20)
    totals.handle_event(METADATA)
    for number in range(12):
        totals.handle_event(progress(number))
    totals.handle_event(FAILED)
    plain = report.PlainReporter(totals, quiet=False, verbose=False, results=True, progress=False)
    console = Console(file=io.StringIO(), width=140, force_terminal=True)
    console.print(Bars(totals, plain)._render())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("50.0%") == 8
    assert "1 of 20 items" in text
    assert "3 more active" in text
