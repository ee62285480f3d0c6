"""`btfast get` against a libtorrent seeder: results, exit codes, JSON, lists, signals."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import libtorrent
import psutil
import pytest
from command_line import Command, environment
from support.commands import PATIENCE, PROMISED, running
from support.libtorrent_peer import Libtorrent
from swarm_of_one import make_data, make_torrent, until

COMMON = ("--bind", "127.0.0.1", "--port", "0", "--workers", "1", "--memory", "16MiB", "--no-trackers")
SIZE = 2_000_000


class Offer:
    """A torrent file and the seeder of its data."""

    def __init__(self, tmp_path: Path) -> None:
        self.seeder = Libtorrent()
        self._root = tmp_path
        self._handles: list[libtorrent.torrent_handle] = []

    def hurry(self) -> None:
        """From now on at full speed."""
        for handle in self._handles:
            handle.set_upload_limit(0)

    def torrent(self, name: str, *, size: int = SIZE, rate: int = 0) -> str:
        make_data(self._root / "source", {name: size}, seed=len(name) + size)
        data = make_torrent(self._root / "source", name)
        (self._root / f"{name}.torrent").write_bytes(data)
        self._handles.append(self.seeder.add(data, self._root / "source", seed=True, rate=rate))
        return f"{name}.torrent"

    def arrived(self, name: str) -> bool:
        return (self._root / "out" / name).read_bytes() == (self._root / "source" / name).read_bytes()


@pytest.fixture
def offer(tmp_path: Path) -> Iterator[Offer]:
    found = Offer(tmp_path)
    yield found
    found.seeder.leave()


def words(offer: Offer, *more: str) -> list[str]:
    return ["get", *COMMON, "-o", "out", "--peer", offer.seeder.address, *more]


def test_a_download_ends_in_one_line_and_exit_code_0(btfast_command: Command, offer: Offer) -> None:
    done = btfast_command(*words(offer, offer.torrent("a.bin")))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("a.bin: 1.91 MiB in ")
    assert "/s, limited by " in done.out
    assert done.out.count("\n") == 1
    assert offer.arrived("a.bin")


def test_a_second_run_has_nothing_to_do(btfast_command: Command, offer: Offer) -> None:
    command = words(offer, offer.torrent("a.bin"))
    assert btfast_command(*command).code == 0
    done = btfast_command(*command, "--json")
    assert done.code == 0
    (complete,) = (o for o in done.objects if o["event"] == "complete")
    assert (complete["downloaded"], complete["limited_by"]) == (0, "nothing to do")


def test_json_tells_of_every_step(btfast_command: Command, offer: Offer, tmp_path: Path) -> None:
    done = btfast_command(*words(offer, "--json", offer.torrent("a.bin")))
    assert (done.code, done.err) == (0, "")
    kinds = [o["event"] for o in done.objects]
    assert all(o["v"] == 1 for o in done.objects)
    assert kinds[:2] == ["added", "metadata"]
    assert kinds[-2:] == ["complete", "summary"]
    assert set(kinds) <= {"added", "metadata", "progress", "file", "peer", "warning", "complete", "summary"}
    complete, summary = done.objects[-2:]
    assert complete["files"] == ["a.bin"]
    assert complete["directory"] == str(tmp_path / "out")
    assert complete["bytes"] == complete["downloaded"] == summary["downloaded"] == SIZE
    assert (summary["items"], summary["complete"], summary["failed"], summary["exit_code"]) == (1, 1, 0, 0)
    assert 0 < complete["seconds"] <= summary["seconds"]


def test_quiet_says_nothing(btfast_command: Command, offer: Offer) -> None:
    assert btfast_command(*words(offer, "-q", offer.torrent("a.bin"))) == (0, "", "")


def test_a_list_goes_on_past_its_bad_items(btfast_command: Command, offer: Offer, tmp_path: Path) -> None:
    (tmp_path / "bad.torrent").write_bytes(b"<html>")
    good = [offer.torrent(f"{n}.bin", size=100_000 + n) for n in range(5)]
    there = tmp_path / "there"
    lines = ["# a list", good[0], "bad.torrent", good[1], "none.torrent", f"{good[2]}\t{there}", *good[3:]]
    done = btfast_command(*words(offer, "--json", "-j", "2", "-i", "-"), stdin="\n".join(lines))
    assert done.code == 5
    ends = {o["source"]: o for o in done.objects if o["event"] in ("complete", "failed")}
    assert len(ends) == 7
    assert {source for source, o in ends.items() if o["event"] == "failed"} == {"bad.torrent", "none.torrent"}
    assert (ends["bad.torrent"]["exit_code"], ends["bad.torrent"]["kind"]) == (2, "InputError")
    assert (ends["none.torrent"]["exit_code"], ends["none.torrent"]["kind"]) == (5, "SourceNotFoundError")
    assert sorted(o["id"] for o in ends.values()) == list(range(7))
    assert done.objects[-1]["event"] == "summary"
    assert [done.objects[-1][key] for key in ("items", "complete", "failed", "exit_code")] == [7, 5, 2, 5]
    assert all(offer.arrived(f"{n}.bin") for n in (0, 1, 3, 4))
    assert (there / "2.bin").stat().st_size == 100_002


def test_a_list_ends_in_a_line_for_all(btfast_command: Command, offer: Offer) -> None:
    done = btfast_command(*words(offer, offer.torrent("a.bin"), "none.torrent"))
    assert done.code == 5
    assert done.err == "btfast: error: none.torrent: no such file: check the path\n"
    assert done.out.splitlines()[-1].startswith("1 of 2 items complete, 1 failed: 1.91 MiB in ")


@pytest.mark.parametrize(
    ("more", "code", "kind"),
    [(("--peer-timeout", "0.5"), 3, "IncompleteError"), (("--max-time", "1"), 8, "LimitReachedError")],
)
def test_what_does_not_complete_says_why(
    btfast_command: Command, torrent_file: Path, more: tuple[str, ...], code: int, kind: str
) -> None:
    done = btfast_command("get", *COMMON, "--json", *more, torrent_file)
    assert done.code == code
    (failed,) = (o for o in done.objects if o["event"] == "failed")
    assert (failed["kind"], failed["exit_code"]) == (kind, code)
    assert done.err == f"btfast: error: {failed['source']}: {failed['error']}\n"
    plain = btfast_command("get", *COMMON, *more, torrent_file)
    assert plain.code == code
    assert plain.err.startswith("btfast: error: ")
    assert plain.err.count("\n") == 1


def test_a_destination_that_is_a_file_is_a_disk_error(btfast_command: Command, offer: Offer, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    done = btfast_command(*words(offer, offer.torrent("a.bin")))
    assert done.code == 6
    assert done.err.startswith("btfast: error: ")
    assert done.err.count("\n") == 1


def test_the_log_keeps_what_happened(btfast_command: Command, offer: Offer, tmp_path: Path) -> None:
    assert btfast_command(*words(offer, "-q", "--log", "run.log", offer.torrent("a.bin"))).code == 0
    log = (tmp_path / "run.log").read_text()
    assert " complete: a.bin: 1.91 MiB in " in log


def test_on_a_terminal_there_are_bars_and_the_result_still_goes_to_stdout(offer: Offer, tmp_path: Path) -> None:
    name = offer.torrent("a.bin", rate=1 << 18)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "btfast", *words(offer, name)],
        cwd=tmp_path,
        env=environment(tmp_path, {"TERM": "xterm", "COLUMNS": "120"}),
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # the terminal's end, once nobody holds the other side
            while data := os.read(ours, 65536):
                drawn += data
                if b"1 peer" in drawn and b"iB/s" in drawn:
                    offer.hurry()
        os.close(ours)
        assert process.stdout is not None
        assert process.stdout.read().startswith("a.bin: 1.91 MiB in ")
    assert process.returncode == 0
    assert b"a.bin" in drawn
    assert b"iB/s" in drawn
    assert b"1 peer" in drawn
    assert drawn.count(b"\x1b[?25l") == drawn.count(b"\x1b[?25h") > 0  # a hidden cursor comes back


def test_a_closed_stdout_does_not_end_the_download(offer: Offer, tmp_path: Path) -> None:
    command = " ".join([sys.executable, "-m", "btfast", *words(offer, "--json", offer.torrent("a.bin"))])
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert offer.arrived("a.bin")


@pytest.mark.parametrize(("end", "code"), [(">&-", 0), ("> /dev/full", 6)])
@pytest.mark.parametrize("how", [[], ["--json"]])
def test_a_stdout_that_takes_nothing_is_said_and_the_download_completes(
    offer: Offer, tmp_path: Path, end: str, code: int, how: list[str]
) -> None:
    command = " ".join([sys.executable, "-m", "btfast", *words(offer, *how, offer.torrent("a.bin"))])
    done = subprocess.run(
        ["bash", "-c", f"{command} {end}"], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    said = "btfast: error: stdout: cannot be written: No space left on device: what follows is not told\n"
    assert (done.returncode, done.stderr) == (code, said if code else "")
    assert offer.arrived("a.bin")


def test_a_line_that_is_not_utf_8_costs_no_other(offer: Offer, tmp_path: Path, btfast_command: Command) -> None:
    listed = [b"magnet:?xt=urn:btih:\xff", b"\xff.torrent", offer.torrent("a.bin").encode()]
    (tmp_path / "list").write_bytes(b"\n".join(listed))
    done = btfast_command(*words(offer, "--json", "-i", "list"))
    assert done.code == 5
    ended = {item["id"]: item["event"] for item in done.objects if item["event"] in ("complete", "failed")}
    assert ended == {0: "failed", 1: "failed", 2: "complete"}
    assert done.objects[-1]["event"] == "summary"


class Fetching:
    """A command that is stopped while it works."""

    def __init__(self, tmp_path: Path, command: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "btfast", *command],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: self.fetching(tmp_path), "the download is under way")
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def fetching(self, tmp_path: Path) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        parts = list((tmp_path / "out").glob("*.part"))
        return any(part.stat().st_blocks for part in parts)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PROMISED)
        _, alive = psutil.wait_procs(self.family, timeout=PROMISED)
        assert alive == []
        return self.process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_and_exits_7(
    offer: Offer, tmp_path: Path, btfast_command: Command, number: signal.Signals
) -> None:
    name = offer.torrent("a.bin", size=4 << 20, rate=1 << 17)
    command = Fetching(tmp_path, words(offer, "--json", name))
    command.process.send_signal(number)
    code, out, err = command.end()
    assert (code, err) == (7, f"btfast: error: {name}: stopped: run it again to go on\n")
    objects = [json.loads(line) for line in out.splitlines()]
    assert [o["event"] for o in objects if o["event"] in ("complete", "failed")] == ["failed"]
    assert (objects[-1]["event"], objects[-1]["exit_code"]) == ("summary", 7)
    assert (tmp_path / "out" / "a.bin.part").exists()
    offer.hurry()
    assert btfast_command(*words(offer, name)).code == 0
    assert offer.arrived("a.bin")


def test_interrupting_a_list_ends_every_item_once(offer: Offer, tmp_path: Path) -> None:
    names = [offer.torrent(f"{n}.bin", size=(4 << 20) + n, rate=1 << 17) for n in range(30)]
    command = Fetching(tmp_path, words(offer, "--json", "-j", "1", *names))
    command.process.send_signal(signal.SIGINT)
    code, out, _ = command.end()
    assert code == 7
    ends = [o for o in map(json.loads, out.splitlines()) if o["event"] in ("complete", "failed")]
    assert sorted(o["id"] for o in ends) == list(range(30))
    assert {o["source"] for o in ends} == set(names)


def test_a_second_signal_exits_at_once(offer: Offer, tmp_path: Path) -> None:
    command = Fetching(tmp_path, words(offer, offer.torrent("a.bin", size=4 << 20, rate=1 << 17)))
    engine = next(process for process in command.family if process.name() == "btfast-engine")
    engine.suspend()  # it cannot answer: only the second signal ends the command
    command.process.send_signal(signal.SIGINT)
    command.process.send_signal(signal.SIGTERM)
    assert command.process.wait(PATIENCE) == 7
    assert engine.status() == psutil.STATUS_STOPPED, "who had waited for it would have ended it by force"
    engine.resume()
    command.end()


def test_seed_serves_until_it_is_stopped(btfast_command: Command, offer: Offer, tmp_path: Path) -> None:
    name = offer.torrent("a.bin")
    with running(tmp_path, "seed", "--json", *COMMON, name, "--data", "source") as seed:
        seed.until(seed.port, "it listens")
        done = btfast_command("get", *COMMON, "-o", "out", "--peer", f"127.0.0.1:{seed.port()}", name)
        assert done.code == 0
        assert offer.arrived("a.bin")
        seed.signal(signal.SIGINT)
        outcome = seed.end()
        assert outcome.code == 7
    assert outcome.events[-1]["event"] == "summary"


def test_seeds_do_not_wait_for_one_another_and_say_when_they_serve(offer: Offer, tmp_path: Path) -> None:
    names = (offer.torrent("a.bin"), offer.torrent("b.bin"))
    with running(tmp_path, "seed", *COMMON, "-j", "1", "--data", "source", *names) as seed:
        assert seed.process.stderr is not None
        said = seed.process.stderr.readline()
        assert said == f"btfast: serving 2 torrents on port {seed.port()}\n"
        seed.signal(signal.SIGINT)
        assert seed.end().code == 7


def test_what_is_only_served_keeps_nothing_of_the_list_waiting(offer: Offer, tmp_path: Path) -> None:
    listed = [offer.torrent("a.bin"), offer.torrent("b.bin")]
    served: set[int] = set()
    with running(tmp_path, *words(offer, "--json", "-j", "1", "--seed-time", "600", *listed)) as command:
        assert command.process.stdout is not None
        while served != {0, 1}:
            item = json.loads(command.process.stdout.readline())
            assert item["event"] != "complete", "it is served for ten minutes"
            if item.get("state") == "seeding":
                served.add(item["id"])
        command.signal(signal.SIGINT)
        assert command.end().code == 7


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """An HTTP server of tmp_path; its address."""
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: it would go to stderr."""


def test_a_url_is_fetched_and_what_is_not_there_is_exit_code_5(btfast_command: Command, offer: Offer, web: str) -> None:
    good, bad = f"{web}/{offer.torrent('a.bin')}", f"{web}/none.torrent"
    done = btfast_command(*words(offer, "--json", good, bad))
    assert done.code == 5
    ends = {o["source"]: o for o in done.objects if o["event"] in ("complete", "failed")}
    assert ends[good]["event"] == "complete"
    assert (ends[bad]["kind"], ends[bad]["exit_code"]) == ("SourceNotFoundError", 5)
    assert "404" in ends[bad]["error"]
    assert offer.arrived("a.bin")
