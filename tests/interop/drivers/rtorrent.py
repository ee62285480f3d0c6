"""rTorrent, which answers XML-RPC in SCGI on a Unix socket."""

from __future__ import annotations

import socket
import xmlrpc.client
from typing import Any

from drivers.program import Program


class RTorrent(Program):
    name = "rTorrent"
    program = "rtorrent"
    package = "rtorrent"
    notes = ".meta"

    def command(self) -> list[str]:
        (self.home / "session").mkdir()
        encryption = "require,require_RC4,allow_incoming" if self.habits.encrypted else "none"
        lines = [
            "system.daemon.set = true",
            f"session.path.set = {self.home}/session",
            "session.use_lock.set = no",
            f"directory.default.set = {self.folder}",
            "network.bind_address.set = 127.0.0.1",
            f"network.port_range.set = {self.port}-{self.port}",
            "network.port_random.set = no",
            f"protocol.encryption.set = {encryption}",
            f"protocol.pex.set = {'yes' if self.habits.pex else 'no'}",
            f"dht.mode.set = {'on' if self.habits.dht else 'disable'}",
            f"dht.port.set = {self.port}",
            "trackers.use_udp.set = yes",
            "throttle.max_uploads.set = 200",
            "throttle.max_uploads.global.set = 200",
            "pieces.hash.on_completion.set = no",
            f"network.scgi.open_local = {self._socket}",
            f'log.open_file = "log", {self.log}',
            'log.add_output = "info", "log"',
            'log.add_output = "dht_all", "log"',
            f"load.start = {self.source}",
        ]
        if self.habits.dht:
            lines.append(f'schedule2 = first_node, 1, 0, "dht.add_node={self.habits.dht}"')
        (self.home / "rc").write_text("\n".join(lines) + "\n")
        return [self.program, "-n", "-o", f"import={self.home}/rc"]

    @property
    def _socket(self) -> str:
        return f"{self.home}/s"

    def _call(self, method: str, *arguments: Any) -> Any:
        body = xmlrpc.client.dumps(arguments, method).encode()
        headers = b"CONTENT_LENGTH\0%d\0SCGI\0001\0" % len(body)
        answer = b""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(self._socket)
            connection.sendall(b"%d:%s,%s" % (len(headers), headers, body))
            while part := connection.recv(65536):
                answer += part
        try:
            (result,), _ = xmlrpc.client.loads(answer.partition(b"\r\n\r\n")[2])
        except xmlrpc.client.Fault as fault:  # what a magnet stands for is replaced by the torrent in between
            raise LookupError(fault.faultString) from None
        return result

    def add(self) -> bool:
        return bool(self._call("download_list"))  # it loads what the rc file names a moment after its start

    def complete(self) -> bool:
        hashes = self._call("download_list")
        return bool(hashes) and all(
            self._call("d.complete", number) and not self._call("d.hashing", number) and not self._call("d.is_meta", number)
            for number in hashes
        )
