"""The bench's own seed, relay, tracker, floor and meter, at sizes of a few MiB."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path

import libtorrent as lt
import msgspec
import pytest

from bench.clients import DISK, FLOOR, LIBTORRENT_TUNED, Job
from bench.loads.base import put_aside
from bench.metering import measure
from bench.payload import MIB, Payload, difference, make_file, make_payload
from bench.tools import ROOT, announce_url, start_relay, start_seeds, start_tracker

SIZE = 4 * MIB
PIECE = MIB // 4
HANDSHAKE = b"\x13BitTorrent protocol" + bytes(8)


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Payload:
    return make_payload(tmp_path_factory.mktemp("payload"), SIZE, PIECE)


def job(payload: Payload, peers: list[str], folder: Path, tracker: str = "") -> Job:
    out = folder / "out"
    out.mkdir()
    return Job((payload,), tuple(peers), tracker, announce=False, folder=out)


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def receive(peer: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length and (part := peer.recv(length - len(data))):
        data += part
    return bytes(data)


def request(index: int, begin: int, length: int, message: int = 6) -> bytes:
    words = (13).to_bytes(4, "big"), bytes([message]), *(value.to_bytes(4, "big") for value in (index, begin, length))
    return b"".join(words)


def greeting_length(payload: Payload) -> int:
    return 68 + 5 + (len(payload.hashes) // 20 + 7) // 8 + 5


def test_payload_depends_on_its_seed_alone(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        make_file(tmp_path / name, MIB, seed)
    one, same, other = ((tmp_path / name).read_bytes() for name in ("one", "same", "other"))
    assert one == same
    assert one != other
    assert len(one) == MIB
    assert len({one[i : i + 4096] for i in range(0, MIB, 4096)}) == MIB // 4096


def test_libtorrent_reads_the_torrent_and_its_announced_copy(tmp_path: Path) -> None:
    url = "http://127.0.0.1:1/announce"
    payload = make_payload(tmp_path, MIB, PIECE)
    for path, announce in ((payload.torrent, None), (payload.announced(url), url.encode())):
        torrent = lt.torrent_info(str(path))
        assert str(torrent.info_hash()) == payload.info_hash
        assert torrent.total_size() == MIB
        assert lt.bdecode(path.read_bytes()).get(b"announce") == announce


def test_libtorrent_downloads_from_seeds_through_relays(payload: Payload, tmp_path: Path) -> None:
    with (
        start_seeds(payload.content, payload.info_hash, PIECE, 2, first_host=130) as seeds,
        start_relay(seeds.addresses, 20, 50e6) as relay,
        start_tracker(relay.addresses) as tracker,
    ):
        told = job(payload, relay.addresses, tmp_path, announce_url(tracker))
        reading, said = measure(LIBTORRENT_TUNED.command(told), tmp_path, timeout=120)
        assert reading.failure is None, said
        assert difference(payload, told.folder) is None
        events = relay.events_when_closed(reading.start)
    closes = [event.values for event in events if event.kind == "close"]
    assert sum(values[1] for values in closes) >= SIZE
    first, last = min(values[2] for values in closes if values[1]), max(values[3] for values in closes)
    assert reading.start < first < last
    assert reading.peak_pss > 0
    assert reading.cpu > 0


def test_floor_downloads_the_right_bytes(payload: Payload, tmp_path: Path) -> None:
    with start_seeds(payload.content, payload.info_hash, PIECE, 4) as seeds:
        told = job(payload, seeds.addresses, tmp_path)
        done = subprocess.run(FLOOR.command(told), capture_output=True, text=True, check=True, timeout=120)
    assert difference(payload, told.folder) is None
    name, io, *figures = done.stdout.split()
    assert (name, io in ("direct", "buffered")) == ("floor", True)
    assert all(float(figure) >= 0 for figure in figures)


@pytest.mark.parametrize("depth", [1, 3, 16])
def test_the_disk_alone_takes_as_many_bytes(payload: Payload, tmp_path: Path, depth: int) -> None:
    command = [*DISK.command(job(payload, [], tmp_path)), "--depth", str(depth)]
    name, io, _, seconds, speed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.split()
    assert (name, io in ("direct", "buffered")) == ("disk", True)
    assert float(speed) == pytest.approx(SIZE / MIB / float(seconds), rel=0.1)
    data = (tmp_path / "out" / payload.content.name).read_bytes()
    assert len(data) == SIZE
    assert len({data[i : i + 4096] for i in range(0, SIZE, 4096)}) == SIZE // 4096


def test_floor_notices_wrong_data(payload: Payload, tmp_path: Path) -> None:
    wrong = msgspec.structs.replace(payload, hashes=payload.hashes[:-1] + bytes([payload.hashes[-1] ^ 1]))
    with start_seeds(payload.content, payload.info_hash, PIECE, 4) as seeds:
        command = FLOOR.command(job(wrong, seeds.addresses, tmp_path))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "hash is wrong" in done.stderr


def test_seed_unchokes_at_once_and_leaves_cancelled_blocks_out(payload: Payload) -> None:
    content = payload.content.read_bytes()
    with (
        start_seeds(payload.content, payload.info_hash, PIECE, 1, rate=2 * MIB) as seeds,
        connect(seeds.addresses[0]) as peer,
    ):
        peer.sendall(HANDSHAKE + bytes.fromhex(payload.info_hash) + b"-XX0001-abcdefghijkl")
        greeting = receive(peer, greeting_length(payload))
        assert greeting[28:48].hex() == payload.info_hash
        assert greeting[-5:] == b"\0\0\0\1\1"
        # The capped seed has no credit for a block yet: the second one is still waiting when its cancel comes.
        blocks = [(3, 0), (3, 16384), (5, 32768)]
        asked = b"".join(request(index, begin, 16384) for index, begin in blocks)
        peer.sendall(asked + request(3, 16384, 16384, message=8))
        for index, begin in (blocks[0], blocks[2]):
            message = receive(peer, 13 + 16384)
            assert message[4:13] == b"\7" + index.to_bytes(4, "big") + begin.to_bytes(4, "big")
            assert message[13:] == content[index * PIECE + begin :][:16384]


@pytest.mark.parametrize("opening", [b"\0" * 96, HANDSHAKE + b"x" * 40], ids=["encrypted", "another torrent"])
def test_seed_closes_on_a_handshake_that_is_not_its_own(payload: Payload, opening: bytes) -> None:
    with start_seeds(payload.content, payload.info_hash, PIECE, 1) as seeds, connect(seeds.addresses[0]) as peer:
        peer.sendall(opening)
        with contextlib.suppress(ConnectionResetError):  # closed with our bytes unread
            assert peer.recv(1) == b""


def test_tracker_gives_its_peers_on_a_kept_connection() -> None:
    with start_tracker(["127.0.0.2:1000", "127.0.0.3:2000"]) as tracker:
        host, _, port = tracker.addresses[0].partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        for _ in range(2):
            connection.request("GET", announce_url(tracker).partition(tracker.addresses[0])[2] + "?info_hash=x")
            answer = lt.bdecode(connection.getresponse().read())
            assert answer[b"peers"] == b"\x7f\0\0\2\x03\xe8\x7f\0\0\3\x07\xd0"
        connection.close()


def test_difference_names_the_place(payload: Payload, tmp_path: Path) -> None:
    copy = tmp_path / payload.content.name
    assert "missing" in str(difference(payload, tmp_path))
    data = bytearray(payload.content.read_bytes())
    copy.write_bytes(data)
    assert difference(payload, tmp_path) is None
    data[-1] ^= 1
    copy.write_bytes(data)
    assert "differs" in str(difference(payload, tmp_path))
    copy.write_bytes(data[:-1])
    assert str(SIZE) in str(difference(payload, tmp_path))


def test_meter_counts_a_process_whose_parent_is_gone(tmp_path: Path) -> None:
    work = "import time\nwhile time.process_time() < 0.3: pass"
    leave = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {work!r}], start_new_session=True)"
    reading, said = measure([sys.executable, "-W", "ignore", "-c", leave], tmp_path, timeout=120)
    assert reading.failure is None, said
    assert reading.user + reading.system >= 0.3


def test_meter_ends_a_command_that_takes_too_long(tmp_path: Path) -> None:
    reading, _ = measure(["sleep", "600"], tmp_path, timeout=0.3)
    assert reading.stopped == "timeout"
    assert "killed" in str(reading.failure)


def test_meter_asks_a_command_to_end(tmp_path: Path) -> None:
    reading, _ = measure(["sleep", "600"], tmp_path, timeout=60, stop_after=0.3)
    assert (reading.stopped, reading.failure) == ("asked", None)


def test_meter_tells_how_a_command_failed(tmp_path: Path) -> None:
    reading, said = measure([sys.executable, "-c", "raise SystemExit('out of luck')"], tmp_path, timeout=120)
    assert reading.failure == "exit code 1"
    assert said == "out of luck"


def test_bench_runs_a_load_and_leaves_nothing_behind(tmp_path: Path) -> None:
    out, dest = tmp_path / "results", tmp_path / "dest"
    dest.mkdir()
    options = ["--quick", "--size", "8M", "--only", "libtorrent-tuned,floor,disk", "--dest", str(dest), "--out", str(out)]
    command = [sys.executable, "-m", "bench", "flat", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    (load,) = json.loads((out / "results.json").read_text())["loads"]
    assert {sample["client"]: sample["failure"] for sample in load["samples"]} == {
        "libtorrent-tuned": None,
        "floor": None,
        "disk": None,
    }
    assert all(sample["figures"]["mib_s"] > 0 for sample in load["samples"])
    assert (out / "flat.svg").read_text().startswith("<svg")
    assert list(dest.iterdir()) == []


def test_what_a_run_left_is_emptied_and_out_of_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for run in range(2):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "file").write_bytes(b"payload")
        (folder / "link").symlink_to(tmp_path / "kept")
        (tmp_path / "kept").write_bytes(b"another's")
        put_aside(folder)
        assert not folder.exists()
        assert [path.stat().st_size for path in tmp_path.glob("done-*/out/deep/file")] == [0] * (run + 1)
    assert (tmp_path / "kept").read_bytes() == b"another's"
