"""How exactly --max-up and --max-down hold between two processes over ten seconds, each alone, of all and of each torrent.

    python -m bench.caps

Received payload is read off the downloader's progress reports; the machine should do nothing else meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path

import msgspec

from btfast import Session, Settings, Torrent
from btfast.events import Progress

MIB = 1 << 20
RATE = 4 * MIB
LOCAL = Settings(bind="127.0.0.1", port=0, memory="64MiB", trackers=False, dht=False, lsd=False, pex=False)


async def measure(cap: str, folder: Path) -> float:
    """Bytes a second over ten seconds, from two seconds after the start, in parts of the cap."""
    data = folder / "data"
    torrent = await asyncio.to_thread(Torrent.create, data)
    up, down = ({cap: RATE}, {}) if "up" in cap else ({}, {cap: RATE})
    async with (
        Session(msgspec.structs.replace(LOCAL, **up)) as seed, Session(msgspec.structs.replace(LOCAL, **down)) as leech,
    ):  # fmt: skip
        seeding = await seed.add(torrent, folder, seed=True)
        download = await leech.add(torrent, folder / cap, peers=[f"127.0.0.1:{await seed.port()}"])
        seen: list[tuple[float, int]] = []
        async for event in download.events():
            if isinstance(event, Progress) and event.done:
                seen.append((asyncio.get_running_loop().time(), event.done))
                if seen[-1][0] - seen[0][0] > 12:
                    break
        seeding.cancel()
        download.cancel()
    first = next(one for one in seen if one[0] - seen[0][0] > 2)
    return (seen[-1][1] - first[1]) / (seen[-1][0] - first[0]) / RATE


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="btfast-caps-") as name:
        (Path(name) / "data").write_bytes(random.Random(1).randbytes(16 * RATE))
        for cap in ("max_up", "max_down", "max_up_torrent", "max_down_torrent"):
            print(f"{cap}: {await measure(cap, Path(name)):.4f} of the cap", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
