"""`btfast dht` as people type it: what it prints, how it ends, and what it says to nonsense."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from support.commands import run, running

HASH = "0123456789012345678901234567890123456789"
LOCAL = ("--bind", "127.0.0.1", "--port", "0")


def test_it_says_where_it_is_and_runs_until_it_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path, "dht", *LOCAL) as command:
        assert command.process.stdout is not None
        assert command.process.stdout.readline().startswith("dht: 127.0.0.1:")
        command.process.send_signal(signal.SIGTERM)
        outcome = command.end()
        assert (outcome.code, outcome.err) == (7, "")


def test_one_node_begins_with_another_and_keeps_it(tmp_path: Path) -> None:
    with running(tmp_path, "dht", *LOCAL, "--json") as first:
        assert first.process.stdout is not None
        started = json.loads(first.process.stdout.readline())
        assert started["event"] == "dht"
        (address,) = started["addresses"]
        outcome = run(tmp_path, "dht", "get-peers", HASH, *LOCAL, "--json", "--dht-bootstrap", address)
        assert outcome.code == 3
        lookup = json.loads(outcome.out)
        assert (lookup["event"], lookup["peers"], lookup["answers"]) == ("dht_lookup", 0, 1)
        assert "nobody has announced" in outcome.err
        with running(tmp_path, "dht", *LOCAL, "--json", "--state", "kept", "--dht-bootstrap", address) as second:
            assert second.process.stdout is not None
            (there,) = json.loads(second.process.stdout.readline())["addresses"]

            def knows_it() -> bool:
                found = run(tmp_path, "dht", "get-peers", HASH, *LOCAL, "--json", "--dht-bootstrap", there)
                return found.code == 3 and bool(json.loads(found.out)["answers"] == 2)

            second.until(knows_it, "a search through it finds both")
            second.process.send_signal(signal.SIGINT)
            assert second.end().code == 7
        host, port = address.split(":")
        packed = bytes(map(int, host.split("."))) + int(port).to_bytes(2, "big")
        assert packed in (tmp_path / "kept/dht.state").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("find",), 2, "dht: find: not understood"),
        (("get-peers",), 2, "not understood"),
        (("get", "abc"), 2, "40 hexadecimal digits"),
        (("put", "x" * 1000), 2, "1000 at most"),
        (("put", "x", "--salt", "a"), 2, "--key"),
        (("put", "x", "--key", "k", "--salt", "s" * 65), 2, "64 at most"),
        (("put", "x", "--key", "nowhere/key"), 6, "nowhere/key"),
        (("get", HASH), 3, "no node has answered"),
        (("get-peers", "abc"), 2, "hexadecimal"),
        (("get-peers", HASH, "--dht-bootstrap", "nonsense"), 2, "dht-bootstrap 'nonsense'"),
        (("get-peers", HASH, "--dht-bootstrap", "127.0.0.1:99999"), 2, "dht-bootstrap"),
        (("get-peers", HASH), 3, "no node has answered"),
        (("--bind", "203.0.113.7"), 6, "choose another --bind or --port"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    outcome = run(tmp_path, "dht", *LOCAL, *words)
    assert said in outcome.error(code)


def test_values_are_stored_found_and_changed(tmp_path: Path) -> None:
    with running(tmp_path, "dht", *LOCAL, "--json") as node:
        assert node.process.stdout is not None
        (address,) = json.loads(node.process.stdout.readline())["addresses"]
        there = (*LOCAL, "--dht-bootstrap", address)
        stored = run(tmp_path, "dht", "put", "hello there", *there)
        assert (stored.code, len(stored.out.strip())) == (0, 40)
        assert "stored at 1 node" in stored.err
        assert run(tmp_path, "dht", "get", stored.out.strip(), *there).out == "hello there"
        assert run(tmp_path, "dht", "get", HASH, *there).error(3).startswith("btfast: error: dht: nobody has a value")
        keys = set()
        for version in ("first", "second"):
            put = run(tmp_path, "dht", "put", version, "--key", "my.key", "--salt", "news", *there, "--json")
            told = json.loads(put.out)
            keys.add(told["key"])
            got = json.loads(run(tmp_path, "dht", "get", told["key"], "--salt", "news", *there, "--json").out)
            assert bytes.fromhex(got["value"]) == b"%d:%s" % (len(version), version.encode())
            assert (got["key"], got["seq"]) == (told["key"], told["seq"])
        assert len(keys) == 1
        assert (tmp_path / "my.key").stat().st_mode & 0o777 == 0o600
        assert run(tmp_path, "dht", "get", keys.pop(), *there).code == 3  # it has another salt
        (tmp_path / "bad.key").write_text("12")
        assert "not a key" in run(tmp_path, "dht", "put", "x", "--key", "bad.key", *there).error(2)
