"""Encodes depth images as HHA images: ``fcnlite hha DEPTH_DIR HHA_DIR``."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from fcnlite.commands.options import Parser, amount, guarded
from fcnlite.data.hha import Camera, encode, read_depth
from fcnlite.errors import InputError
from fcnlite.vis import write_image


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


def encode_folder(depth: Path, hha: Path, camera: Camera | None = None) -> None:
    """Encode every PNG of folder `depth` that folder `hha` lacks.

    Raises
    ------
    FileNotFoundError, InputError
        If there is no such folder, it holds no PNGs, or one is no depth image.
    """
    if not depth.is_dir():
        raise FileNotFoundError(f"there is no folder {depth}")
    paths = sorted(depth.glob("*.png"))
    if not paths:
        raise InputError(f"{depth} holds no .png images")
    if hha.resolve() == depth.resolve():
        raise InputError(f"{hha} is the folder of the depth images; name another one")
    hha.mkdir(parents=True, exist_ok=True)
    for path in tqdm(paths, unit="image", disable=None):
        if not (hha / path.name).exists():
            millimetres = read_depth(path)
            try:
                image = encode(millimetres / 1000, camera)
            except InputError as error:
                raise InputError(f"{path}: {error}") from None
            write_image(hha / path.name, image)
