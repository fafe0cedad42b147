"""`fcnlite convert`: Caffe's weights and solver states from binary to HDF5 and back."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from fcnlite.commands.options import Parser, add_stage_option, guarded, refuse_overwrite
from fcnlite.errors import InputError, warn
from fcnlite.io.convert import Layers, convert_state, convert_weights
from fcnlite.io.weights import iter_weights, names_hdf5
from fcnlite.progress import progress_bar
from fcnlite.proto import NetParameter, read_net, upgrade
from fcnlite.proto.filter import in_stages

if TYPE_CHECKING:
    from fcnlite.geometry import LayerGeometry

_HELP = """\
Convert Caffe's files. The suffix of OUT says what to write:

  .caffemodel               weights, as Caffe's published models are (brings old V1 files up to date, too)
  .h5, .hdf5                weights in Caffe's HDF5 layout: /data/LAYER/0 the weight, /data/LAYER/1 the bias
  .safetensors              weights as PyTorch's users exchange them
  .onnx                     a net for other tools (fcnlite export has options for it)
  .solverstate              a solver state, to go on with training
  .solverstate.h5           the same in HDF5

IN is recognised by its content; it may be an .onnx file that fcnlite wrote. Every number is kept, bit for bit. OUT
appears only when it is complete.

examples:
  fcnlite convert VGG_ILSVRC_16_layers.caffemodel vgg16.h5
  fcnlite convert VGG_ILSVRC_16_layers.caffemodel vgg16-conv.h5 --classifier-to-fcn
  fcnlite convert fcn8s-heavy-pascal.caffemodel fcn8s.h5 --prototxt deploy.prototxt
  fcnlite convert snapshot/train_iter_4000.solverstate.h5 train_iter_4000.solverstate
