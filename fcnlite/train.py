"""`python -m fcnlite.train ...` is `fcnlite train ...`."""

from __future__ import annotations

import sys

from fcnlite.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
