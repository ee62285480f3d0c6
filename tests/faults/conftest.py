"""What goes wrong: each test with real processes and real sockets. That nothing stays behind is checked for all tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # support