"""
_SUFFIXES = (".caffemodel", ".safetensors", ".onnx", ".solverstate")


def _is_state(path: Path) -> bool:
    return ".solverstate" in [suffix.lower() for suffix in path.suffixes[-2:]]


def _check_paths(source: Path, target: Path) -> None:
    if not source.exists():
        raise FileNotFoundError(f"{source}: there is no such file")
    if target.exists() and os.path.samefile(source, target):
        raise InputError(f"{target}: IN and OUT are the same file; give OUT another name")
    if not (names_hdf5(target) or target.suffix.lower() in _SUFFIXES):
        raise InputError(
            f"{target}: its suffix names no format; end it with .caffemodel, .h5, .safetensors, "
            ".onnx, .solverstate or .solverstate.h5"
        )
    if _is_state(source) != _is_state(target) and (
        _is_state(source) or source.suffix.lower() == ".caffemodel"
    ):
        told = "a solver state, not weights" if _is_state(source) else "weights, not a solver state"
        raise InputError(f"{source}: its name says that it is {told}; give {target} the suffix for that")


def _with_bar(layers: Layers, source: Path) -> Layers:
    """Hand layers on and show the bytes done as a bar, on a terminal."""
    with progress_bar(total=source.stat().st_size, unit="B", unit_scale=True, desc=source.name) as bar:
        for name, arrays in layers:
            yield name, arrays
            bar.update(sum(array.nbytes for array in arrays))


def _parser() -> argparse.ArgumentParser:
    parser = Parser("fcnlite convert", description=_HELP)
    parser.add_argument("source", metavar="IN", type=Path, help="the file to read")
    parser.add_argument("target", metavar="OUT", type=Path, help="the file to write; its suffix says what")
    parser.add_argument(
        "--prototxt",
        type=Path,
        metavar="FILE",
        help="the net the weights belong to: stored in an HDF5 file, so that it loads without a prototxt",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="write weights that have nothing for a layer of the prototxt",
    )
    add_stage_option(parser)
    parser.add_argument(
        "--fix-crops",
        action="store_true",
        help="give each Crop of the --prototxt the offset at which its reference begins, as caffe.coord_map derives it",
    )
    parser.add_argument(
        "--classifier-to-fcn",
        action="store_true",
        help="turn a classifier's inner products into convolutions, to run on images of any size and to start "
        "training from (a classifier not in the catalogue needs its --prototxt)",
    )
    return parser


def _net_of(options: argparse.Namespace) -> NetParameter | None:
    """The net of --prototxt as it is stored, for prediction in HDF5; refused if the weights lack one of its layers."""
    if options.prototxt is None:
        if options.fix_crops:
            raise InputError(
                "--fix-crops changes the net that is stored with the weights; name it with --prototxt"
            )
        return None
    # Layers are needed for this alone; plain conversions do without them.
    from fcnlite.coord_map import fix_crops
    from fcnlite.deploy import deployed
    from fcnlite.geometry import measure
    from fcnlite.net.parameters import is_given, lacking

    net = in_stages(read_net(options.prototxt), options.stage)
    if options.fix_crops:
        net = upgrade(net)
        for crop in fix_crops(net):
            print(f"{crop.layer}: offset {crop.given} is now {crop.derived}")
    if names_hdf5(options.target):
        net = deployed(net, options.prototxt.parent)
    form = upgrade(deployed(net, options.prototxt.parent))
    try:
        measured = measure(form)
    except InputError as error:
        warn(f"{options.prototxt}: not compared with the weights: {error}")
        return net
    shapes = {layer: [array.shape for array in arrays] for layer, arrays in iter_weights(options.source)}
    known = {layer for layer, held in shapes.items() if held}
    for layer in measured:
        _check_fit(layer, shapes.get(layer.name, []), options)
    wanted = {layer.name for layer in measured if any(not p.shared for p in layer.parameters)} - known
    told = lacking([p.name for p in form.layer if p.name in wanted and not is_given(p)], options.source)
    if told and not options.allow_missing:
        raise InputError(f"{told} in {options.prototxt}; name the layers alike, or give --allow-missing")
    if told:
        warn(f"{told} in {options.prototxt}")
    return net


def _check_fit(layer: LayerGeometry, held: Sequence[Sequence[int]], options: argparse.Namespace) -> None:
    """Refuse weights that the net to be stored with them could not take."""
    for i, (parameter, shape) in enumerate(zip(layer.parameters, held)):
        if math.prod(shape) and math.prod(shape) != math.prod(parameter.shape):
            there, here = (" x ".join(map(str, sides)) for sides in (shape, parameter.shape))
            raise InputError(
                f"{options.source}: layer '{layer.name}', parameter {i}: {there} there, {here} in"
                f" {options.prototxt}; give the net of these weights, if need be in its deploy form"
            )


@guarded("fcnlite convert")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = _parser().parse_args(arguments)
    _check_paths(options.source, options.target)
    refuse_overwrite([options.prototxt] if options.prototxt else [], [options.target])
    report = ""
    watch = partial(_with_bar, source=options.source)
    if options.classifier_to_fcn:
        if _is_state(options.target):
            raise InputError("--classifier-to-fcn goes with weights, not with a solver state; leave it out")
        # Nets and layers are needed for this alone; plain conversions need neither them nor a compiler.
        from fcnlite.convolutionalise import convert_classifier

        report = convert_classifier(options.source, options.target, options.prototxt, watch)
    elif options.target.suffix.lower() == ".onnx":
        from fcnlite.commands import export

        prototxt = ["--prototxt", str(options.prototxt)] if options.prototxt else []
        return export.main([str(options.source), str(options.target), *prototxt])
    elif not _is_state(options.target):
        convert_weights(options.source, options.target, _net_of(options), watch)
    elif options.prototxt is None:
        convert_state(options.source, options.target)
    else:
        raise InputError("--prototxt goes with weights, not with a solver state; leave it out")
    if report:
        print(report)
    print(f"{options.target}: {tqdm.format_sizeof(options.target.stat().st_size, 'B')}")
    return 0
