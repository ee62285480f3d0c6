"""A network of one test's own, for clients that refuse the loopback: private addresses that nobody else has."""

from __future__ import annotations

import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

import pytest


class Namespace:
    """A network namespace that holds 10.77.0.1 and so on. Used as a context; `prefix` runs a command inside.

    The addresses are `lo`'s; with `multicast` those of an interface that carries it, `lan`, which also has fd77::1 and
    so on, in `addresses_v6`.
    """

    def __init__(self, addresses: int, *, multicast: bool = False) -> None:
        self.addresses = [f"10.77.0.{number + 1}" for number in range(addresses)]
        self.addresses_v6 = [f"fd77::{number + 1}" for number in range(addresses)] if multicast else []
        self._multicast = multicast
        self._holder: subprocess.Popen[bytes] | None = None

    @property
    def prefix(self) -> list[str]:
        assert self._holder is not None
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self._holder.pid), *user, "--net", "--"]

    def __enter__(self) -> Self:
        for program in ("unshare", "nsenter", "ip"):
            if shutil.which(program) is None:
                pytest.skip(f"missing peer: {program} is not installed (Debian: apt-get install util-linux iproute2)")
        lines = ["ip link set lo up"]
        if self._multicast:
            lines += ["ip link add lan type veth peer name other", "ip link set lan up", "ip link set other up"]
            lines += [f"ip address add {address}/24 dev lan" for address in self.addresses]
            lines += [f"ip address add {address}/64 dev lan nodad" for address in self.addresses_v6]
        else:
            lines += [f"ip address add {address}/32 dev lo" for address in self.addresses]
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        script = " && ".join([*lines, "echo ready && read -r forever"])
        self._holder = subprocess.Popen(
            ["unshare", *user, "--net", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            reason = self._end().decode().strip()
            pytest.skip(f"missing peer: no network namespace can be made here: {reason}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> bytes:
        """The holder ends with its standard input, and the namespace with its last process."""
        assert self._holder is not None
        _, errors = self._holder.communicate(timeout=60)
        return errors
