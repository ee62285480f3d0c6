"""RC4 in place, as a stream decrypts what it has read. Run: pytest -s --benchmark-only bench/micro/test_rc4_bench.py

With `-s` a line says MB/s. Where OpenSSL's legacy provider is installed, `openssl speed -provider legacy -provider default
-evp rc4 -bytes 65536` gives its figure to compare with.
"""

from __future__ import annotations

import pytest

from btfast._rc4 import Rc4


@pytest.mark.parametrize("size", [13, 16384, 1 << 18])
def test_in_place(benchmark, size: int) -> None:
    cipher, data = Rc4(b"k" * 20, drop=1024), bytearray(size)
    repeats = max(1, (1 << 20) // size)

    def run() -> None:
        for _ in range(repeats):
            cipher.apply(data)

    benchmark.pedantic(run, rounds=30, warmup_rounds=2)
    if benchmark.stats is not None:
        rate = size * repeats / benchmark.stats.stats.median / 1e6
        benchmark.extra_info["MB/s"] = round(rate)
        print(f"\nRC4 in pieces of {size}: {rate:.0f} MB/s")
