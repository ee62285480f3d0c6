"""Our own address as others see it: nobody is believed alone."""

from __future__ import annotations

from btfast.metainfo.reach import Reach, reach_of
from btfast.swarm.peers import host_group

QUORUM = 3  # hosts that must say the same
MAX_VOTES = 64  # remembered of a family


class ExternalAddress:
    """One a network process, for both families."""

    def __init__(self) -> None:
        self._votes: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self._decided = ["", ""]

    def handle_vote(self, voter: str, host: str) -> None:
        """`voter`, an address or a domain, says that it sees us at `host`. What is not public says nothing to the public."""
        if reach_of(host) is not Reach.PUBLIC:
            return
        family = ":" in host
        votes = self._votes[family]
        group = host_group(voter)
        votes.pop(group, None)
        if len(votes) >= MAX_VOTES:
            del votes[next(iter(votes))]
        votes[group] = host
        count = sum(vote == host for vote in votes.values())
        if count >= QUORUM and 2 * count > len(votes):
            self._decided[family] = host

    def handle_agreed(self, host: str) -> None:
        """Nodes of several networks of the DHT agree on it (BEP 42): it holds until a majority of votes says otherwise."""
        self._decided[":" in host] = host

    def host(self, *, v6: bool) -> str:
        """Our address of that family, "" while it is not known."""
        return self._decided[v6]
