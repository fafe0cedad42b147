"""Lists the commands: ``python -m fcnlite``."""

from __future__ import annotations

import fcnlite

COMMANDS = {
    "train": "train a net: the demo (no data needed), PASCAL VOC, your own folder, ...",
    "evaluate": "the paper's four metrics of some weights on a data set",
    "table": "the paper's tables, measured beside published",
    "predict": "segment pictures",
    "download": "fetch the weights that the paper's authors published",
    "convert": "Caffe's weights and solver states from binary to HDF5 and back",
    "inspect": "layers, sizes and costs of any Caffe file",
    "caffe": "run a script written for Caffe's Python interface",
    "hha": "encode depth images as HHA",
}


def main() -> None:
    """Print what there is."""
    print(f"fcnlite {fcnlite.__version__}: fully convolutional networks with Caffe's numbers\n")
    for command, about in COMMANDS.items():
        print(f"  python -m fcnlite.{command:<9} {about}")
    print("\nEach explains itself with --help. Start with the demo: python -m fcnlite.train shapes")


if __name__ == "__main__":
    main()
