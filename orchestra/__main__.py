"""``python -m orchestra`` is the command ``orchestra``."""

import sys

from orchestra.cli import main

if __name__ == "__main__":
    sys.exit(main())
