"""Our own address, as those say who answer us (BEP 42): one vote a network, and a clear majority decides."""

from __future__ import annotations

from btfast.discovery.dht.endpoints import Endpoint, host_key, is_public, network_key

QUORUM = 5  # votes
MAJORITY = 0.6
MAX_VOTES = 64


class Votes:
    """Of one address family. `address` is the host's 4 or 16 bytes, b"" while nothing is decided."""

    def __init__(self, address: bytes = b"") -> None:
        self.address = address
        self._votes: dict[bytes, bytes] = {}

    def handle_vote(self, voter: Endpoint, seen: Endpoint) -> bool:
        """A node that we asked has said where it sees us. True when that changes what we take for our address."""
        host = seen[:-2]
        if len(seen) != len(voter) or not is_public(host):
            return False
        key = network_key(voter) or host_key(voter)
        self._votes.pop(key, None)
        if len(self._votes) >= MAX_VOTES:
            del self._votes[next(iter(self._votes))]
        self._votes[key] = host
        if host == self.address or len(self._votes) < QUORUM:
            return False
        count = sum(vote == host for vote in self._votes.values())
        if count < QUORUM or count < MAJORITY * len(self._votes):
            return False
        self.address = host
        self._votes.clear()
        return True
