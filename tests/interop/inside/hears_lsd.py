"""Listens to LSD on the interface `lan` of the network it runs in. Prints `ready`, then each info-hash that it hears.

Ends with its standard input.
"""

from __future__ import annotations

import select
import socket
import struct
import sys

GROUP = "239.192.152.143"


def main() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((GROUP, 6771))
    lan = struct.pack("@i", socket.if_nametoindex("lan"))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + bytes(4) + lan)
    print("ready", flush=True)
    while sys.stdin not in (readable := select.select([sys.stdin, sock], [], [])[0]):
        assert readable
        for line in sock.recv(2000).split(b"\r\n"):
            name, _, value = line.partition(b": ")
            if name == b"Infohash":
                print(value.decode(), flush=True)


if __name__ == "__main__":
    main()
