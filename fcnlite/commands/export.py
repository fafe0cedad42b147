"""Nets for other tools: `fcnlite export`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from fcnlite.commands.options import (
    Parser,
    add_device_options,
    add_net_options,
    guarded,
    load_net,
    refuse_overwrite,
    use_device,
)
from fcnlite.errors import InputError
from fcnlite.net import Segmenter

_HELP = """\
Take a net to other tools. The suffix of OUT says where:

  .onnx          ONNX Runtime, OpenVINO, TensorRT, OpenCV, a browser; with Caffe's semantics exactly
  .safetensors   PyTorch and its kin: named tensors, with the net's description beside them

An ONNX file is checked before it is kept: by ONNX's own checker and by running it in ONNX Runtime on images of two
sizes, whose scores must be the net's. Over 2 GB its weights go into OUT.data. `fcnlite convert` brings both kinds of
file back to .caffemodel, bit for bit.

examples:
  fcnlite export fcn8s.h5 fcn8s.onnx                     scores from mean-free BGR, N x 3 x H x W float
  fcnlite export fcn8s.h5 fcn8s.onnx --whole             labels from a picture, H x W x 3 uint8 RGB
  fcnlite export net.caffemodel net.onnx --prototxt deploy.prototxt
  fcnlite export fcn8s.h5 fcn8s.safetensors
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser("fcnlite export", description=_HELP)
    parser.add_argument("weights", metavar="IN", type=Path, help="the net: NET.h5, a snapshot, a .caffemodel")
    parser.add_argument("target", metavar="OUT", type=Path, help="the file to write: .onnx or .safetensors")
    add_net_options(parser)
    group = parser.add_argument_group("ONNX")
    group.add_argument(
        "--whole",
        action="store_true",
        help="from an RGB picture to its label map, with mean, channel order and argmax inside",
    )
    group.add_argument("--output", metavar="BLOB", help="the blob to give (default: the net's outputs)")
    group.add_argument(
        "--licence", metavar="TEXT", help="kept in the file (default: that of published weights)"
    )
    group.add_argument(
        "--force",
        action="store_true",
        help="keep a file whose scores differ by over 1e-4 of the largest score",
    )
    add_device_options(parser)
    return parser


@guarded("fcnlite export")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = _parser().parse_args(arguments)
    refuse_overwrite([options.weights, options.prototxt or options.weights], [options.target])
    suffix = options.target.suffix.lower()
    if suffix not in (".onnx", ".safetensors"):
        raise InputError(
            f"{options.target}: its suffix names no format; end it with .onnx or .safetensors"
            " (fcnlite convert writes Caffe's files)"
        )
    if suffix != ".onnx" and (options.whole or options.output or options.licence or options.force):
        raise InputError("--whole, --output, --licence and --force go with .onnx; leave them out")
    use_device(options.device, options.threads, options.fast)
    net = load_net(options)
    net.notes = net.notes.use(options.mean, options.scale)
    if suffix == ".safetensors":
        net.save(options.target)
    else:
        _write_onnx(net, options)
    print(f"{options.target}: {tqdm.format_sizeof(options.target.stat().st_size, 'B')}")
    return 0


def _write_onnx(net: Segmenter, options: argparse.Namespace) -> None:
    """Write the file and tell what is in it and how right it is."""
    from fcnlite.export import write_onnx
    from fcnlite.published import licence_of

    licence = options.licence if options.licence is not None else licence_of(options.weights)
    report = write_onnx(
        net, options.target, output=options.output, whole=options.whole, licence=licence, force=options.force
    )
    for word, values in (("input", report.inputs), ("output", report.outputs)):
        for name, shape in values.items():
            print(f"{word} {name}: {shape}")
    print(report.verdict)
