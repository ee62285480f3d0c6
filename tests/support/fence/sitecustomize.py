"""Keeps what tests start within this machine: every Python that has this folder on its PYTHONPATH loads it first.

A socket for a multicast group, which is how local service discovery (BEP 14) begins, and a datagram to one are refused,
and noted in the file that the environment names. Processes in a network namespace of a test's own do as they like: nothing
leaves it.
"""

import os
import sys

NOTES = "TESTS_FENCE"  # a file, and a colon, and the network namespace that is fenced in


def _network() -> str:
    try:
        return os.readlink("/proc/self/ns/net")
    except OSError:
        return ""


def _leaves(address: object) -> bool:
    """Whether it is a multicast group's: what is sent to it, or heard there, passes the border of the machine."""
    if not isinstance(address, tuple) or not address or not isinstance(address[0], str):
        return False  # a Unix socket's, a netlink's
    host = address[0].lower()
    first = host.partition(".")[0]
    return host.startswith("ff") or (first.isdecimal() and 224 <= int(first) < 240)


def _fence(notes: str) -> None:
    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"):
            address = arguments[1]
            if _leaves(address):
                who = " ".join(sys.orig_argv[1:4]).partition("\n")[0]
                fd = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                os.write(fd, f"{who}: {event} {tuple(address)}\n".encode())
                os.close(fd)
                raise OSError(101, "the tests keep within this machine")

    sys.addaudithook(watch)


_notes, _, _fenced = os.environ.get(NOTES, "").rpartition("|")
if _notes and _fenced == _network():
    _fence(_notes)
