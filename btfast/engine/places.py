"""How many descriptors the connections of all torrents may take, and what it means when there is none left."""

from __future__ import annotations

import errno

# Of the process or the machine as a whole, and passing: no address, file or peer is to blame.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Places:
    """Connections with peers, counted by who makes and ends them. `budget`: a quarter of what the process may open.

    Half of that is for connected peers, an eighth for those who have not said what they want, a sixteenth for attempts;
    what is left is for files that are served, trackers, web servers and workers.
    """

    def __init__(self, budget: int) -> None:
        self.connected = 0
        self.most = 2 * budget
        self.pending = budget // 2
        self.half_open = budget // 4

    @property
    def full(self) -> bool:
        return self.connected >= self.most
