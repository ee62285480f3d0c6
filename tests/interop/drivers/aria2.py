"""aria2: takes peers from trackers, DHT and PEX only. It answers JSON-RPC."""

from __future__ import annotations

import json

from drivers.ports import ask
from drivers.program import Program


class Aria2(Program):
    name = "aria2"
    program = "aria2c"
    package = "aria2"
    notes = ".aria2"

    def command(self) -> list[str]:
        words = [
            "aria2c", "--no-conf", "--enable-dht6=false", "--bt-enable-lpd=false", "--disable-ipv6=true",
            "--file-allocation=none", "--allow-overwrite=true", "--summary-interval=0", "--check-integrity=true",
            "--bt-hash-check-seed=true", "--seed-ratio=0.0", "--bt-tracker-interval=1", "--console-log-level=notice",
            "--enable-rpc", "--rpc-listen-all=false", f"--rpc-listen-port={self.control}",
            f"--listen-port={self.port}", f"--dir={self.folder}", f"--dht-file-path={self.home / 'dht.dat'}",
            f"--enable-peer-exchange={str(self.habits.pex).lower()}",
            "--log-level=info", f"--log={self.log}",
        ]  # fmt: skip
        if self.habits.encrypted:
            words += ["--bt-require-crypto=true", "--bt-min-crypto-level=arc4"]
        if self.habits.dht:
            words += ["--enable-dht=true", f"--dht-listen-port={self.port}", "--bt-external-ip=127.0.0.1"]
            words += [f"--dht-entry-point={self.habits.dht}"]
        else:
            words += ["--enable-dht=false"]
        return [*words, str(self.source)]

    def complete(self) -> bool:
        question = {"jsonrpc": "2.0", "id": "", "method": "aria2.tellActive"}
        _, answer = ask(self.control, "/jsonrpc", json.dumps(question).encode())
        downloads = [item for item in json.loads(answer)["result"] if "bittorrent" in item]
        return any(item.get("seeder") == "true" and "info" in item["bittorrent"] for item in downloads)
