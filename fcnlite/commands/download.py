"""`fcnlite download`: the weights and data sets that the paper's authors published."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fcnlite.commands.options import Parser, guarded
from fcnlite.data.published import PublishedData, install
from fcnlite.data.published import catalogue as datasets
from fcnlite.errors import InputError
from fcnlite.io.fetch import digest
from fcnlite.published import Published, catalogue, convert, default_folder, fetch, find


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "fcnlite download",
        description="Download the weights and data sets that the paper's authors published, and check them.\n"
        "Weights become HDF5 files that fcnlite's other commands take: --weights NAME.h5, --init NAME.h5.\n"
        "Data sets are unpacked into a folder that they take, too: --data FOLDER/NAME.",
        epilog="A connection that breaks is taken up where it broke; Ctrl-C leaves nothing behind. What is there\n"
        "already is not fetched again. Without a network, put the published file into the folder yourself\n"
        "and run the same command.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="nets or data sets, as --list shows them")
    parser.add_argument("--list", action="store_true", help="show what there is, with sizes and licences")
    parser.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help=f"folder to put it in (default: {default_folder()}; data sets: data)",
    )
    parser.add_argument(
        "--hdf5",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also write NAME.h5 (default), or leave it at the published .caffemodel",
    )
    return parser


def _list() -> None:
    for weights in catalogue().values():
        size = f"{weights.bytes / 1e6:.0f} MB" if weights.bytes else ""
        checked = "sha1" if weights.sha1 else "no checksum"
        print(f"{weights.name:22} {size:>7}  {checked:12} {weights.about} [{weights.licence}]")

    for data in datasets().values():
        known = [part.bytes for part in data.files if part.bytes]
        size = f"{sum(known) / 1e6:.0f} MB" if len(known) == len(data.files) else ""
        checked = "md5" if all(part.md5 for part in data.files) else "no checksum"
        print(f"{data.name:22} {size:>7}  {checked:12} {data.about} [{data.licence}]")


def _get(weights: Published, folder: Path, hdf5: bool) -> None:
    path = fetch(weights, folder)
    if not weights.sha1:
        received = digest(path, "sha1")
        print(f"{weights.name}: its authors published no checksum; the file received has sha1 {received}")
    if hdf5:
        try:
            path = convert(weights, path)
        except InputError as error:
            if weights.sha1:
                raise
            path.unlink()  # nothing vouches for it: the next try downloads it again
            raise InputError(f"{error}; it has no published checksum, and was removed") from None
    print(f"{path}  [{weights.licence}]")


def _data_name(name: str) -> str:
    """The catalogue's spelling of a data set's name: any case, without hyphens, and NYUDv2 for nyud."""
    plain = name.lower().replace("-", "").replace("_", "")
    return {"nyudv2": "nyud", "voc": "voc2012", "sbdd": "sbd"}.get(plain, plain)


@guarded("fcnlite download")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.list:
        _list()
        return 0
    if not chosen.names:
        parser.error("name at least one net, or --list them")
    wanted = [datasets().get(_data_name(name)) or find(name) for name in chosen.names]
    for item in wanted:
        if isinstance(item, PublishedData):
            folder = install(item, chosen.to or Path("data"))
            print(
                f"{folder}  [{item.licence}]\ntrain on it with: fcnlite train {item.data_set} --data {folder}"
            )
        else:
            _get(item, chosen.to or default_folder(), chosen.hdf5)
    return 0
