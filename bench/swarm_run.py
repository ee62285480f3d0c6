"""One seed and some leechers on this machine, from the first start until the last leecher has everything.

python swarm_run.py JOB_JSON    writes RESULT, JSON: {"seconds", "seed_cpu"}; exit code 1 when somebody failed

JOB: {"torrent": with its tracker unless `direct`, "content": folder, "folder": of the downloads, "seed": "btfast" or
"libtorrent", "leech": the same, "leechers": N, "rate": bytes/s of the seed or 0, "first_port": N, "direct": bool,
"result": path}.
`direct`: the leechers know the seed only, and do not trade. Member i listens on 127.0.0.(2 + i), port first_port + i.
Imports nothing of the bench: it runs under the meter.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

PEER_SCRIPT = Path(__file__).with_name("libtorrent_peer.py")
TIMEOUT = 300.0


class Member:
    """A running client. `ready` and `finished` tell how far it is."""

    def __init__(self, job: dict[str, Any], number: int) -> None:
        self.seed = number == 0
        self.host, self.port = f"127.0.0.{2 + number}", job["first_port"] + number
        self.kind = job["seed" if self.seed else "leech"]
        self.folder = Path(job["content"] if self.seed else job["folder"]) / ("" if self.seed else str(number))
        self.folder.mkdir(exist_ok=True)
        self.name = Path(job["torrent"]).name.removesuffix(".torrent").removesuffix(".announced")
        peer = ["127.0.0.2", job["first_port"]] if job["direct"] and not self.seed else None
        if self.kind == "libtorrent":
            told = {
                "torrent": job["torrent"], "folder": str(self.folder), "host": self.host, "port": self.port,
                "seed": self.seed, "rate": job["rate"] if self.seed else 0, "peer": peer,
            }  # fmt: skip
            command = [sys.executable, str(PEER_SCRIPT), "node", json.dumps(told)]
        else:
            verb = ["seed", "--data"] if self.seed else ["get", "--seed-time", "3600", "-o"]
            command = [sys.executable, "-m", "btfast", *verb, str(self.folder), job["torrent"], "-q", "--no-dht"]
            command += ["--bind", self.host, "--port", str(self.port), "--max-up", str(job["rate"] if self.seed else 0)]
            command += job["options"] if self.seed else []
            command += ["--state", str(Path(job["folder"]) / f"state-{number}")]
            if job["direct"]:
                command += ["--no-trackers", *(["--peer", f"{peer[0]}:{peer[1]}"] if peer else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._said = b""

    def _hears(self, word: bytes) -> bool:
        assert self.process.stdout is not None
        self._said += self.process.stdout.read() or b""
        return word in self._said

    def ready(self) -> bool:
        """Whether it can be reached."""
        if self.kind == "libtorrent":
            return self._hears(b"ready")
        return _listens(self.host, self.port)

    def finished(self) -> bool:
        """Whether it has everything on disk. btfast gives a file its name then."""
        return self._hears(b"finished") if self.kind == "libtorrent" else (self.folder / self.name).exists()

    def end(self) -> float:
        """Ends it; the CPU seconds of it and of the processes it has started."""
        if self.kind == "libtorrent":
            assert self.process.stdin is not None
            self.process.stdin.close()
        else:
            self.process.send_signal(signal.SIGINT)
        _, _, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = 0
        return usage.ru_utime + usage.ru_stime


def _listens(host: str, port: int) -> bool:
    """Looked up in the kernel's table: a connection would count as a peer."""
    wanted = "".join(f"{int(part):02X}" for part in reversed(host.split("."))) + f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(fields[1] == wanted and fields[3] == "0A" for fields in map(str.split, lines))


def wait(what: str, members: list[Member], done: Any) -> None:
    """Until `done` is true of all members."""
    deadline = time.monotonic() + TIMEOUT
    left = list(members)
    while left:
        left = [member for member in left if not done(member)]
        for member in members:
            if member.process.poll() is not None:
                fail(f"{member.kind} on {member.host} ended with {member.process.returncode}")
        if time.monotonic() > deadline:
            fail(f"{len(left)} of {len(members)} are not {what} after {TIMEOUT:.0f} s")
        time.sleep(0.005)


def fail(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    os._exit(1)


def main() -> None:
    job = json.loads(sys.argv[1])
    seed = Member(job, 0)
    wait("ready", [seed], Member.ready)
    began = time.monotonic()
    leechers = [Member(job, number) for number in range(1, job["leechers"] + 1)]
    wait("finished", leechers, Member.finished)
    seconds = time.monotonic() - began
    cpu = seed.end()
    for member in leechers:
        member.end()
    Path(job["result"]).write_text(json.dumps({"seconds": seconds, "seed_cpu": cpu}))


if __name__ == "__main__":
    main()
