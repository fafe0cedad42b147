"""`fcnlite download`: the weights that the paper's authors published."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fcnlite.commands.options import Parser, guarded
from fcnlite.io.fetch import digest
from fcnlite.published import Published, catalogue, convert, default_folder, fetch, find


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "fcnlite download",
        description="Download the weights that the paper's authors published, check them, and turn them\n"
        "into HDF5 files that fcnlite's other commands take: --weights NAME.h5, --init NAME.h5.",
        epilog="A connection that breaks is taken up where it broke; Ctrl-C leaves nothing behind. What is there\n"
        "already is not fetched again. Without a network, put the published file into the folder yourself\n"
        "and run the same command.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="nets, as --list shows them")
    parser.add_argument("--list", action="store_true", help="show what there is, with sizes and licences")
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help=f"folder to put it in (default: {default_folder()})"
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


def _get(weights: Published, folder: Path, hdf5: bool) -> None:
    path = fetch(weights, folder)
    if not weights.sha1:
        received = digest(path, "sha1")
        print(f"{weights.name}: its authors published no checksum; the file received has sha1 {received}")
    if hdf5:
        path = convert(weights, path)
    print(f"{path}  [{weights.licence}]")


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
    wanted = [find(name) for name in chosen.names]
    for weights in wanted:
        _get(weights, chosen.to or default_folder(), chosen.hdf5)
    return 0
