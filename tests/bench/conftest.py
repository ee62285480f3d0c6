from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # the bench is not part of the package, so it is not installed with it
    sys.path.insert(0, str(ROOT))
