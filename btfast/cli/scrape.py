"""How the swarm of a torrent stands, by what its trackers say (BEP 48)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from btfast.cli.text import plural
from btfast.config import Settings
from btfast.discovery.announce import tracker_name
from btfast.engine.resolve import Resolver
from btfast.engine.trackers import Trackers
from btfast.engine.udp import UdpSockets
from btfast.errors import Error

SECONDS = 15.0
MAX_TRACKERS = 20
SWARMS = ("v1", "v2")  # of a hybrid
SCHEMES = ("http", "https", "udp")


class _Process:
    """What UDP sockets need to know."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = Settings()
        self.port = 0


def scrape(tiers: Sequence[Sequence[str]], hashes: Sequence[bytes]) -> list[dict[str, object]]:
    """What each tracker says, those of the first tiers first, at most 20; `error` where it says nothing useful.

    `hashes`: of the swarms; of a hybrid there are two, and each tracker is asked for both.
    """
    urls = dict.fromkeys(url for tier in tiers for url in tier if url.partition("://")[0].lower() in SCHEMES)
    return asyncio.run(_scrape(list(urls)[:MAX_TRACKERS], hashes))


def line(swarm: dict[str, object]) -> str:
    """One tracker's answer for people."""
    if "error" in swarm:
        return str(swarm["error"])
    counted = ((swarm[key], word) for key, word in (("complete", "seed"), ("incomplete", "leecher"), ("downloaded", "download")))
    counts = [plural(count, word) for count, word in counted if isinstance(count, int)]
    which = f" ({swarm['swarm']})" if "swarm" in swarm else ""
    return f"{swarm['tracker']}{which}: {', '.join(counts)}"


async def _scrape(urls: list[str], hashes: Sequence[bytes]) -> list[dict[str, object]]:
    process = _Process()
    sockets, resolver = UdpSockets(process), Resolver(process.loop)
    trackers = Trackers(sockets, resolver)
    try:
        answers = await asyncio.gather(*[_ask(trackers, url, info_hash) for url in urls for info_hash in hashes])
        if len(hashes) > 1:
            for number, answer in enumerate(answers):
                answer["swarm"] = SWARMS[number % len(hashes)]
        return answers
    finally:
        await trackers.close()
        sockets.close()
        resolver.close()


async def _ask(trackers: Trackers, url: str, info_hash: bytes) -> dict[str, object]:
    name = tracker_name(url)
    try:
        async with asyncio.timeout(SECONDS):
            swarm = (await trackers.scrape(url, [info_hash])).get(info_hash)
    except TimeoutError:
        return {"tracker": name, "error": f"tracker {name}: no answer within {SECONDS:g} s"}
    except Error as error:
        return {"tracker": name, "error": str(error)}
    if swarm is None:
        return {"tracker": name, "error": f"tracker {name}: does not know this torrent"}
    return {
        "tracker": name, "complete": swarm.complete, "incomplete": swarm.incomplete, "downloaded": swarm.downloaded,
    }  # fmt: skip
