"""`python -m btfast`."""

import sys

from btfast.cli import main

if __name__ == "__main__":
    sys.exit(main())
