"""Downloads by way of UDP trackers, good and bad: what they hear, what the user hears, and that none holds things up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import get, run, running
from support.scripted_peer import ScriptedPeer
from support.scripted_tracker import Exchange, ScriptedTracker
from support.scripted_udp_tracker import Asked, ScriptedUdpTracker, peers
from support.torrents import assert_arrived, make

from btfast._bencode import encode

SIZE = 200_001


@pytest.fixture
def peer() -> Iterator[ScriptedPeer]:
    with ScriptedPeer(make(SIZE)) as found:
        yield found


def test_each_event_is_heard_once(tmp_path: Path, peer: ScriptedPeer) -> None:
    with ScriptedUdpTracker(lambda asked: [asked.reply(peers(peer.address))]) as tracker:
        made = make(SIZE, announce=[[tracker.url]])
        done = run(tmp_path, *get(made.save(tmp_path), trackers=True))
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")
    assert tracker.events() == ["started", "completed", "stopped"]
    announces = [asked for asked in tracker.asked if asked.action == 1]
    left = [int.from_bytes(asked.body[48:56], "big") for asked in announces]
    assert left == [SIZE, 0, 0]
    assert len({asked.body[72:76] for asked in announces}) == 1, "one key"
    assert [asked.body[76:80] for asked in announces] == [(200).to_bytes(4, "big"), bytes(4), bytes(4)], "peers that are wanted"


def test_an_interrupt_says_stopped(tmp_path: Path) -> None:
    with ScriptedUdpTracker(lambda asked: [asked.reply(peers())]) as tracker:
        made = make(SIZE, announce=[[tracker.url]])
        with running(tmp_path, *get(made.save(tmp_path), trackers=True)) as command:
            command.until(lambda: tracker.events() == ["started"], "the tracker has heard of it")
            command.signal(signal.SIGINT)
            assert command.end().code == 7
    assert tracker.events() == ["started", "stopped"]


def test_running_out_of_time_says_stopped(tmp_path: Path) -> None:
    with ScriptedUdpTracker(lambda asked: [asked.reply(peers())]) as tracker:
        made = make(SIZE, announce=[[tracker.url]])
        done = run(tmp_path, *get(made.save(tmp_path), "--max-time", "3", trackers=True))
    assert done.code == 8
    assert tracker.events() == ["started", "stopped"]


def silent(asked: Asked) -> list[bytes]:
    return []


def refuses(asked: Asked) -> list[bytes]:
    return [asked.reply(b"not registered\n\x1b[31m", action=3)]


def short(asked: Asked) -> list[bytes]:
    return [asked.reply(b"")]


def forged(asked: Asked) -> list[bytes]:
    return [asked.reply(peers("127.0.0.1:1"), tid=tid & 0xFFFFFFFF) for tid in range(asked.tid + 1, asked.tid + 200)]


def floods(asked: Asked) -> list[bytes]:
    return [b"\0\0\0\1" + bytes(1000)] * 500


@pytest.mark.parametrize("answer", [silent, refuses, short, forged, floods])
def test_a_bad_one_does_not_keep_a_download_from_the_next(tmp_path: Path, peer: ScriptedPeer, answer: object) -> None:
    with (
        ScriptedUdpTracker(answer) as bad,  # type: ignore[arg-type]
        ScriptedUdpTracker(silent, connects=False) as dead,
        ScriptedTracker(lambda exchange: exchange.peers(peer.address)) as good,
    ):
        made = make(SIZE, announce=[[bad.url], [dead.url], [good.url]])
        done = run(tmp_path, *get(made.save(tmp_path), trackers=True))
    assert (done.code, len(done.warnings)) == (0, int(answer in (refuses, short)))
    assert_arrived(made, tmp_path / "out")
    assert good.events() == ["started", "completed", "stopped"]
    assert bad.events()[0] == "started"


def test_one_that_changes_its_mind_ends_nothing(tmp_path: Path, peer: ScriptedPeer) -> None:
    def fickle(asked: Asked) -> list[bytes]:
        return [asked.reply(peers(peer.address))] if asked.event == "started" else [asked.reply(b"go away", action=3)]

    with ScriptedUdpTracker(fickle) as tracker:
        made = make(SIZE, announce=[[tracker.url]])
        done = run(tmp_path, *get(made.save(tmp_path), trackers=True))
    assert done.code == 0
    assert_arrived(made, tmp_path / "out")
    assert tracker.events() == ["started", "completed", "stopped"]


def test_alone_its_refusal_is_what_the_user_reads(tmp_path: Path) -> None:
    with ScriptedUdpTracker(refuses) as tracker:
        made = make(SIZE, announce=[[tracker.url]])
        done = run(tmp_path, *get(made.save(tmp_path), "--peer-timeout", "3", trackers=True))
    assert "(tracker says: not registered [31m)" in done.error(3)


def test_other_kinds_of_trackers_are_named_once(tmp_path: Path, peer: ScriptedPeer) -> None:
    first = make(SIZE, announce=[["wss://tracker.invalid/secret", "wss://tracker.invalid/other"]])
    second = make(SIZE, seed=2, announce=[["wss://tracker.invalid"]])
    words = [first.save(tmp_path), second.save(tmp_path, "second"), "--peer-timeout", "3"]
    done = run(tmp_path, *get(*words, peers=(peer.address,), trackers=True))
    assert done.warnings == ["tracker wss://tracker.invalid: only http, https and udp trackers can be asked: it is left out"]
    assert_arrived(first, tmp_path / "out")


def test_peers_that_a_tracker_gives_by_name(tmp_path: Path, peer: ScriptedPeer) -> None:
    port = int(peer.address.rpartition(":")[2])

    def names(exchange: Exchange) -> None:
        found = [{"ip": "no-such-host.invalid", "port": port}, {"ip": "localhost", "port": port}]
        exchange.reply(encode({"interval": 1800, "peers": found}))

    with ScriptedTracker(names) as tracker:
        made = make(SIZE, announce=[[tracker.url]])
        done = run(tmp_path, *get(made.save(tmp_path), trackers=True))
    assert (done.code, done.warnings) == (0, [])
    assert_arrived(made, tmp_path / "out")
