"""The fence around the tests (support/fence): multicast, by which peers are found in the local network, is refused, and told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.commands import python_path

TRIES = """
import socket
from btfast.engine.lsd import _joined
assert _joined(False, [1]) is None and _joined(True, [1]) is None
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("0.0.0.0", 0))
    sock.sendto(b"here", ("127.0.0.1", sock.getsockname()[1]))
    assert sock.recv(10) == b"here"
    for send in (lambda to: sock.sendto(b"there", to), lambda to: sock.sendmsg([b"there"], [], 0, to), sock.connect):
        try:
            send(("239.192.152.143", 6771))
        except OSError as error:
            assert error.errno == 101
        else:
            raise AssertionError("it got through")
"""


def test_multicast_is_refused_and_told(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    network = os.environ["TESTS_FENCE"].rpartition("|")[2]
    fence = {"PYTHONPATH": python_path(), "TESTS_FENCE": f"{notes}|{network}"}
    done = subprocess.run([sys.executable, "-c", TRIES], env=os.environ | fence, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert [line.rpartition(": socket.")[2] for line in notes.read_text().splitlines()] == [
        "bind ('239.192.152.143', 6771)",
        "bind ('ff15::efc0:988f', 6771)",
        "sendto ('239.192.152.143', 6771)",
        "sendmsg ('239.192.152.143', 6771)",
        "connect ('239.192.152.143', 6771)",
    ]
