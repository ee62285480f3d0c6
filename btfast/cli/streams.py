"""When what we write to leads nowhere any more."""

from __future__ import annotations

import errno
import os
import sys


def silence_stdout(error: OSError) -> bool:
    """Nothing more is written to it, also not by the interpreter at its end. False: whoever read it has left, no more."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    if error.errno == errno.EPIPE:
        return False
    print(f"btfast: error: stdout: cannot be written: {error.strerror}: what follows is not told", file=sys.stderr)
    return True
