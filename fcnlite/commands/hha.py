"""`fcnlite hha DEPTH_DIR HHA_DIR`: depth images encoded as HHA images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fcnlite.commands.options import Parser, amount, guarded
from fcnlite.data.hha import Camera, encode_folder


@guarded("fcnlite hha")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(
        "fcnlite hha",
        description="Encode depth images (16-bit PNG, millimetres, 0 unknown) as HHA: horizontal disparity, height\n"
        "above ground, angle with gravity (Gupta et al. 2014). For NYUDv2 in the layout of the FCN experiments\n"
        "the folders are data/depth and data/hha. Images that are there already are kept.",
    )
    parser.add_argument("depth", type=Path, help="folder of depth images")
    parser.add_argument(
        "hha", type=Path, help="folder for the HHA images, of the same names; made if missing"
    )
    parser.add_argument(
        "--camera",
        type=amount(positive=True),
        nargs=4,
        metavar=("FX", "FY", "CX", "CY"),
        help="intrinsics in pixels (default: NYUDv2's Kinect at the image's size)",
    )
    options = parser.parse_args(arguments)
    encode_folder(options.depth, options.hha, None if options.camera is None else Camera(*options.camera))
    return 0
