"""A SHA256SUMS file, as `sha256sum --check` reads it."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from btfast.errors import StorageError

if TYPE_CHECKING:
    from btfast.storage.verify import Verdict


def write_sums(path: str, verdict: Verdict) -> None:
    """A line for each good file, with its path below the directory; `-` is stdout. StorageError.

    What is not good is left out: a sum of wrong data would vouch for it.
    """
    lines = [f"{file.sha256.hex()}  {file.path}\n" for file in verdict.files if file.sha256 is not None]
    text = "".join(lines).encode()
    if path == "-":
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
        return
    draft = f"{path}.{os.getpid()}.part"
    try:
        with open(draft, "xb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise StorageError(f"{path}: cannot be written: {error.strerror}: choose another with --sums-file") from error
