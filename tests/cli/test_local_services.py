"""`btfast demo`, and `btfast tracker` between `btfast seed` and `btfast get`."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import Command, environment
from support.commands import PATIENCE
from swarm_of_one import make_data, make_torrent, until

NETWORK = ("--bind", "127.0.0.1", "--port", "0", "--workers", "1", "--memory", "16MiB")


@contextmanager
def serving(tmp_path: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs until it is told to stop, and then has to say so with exit code 7."""
    with subprocess.Popen(
        [sys.executable, "-m", "btfast", *words],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 7


def until_known(command: Command, source: str, trackers: int = 1) -> list[dict[str, object]]:
    """Waits until each of so many trackers of the source counts one seed: they hear of it one after the other."""
    found: list[dict[str, object]] = []

    def known() -> bool:
        found[:] = json.loads(command("info", "--scrape", "--json", source).out)["swarms"]
        return all(swarm.get("complete") == 1 for swarm in found[:trackers])

    until(known, "the seeder is known")
    return found


def listed(port: int, info_hash: str) -> bool:
    """Whether the tracker with keys takes an announce of it: of one who leaves, so that it counts nobody."""
    words = "".join(f"%{byte:02x}" for byte in bytes.fromhex(info_hash))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", f"/s3cret/announce?info_hash={words}&peer_id={'p' * 20}&port=1&left=1&event=stopped")
    answer = connection.getresponse().read()
    connection.close()
    return b"failure reason" not in answer


def test_demo_downloads_and_says_so(btfast_command: Command, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = btfast_command("demo", "--size", "8MiB", "--memory", "16MiB", env={"TMPDIR": str(temporary)})
    assert done.code == 0, done.err
    assert done.out.startswith("btfast-demo.bin: 8.00 MiB in ")
    assert done.out.count("\n") == 1
    assert "this installation works" in done.err
    assert list(temporary.iterdir()) == []


def test_demo_in_json_ends_in_one_summary(btfast_command: Command) -> None:
    done = btfast_command("demo", "--size", "3000001", "--memory", "16MiB", "--json", "-q")
    assert (done.code, done.err) == (0, "")
    assert [o["event"] for o in done.objects][-2:] == ["complete", "summary"]
    assert done.objects[-1]["bytes"] == 3000001


@pytest.mark.parametrize(("size", "code"), [("0", 2), ("much", 2), ("1000000TiB", 6)])
def test_demo_refuses_what_cannot_be(btfast_command: Command, size: str, code: int) -> None:
    done = btfast_command("demo", "--size", size)
    assert done.code == code
    assert done.err.startswith("btfast: error: ")
    assert done.err.count("\n") == 1


def test_a_tracker_brings_seed_and_get_together(btfast_command: Command, tmp_path: Path) -> None:
    with serving(tmp_path, "tracker", "--json", "--bind", "127.0.0.1", "--port", "0") as tracker:
        assert tracker.stdout is not None
        url = json.loads(tracker.stdout.readline())["url"]
        make_data(tmp_path / "source", {"album/a.bin": 500_000, "album/b.bin": 70_001})
        (tmp_path / "album.torrent").write_bytes(make_torrent(tmp_path / "source", "album", announce=url))
        with serving(tmp_path, "seed", "--json", *NETWORK, "album.torrent", "--data", "source") as seed:
            assert seed.stdout is not None
            until_known(btfast_command, "album.torrent")
            done = btfast_command("get", *NETWORK, "-o", "out", "album.torrent")
            assert done.code == 0, done.err
            for name in ("album/a.bin", "album/b.bin"):
                assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()
            seed.send_signal(signal.SIGINT)
            last = seed.stdout.read().splitlines()[-1]
            assert json.loads(last)["event"] == "summary"


def test_info_asks_the_trackers_how_the_swarm_stands(btfast_command: Command, tmp_path: Path) -> None:
    make_data(tmp_path / "source", {"album/a.bin": 300_000})
    with serving(tmp_path, "tracker", "--json", "--bind", "127.0.0.1", "--port", "0") as tracker:
        assert tracker.stdout is not None
        where = json.loads(tracker.stdout.readline())
        (tmp_path / "album.torrent").write_bytes(make_torrent(tmp_path / "source", "album", announce=where["udp"]))
        with serving(tmp_path, "seed", "--json", *NETWORK, "album.torrent", "--data", "source"):
            magnet = f"{btfast_command('magnet', 'album.torrent').out.strip()}&tr={where['url']}&tr=http://127.0.0.1:9/x&tr=wss://x"
            found = until_known(btfast_command, magnet, trackers=2)
            name = f"127.0.0.1:{where['port']}"
            counts = {"complete": 1, "incomplete": 0, "downloaded": 0}
            assert found == [
                {"tracker": f"udp://{name}", **counts},
                {"tracker": f"http://{name}", **counts},
                {"tracker": "http://127.0.0.1:9", "error": found[2]["error"]},
            ]
            assert "does not end in /announce" in str(found[2]["error"])
            shown = btfast_command("info", "--scrape", "album.torrent")
            assert f"\n  udp://{name}: 1 seed, 0 leechers, 0 downloads\n" in shown.out


def test_a_private_tracker_over_udp_rereads_its_list(btfast_command: Command, tmp_path: Path) -> None:
    make_data(tmp_path / "source", {"album/a.bin": 300_000})
    (tmp_path / "list").write_text("# none yet\n")
    (tmp_path / "keys").write_text("s3cret\n")
    private = ("--whitelist", "list", "--keys", "keys", "--interval", "60")
    with serving(tmp_path, "tracker", "--json", "--bind", "127.0.0.1", "--port", "0", *private) as tracker:
        assert tracker.stdout is not None
        line = tracker.stdout.readline()
        assert json.loads(line)["udp"].endswith("/KEY/announce")
        where = json.loads(line.replace("KEY", "s3cret"))
        data = make_torrent(tmp_path / "source", "album", announce=where["udp"])
        (tmp_path / "album.torrent").write_bytes(data)
        refused = btfast_command("get", *NETWORK, "-o", "out", "--peer-timeout", "3", "album.torrent")
        assert refused.code == 3
        assert "not on the tracker's list" in refused.err
        info = json.loads(btfast_command("info", "--json", "album.torrent").out)
        (tmp_path / "list").write_text(info["info_hash"] + "\n")
        tracker.send_signal(signal.SIGHUP)
        until(lambda: listed(where["port"], info["info_hash"]), "the list is read")
        with serving(tmp_path, "seed", "--json", *NETWORK, "album.torrent", "--data", "source"):
            until_known(btfast_command, f"magnet:?xt=urn:btih:{info['info_hash']}&tr={where['url']}")
            done = btfast_command("get", *NETWORK, "-o", "out", "album.torrent")
            assert done.code == 0, done.err
            assert (tmp_path / "out/album/a.bin").read_bytes() == (tmp_path / "source/album/a.bin").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--whitelist", "nowhere"), 5, "--whitelist nowhere: no such file"),
        (("--whitelist", "bad"), 2, "bad: line 1: not an info-hash"),
        (("--keys", "bad"), 2, "bad: line 1: not a key"),
        (("--interval", "0"), 2, "interval 0: must be at least 1 second"),
        (("--interval", "60", "--expiry", "60"), 2, "--expiry 60: shorter than the interval"),
    ],
)
def test_a_tracker_says_what_is_wrong_with_its_options(
    btfast_command: Command, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    (tmp_path / "bad").write_text("a b\n")
    done = btfast_command("tracker", "--bind", "127.0.0.1", "--port", "0", *words)
    assert done.code == code
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_tracker_that_cannot_listen_says_so(btfast_command: Command) -> None:
    done = btfast_command("tracker", "--bind", "203.0.113.7")
    assert done.code == 2
    assert done.err.startswith("btfast: error: tracker: cannot listen on 203.0.113.7")
    assert done.err.count("\n") == 1
