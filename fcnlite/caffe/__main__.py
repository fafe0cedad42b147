"""`python -m fcnlite.caffe ...` is `fcnlite caffe ...`."""

from __future__ import annotations

import sys

from fcnlite.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["caffe", *sys.argv[1:]]))
