"""Bencode against bencode2, the fastest package on PyPI.

Run: pytest -s --benchmark-only bench/micro/test_bencode_bench.py
Both sides take turns in one run; extra_info, and with `-s` a line, has the medians and their ratio. Large inputs
are timed with the cycle collector on, as a program has it, and off: btfast rests it while it builds, bencode2 does not.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import bencode2
import pytest

from btfast._bencode import decode, decode_with_info, encode, info_span

ROUNDS = 21


def many_files(files: int = 20_000) -> bytes:
    """A .torrent of that many files of 1 MiB on average, in directories of a hundred."""
    rng = random.Random(7)
    entries = [
        {b"length": rng.randrange(1, 2 << 20), b"path": [b"section-%03d" % (n // 100), b"recording-%05d.flac" % n]}
        for n in range(files)
    ]
    pieces = -(-sum(entry[b"length"] for entry in entries) // (1 << 20))
    info = {b"files": entries, b"name": b"many", b"piece length": 1 << 20, b"pieces": rng.randbytes(20 * pieces)}
    return encode({b"announce": b"http://tracker.example/announce", b"creation date": 1700000000, b"info": info})


def get_peers_reply() -> bytes:
    """What a DHT node answers to get_peers: 5 nodes, 8 values; about 300 bytes."""
    rng = random.Random(7)
    values = [rng.randbytes(6) for _ in range(8)]
    reply = {b"id": rng.randbytes(20), b"nodes": rng.randbytes(130), b"token": rng.randbytes(8), b"values": values}
    return encode({b"r": reply, b"t": b"aa", b"v": b"LT\x02\x01", b"y": b"r"})


def extended_handshake() -> bytes:
    """What a client says first in BEP 10."""
    names = (b"lt_donthave", b"share_mode", b"upload_only", b"ut_holepunch", b"ut_metadata", b"ut_pex")
    return encode(
        {
            b"m": {name: number for number, name in enumerate(names, 1)},
            b"metadata_size": 31235,
            b"reqq": 2000,
            b"v": b"libtorrent/2.0.8",
            b"yourip": b"\x7f\0\0\1",
        }
    )


DATA = {
    "torrent of 20,000 files": (many_files, 3),
    "get_peers reply": (get_peers_reply, 20_000),
    "handshake": (extended_handshake, 20_000),
}


def round_time(call: Callable[[Any], object], argument: Any, times: int) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    for _ in range(times):
        call(argument)
    return (time.perf_counter() - begin) / times


def medians(sides: tuple[Callable[[Any], object], ...], argument: Any, times: int) -> tuple[float, float]:
    """Seconds of one call of ours and of theirs."""
    ours, theirs = sides
    rounds = [(round_time(ours, argument, times), round_time(theirs, argument, times)) for _ in range(ROUNDS)]
    mine, other = (statistics.median(column) for column in zip(*rounds, strict=True))
    return mine, other


def compare(
    benchmark: Any, title: str, sides: tuple[Callable[[Any], object], ...], argument: Any, times: int, size: int
) -> None:
    gc.collect()
    for collector in ("on", "off") if times < 100 else ("on",):
        if collector == "off":
            gc.disable()
        try:
            mine, other = medians(sides, argument, times)
        finally:
            gc.enable()
        benchmark.extra_info[f"ratio, collector {collector}"] = round(other / mine, 2)
        print(
            f"\n{title:34} collector {collector:3}  btfast {mine * 1e6:10.3f} us {size / mine / 1e6:7.0f} MB/s   "
            f"bencode2 {other * 1e6:10.3f} us {size / other / 1e6:7.0f} MB/s   ratio {other / mine:.2f}"
        )
    benchmark.pedantic(sides[0], args=(argument,), rounds=ROUNDS, iterations=times)


@pytest.mark.parametrize("what", DATA)
def test_decode(benchmark, what):
    make, times = DATA[what]
    data = make()
    assert decode(data) == bencode2.bdecode(data)
    compare(benchmark, f"decode {what}", (decode, bencode2.bdecode), data, times, len(data))


@pytest.mark.parametrize("what", DATA)
def test_encode(benchmark, what):
    make, times = DATA[what]
    data = make()
    value = decode(data)
    assert encode(value) == bencode2.bencode(value) == data
    compare(benchmark, f"encode {what}", (encode, bencode2.bencode), value, times, len(data))


@pytest.mark.parametrize("call", [decode_with_info, info_span])
def test_info_of_a_torrent(benchmark, call):
    data = many_files()
    benchmark.pedantic(call, args=(data,), rounds=ROUNDS, iterations=3)
