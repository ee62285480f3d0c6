"""Web seeds: real processes, real sockets, servers that do as they should or not. Nothing may stay behind."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # support
