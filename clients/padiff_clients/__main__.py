"""Run the command line as `python -m padiff_clients`."""

from __future__ import annotations

import sys

from padiff_clients.cli import main

if __name__ == "__main__":
    sys.exit(main())
