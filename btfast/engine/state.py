"""Where things are kept that later runs need: the state directory."""

from __future__ import annotations

import os

from btfast.config import Settings


def state_directory(settings: Settings) -> str:
    """The absolute path of the directory that was asked for, else of btfast's place in the XDG state directory.

    It may not exist yet. "" where there is no home to look in.
    """
    if settings.state:
        return os.path.abspath(os.path.expanduser(settings.state))
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):  # as the specification says: a relative one counts as unset
        home = os.path.expanduser("~/.local/state")
    return os.path.join(home, "btfast") if os.path.isabs(home) else ""
