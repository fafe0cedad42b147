"""Look into any of Caffe's files, or a net of the catalogue: ``python -m fcnlite.inspect FILE_OR_NAME``.

Layers with their shapes, parameters, multiply-adds, memory, receptive fields and strides, as a table or as
JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from fcnlite import cli, models
from fcnlite.errors import InputError
from fcnlite.geometry import LayerGeometry, measure, properties
from fcnlite.io import iter_weights, read_definition, read_deploy, read_state
from fcnlite.io.hdf5 import is_hdf5, open_hdf5
from fcnlite.proto import TEST, TRAIN, NetParameter, parse_net, read_net, read_solver
from fcnlite.proto.schema import is_repeated
from fcnlite.receptive_field import Field

MODULE = "fcnlite.inspect"
Shapes = dict[str, list[tuple[int, ...]]]

_HELP = """\
Show what is in a file of Caffe's, or what a net of the catalogue is made of:

  .prototxt                 a net: every layer at a given input size; or a solver: its settings
  .caffemodel, .h5          weights: the net they belong to, if the file says or it is one of the catalogue's,
                            with the shapes that are in the file; otherwise names and shapes
  .solverstate, .solverstate.h5   where a training run stands
  fcn8s, vgg16, ...         a net of the catalogue (--classes and --width change it)

columns of a net:
  output        size of the layer's first output, channels x height x width
  weights       shape of its weights (a bias comes beside them); in brackets if they do not learn
  parameters    how many numbers it has
  multiply-adds of one forward pass
  field         side of the receptive field: the input pixels that one output value sees
  stride        input pixels between neighbouring outputs
  pad           input pixels by which the first output's field lies outside the image
"""

_EXAMPLES = """\
examples:
  python -m fcnlite.inspect fcn8s --size 500x334
  python -m fcnlite.inspect voc-fcn8s/train.prototxt --size 500x500 --phase TRAIN
  python -m fcnlite.inspect fcn8s-heavy-pascal.caffemodel --json | jq .totals
  python -m fcnlite.inspect snapshot/train_iter_4000.solverstate

nets of the catalogue:
"""


# What a file holds, as a dict that JSON can carry.


def describe(
    target: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    phase: str | None = None,
    classes: int | None = None,
    width: int | None = None,
) -> dict[str, Any]:
    """Describe a file or a net of the catalogue.

    Parameters
    ----------
    target : path or str
        A prototxt, `.caffemodel`, HDF5 file or solver state, or the name of a net.
    size : (int, int), optional
        Height and width of the input, in place of the net's own.
    phase : str, optional
        TRAIN or TEST: whose layers of a prototxt (TEST if not given).
    classes, width : int, optional
        Of a net of the catalogue.

    Returns
    -------
    dict
        JSON-ready. ``kind`` is "net", "weights", "solver" or "solver state"; nets have ``layers`` and
        ``totals``.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file or net, or it cannot be read.
    """
    path = Path(target)
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; name a file in it, or a net of the catalogue")
    if not path.exists():
        return _describe_model(os.fspath(target), size, classes, width)
    if classes is not None or width is not None:
        raise InputError(f"--classes and --width change nets of the catalogue; {path} is a file")
    if _is_state(path):
        return _describe_state(path)
    if is_hdf5(path) or not _is_text(path):
        return _describe_weights(path, size, phase)
    if re.search(
        r"^\s*(base_lr|lr_policy|train_net|net)\s*:", path.read_text(encoding="utf-8"), re.MULTILINE
    ):
        return _describe_solver(path)
    return _describe_net(read_net(path), os.fspath(path), size, phase)


def _describe_model(
    name: str, size: tuple[int, int] | None, classes: int | None, width: int | None
) -> dict[str, Any]:
    if os.sep in name or Path(name).suffix:
        raise FileNotFoundError(f"{name}: there is no such file")
    net = models.build(name, classes=classes, width=width, size=size, deploy=True)
    return _describe_net(net, name, size, None)


def _describe_net(
    net: NetParameter, source: str, size: tuple[int, int] | None, phase: str | None
) -> dict[str, Any]:
    try:
        measured = measure(net, size, TRAIN if phase == "TRAIN" else TEST)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    if not measured:
        raise InputError(f"{source}: there is no layer in it for phase {phase or 'TEST'}")
    total = properties(measured)
    return {
        "kind": "net",
        "name": net.name or Path(source).name,
        "inputs": {
            name: list(shape)
            for layer in measured
            if not layer.bottoms
            for name, shape in zip(layer.tops, layer.shapes)
        },
        "layers": [_layer(layer) for layer in measured],
        "totals": {
            "conv_layers": total.conv_layers,
            "parameters": total.parameters,
            "fixed_parameters": total.fixed,
            "receptive_field": total.receptive_field,
            "max_stride": total.max_stride,
            "multiply_adds": total.macs,
            "blob_bytes": total.blob_bytes,
            "peak_blob_bytes": total.peak_bytes,
            "parameter_bytes": total.parameter_bytes,
        },
    }


def _layer(layer: LayerGeometry) -> dict[str, Any]:
    return {
        "name": layer.name,
        "type": layer.type,
        "bottoms": list(layer.bottoms),
        "tops": list(layer.tops),
        "shapes": [list(shape) for shape in layer.shapes],
        "parameters": [
            {"shape": list(parameter.shape), "count": parameter.count, "learns": parameter.learns}
            for parameter in layer.parameters
        ],
        "parameter_count": layer.parameter_count,
        "multiply_adds": layer.macs,
        **_field(layer.field),
    }


def _field(field: Field | None) -> dict[str, Any]:
    if field is None:
        return {"receptive_field": None, "stride": None, "padding": None}
    return {
        "receptive_field": list(field.size),
        "stride": [_number(value) for value in field.stride],
        "padding": [_number(value) for value in field.padding],
    }


def _number(value: Fraction) -> int | float:
    return int(value) if value.denominator == 1 else float(value)


def _describe_weights(path: Path, size: tuple[int, int] | None, phase: str | None) -> dict[str, Any]:
    shapes: Shapes = {name: [tuple(a.shape) for a in arrays] for name, arrays in iter_weights(path)}
    problem = "the file does not say its net"
    for net in (_net_in(path), models.recognise(shapes)):
        if net is None:
            continue
        try:
            described = _measured_somehow(net, os.fspath(path), size, phase)
        except InputError as error:
            problem = str(error).removeprefix(f"{os.fspath(path)}: ")  # the name comes first already
        else:
            return described | {"weights": os.fspath(path), "differences": _differences(described, shapes)}
    filled = {name: values for name, values in shapes.items() if values}
    count = sum(math.prod(shape) for values in filled.values() for shape in values)
    return {
        "kind": "weights",
        "name": path.name,
        "problem": f"{problem}; and its layers are those of no net in the catalogue",
        "layers": [
            {
                "name": name,
                "parameters": [{"shape": list(shape), "count": math.prod(shape)} for shape in values],
                "parameter_count": sum(math.prod(shape) for shape in values),
            }
            for name, values in filled.items()
        ],
        "totals": {"parameters": count, "parameter_bytes": 4 * count},
    }


def _net_in(path: Path) -> NetParameter | None:
    """The net that a file of weights says it belongs to."""
    if not is_hdf5(path):
        net = read_definition(path)
        return (
            net if any(layer.type for layer in [*net.layer, *net.layers]) else None
        )  # or weights by name only
    text = read_deploy(path)
    return parse_net(text, f"{path}, attribute 'prototxt'") if text else None


def _measured_somehow(
    net: NetParameter, source: str, size: tuple[int, int] | None, phase: str | None
) -> dict[str, Any]:
    """Describe a net saved with weights: Caffe saves training nets, with layers of TRAIN alone."""
    try:
        return _describe_net(net, source, size, phase)
    except InputError:
        if phase is not None:
            raise
        return _describe_net(net, source, size, "TRAIN")


def _differences(described: Mapping[str, Any], shapes: Shapes) -> list[str]:
    """Where the parameters in a file are not those of its net; the 1s of old shapes aside."""
    wanted = {
        layer["name"]: [tuple(p["shape"]) for p in layer["parameters"]] for layer in described["layers"]
    }
    found = []
    for name in dict.fromkeys([*wanted, *shapes]):
        ours, theirs = wanted.get(name, []), shapes.get(name, [])
        if [math.prod(shape) for shape in ours] != [math.prod(shape) for shape in theirs]:
            told = " and ".join(_by(shape) for shape in theirs) or "nothing"
            expected = " and ".join(_by(shape) for shape in ours) or "nothing"
            found.append(f"{name}: {told} in the file, {expected} in the net")
    return found


def _describe_state(path: Path) -> dict[str, Any]:
    state = read_state(path)
    return {
        "kind": "solver state",
        "name": path.name,
        "iter": state.iter,
        "current_step": state.current_step,
        "learned_net": state.learned_net,
        "history": [list(array.shape) for array in state.history],
        "totals": {"history_values": sum(array.size for array in state.history)},
    }


def _describe_solver(path: Path) -> dict[str, Any]:
    solver = read_solver(path)
    settings = {
        field.name: [str(item) for item in value] if is_repeated(field) else _plain(field, value)
        for field, value in solver.ListFields()
    }
    return {"kind": "solver", "name": path.name, "settings": settings}


def _plain(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    if field.message_type is not None:
        return str(value)
    # A float field holds the nearest float32; 1e-10 is what was meant.
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _is_state(path: Path) -> bool:
    if is_hdf5(path):
        with open_hdf5(path) as file:
            return "iter" in file and "history" in file
    return path.suffix.lower() == ".solverstate"


def _is_text(path: Path) -> bool:
    """Whether a file begins like text; binary messages have control characters among their first bytes."""
    with path.open("rb") as file:
        begin = file.read(4096)
    return not re.search(rb"[\x00-\x08\x0e-\x1f]", begin)


# The same for people.


def render(described: Mapping[str, Any]) -> str:
    """Return the description as text, tables first to last line."""
    writers = {
        "net": _render_net,
        "weights": _render_weights,
        "solver": _render_solver,
        "solver state": _render_state,
    }
    return "\n".join(writers[described["kind"]](described))


def _render_net(described: Mapping[str, Any]) -> list[str]:
    total = described["totals"]
    header = ["layer", "type", "output", "weights", "parameters", "multiply-adds", "field", "stride", "pad"]
    rows = [_row(layer) for layer in described["layers"]]
    inputs = ", ".join(f"{name} {_by(shape)}" for name, shape in described["inputs"].items())
    lines = [f"{described['name']}: {inputs}", "", *_table(header, rows, left=4), ""]
    fixed = f", and {total['fixed_parameters']:,} fixed" if total["fixed_parameters"] else ""
    lines += [
        f"{total['parameters']:,} learned parameters{fixed} ({_bytes(total['parameter_bytes'])})",
        f"{total['conv_layers']} layers of weights deep, receptive field {total['receptive_field']},"
        f" stride {total['max_stride']} (ahead of upsampling)",
        f"{_units(total['multiply_adds'])} multiply-adds forward; blobs {_bytes(total['blob_bytes'])} in all,"
        f" {_bytes(total['peak_blob_bytes'])} at once where each is freed after its last use (float32)",
    ]
    if "weights" in described:
        differences = [f"differs: {difference}" for difference in described["differences"]]
        lines += differences or [f"the weights in {described['weights']} fit this net"]
    return lines


def _row(layer: Mapping[str, Any]) -> list[str]:
    in_place = layer["tops"] and layer["tops"][:1] == layer["bottoms"][:1]
    shape = layer["shapes"][0] if layer["shapes"] else []
    weights = layer["parameters"][0] if layer["parameters"] else None
    shown = "" if weights is None else _by(weights["shape"])
    return [
        layer["name"],
        layer["type"],
        "in place" if in_place else _by(shape[1:] if len(shape) > 1 else shape) or "one number",
        shown if weights is None or weights["learns"] else f"({shown})",
        f"{layer['parameter_count']:,}" if layer["parameter_count"] else "",
        _units(layer["multiply_adds"]) if layer["multiply_adds"] else "",
        _both(layer["receptive_field"]),
        _both(layer["stride"]),
        _both(layer["padding"]),
    ]


def _render_weights(described: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            layer["name"],
            ", ".join(_by(parameter["shape"]) for parameter in layer["parameters"]),
            f"{layer['parameter_count']:,}",
        ]
        for layer in described["layers"]
    ]
    total = described["totals"]
    return [
        f"{described['name']}: weights alone ({described['problem']})",
        "",
        *_table(["layer", "shapes", "parameters"], rows, left=2),
        "",
        f"{total['parameters']:,} parameters ({_bytes(total['parameter_bytes'])} as float32)",
    ]


def _render_solver(described: Mapping[str, Any]) -> list[str]:
    rows = [
        [name, ", ".join(v) if isinstance(v, list) else str(v)] for name, v in described["settings"].items()
    ]
    return [f"{described['name']}: solver", "", *_table(["setting", "value"], rows, left=2)]


def _render_state(described: Mapping[str, Any]) -> list[str]:
    history = described["history"]
    return [
        f"{described['name']}: solver state after {described['iter']:,} iterations",
        f"step of the learning rate: {described['current_step']}",
        f"weights: {described['learned_net'] or 'not named'}",
        f"history: {len(history)} arrays, {described['totals']['history_values']:,} values",
        *[f"  {i}: {_by(shape)}" for i, shape in enumerate(history)],
    ]


def _table(header: list[str], rows: list[list[str]], left: int) -> list[str]:
    """Align columns: the first `left` to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        aligned = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))
        ]
        return "  ".join(aligned).rstrip()

    return [line(header), line(["-" * width for width in widths]), *map(line, rows)]


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _both(pair: Sequence[float] | None) -> str:
    """A value of both axes: once if they agree."""
    if pair is None:
        return ""
    return " x ".join(f"{value:g}" for value in (pair[:1] if pair[0] == pair[1] else pair))


def _units(count: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 1000 * size else f"{count / size:,.0f} {unit}"
    return f"{count:g}"


def _bytes(count: int) -> str:
    return f"{_units(count)}B" if count >= 1000 else f"{count} bytes"


# The command line


def _parser() -> argparse.ArgumentParser:
    catalogue = "\n".join(f"  {name:<24}{model.summary}" for name, model in models.CATALOGUE.items())
    parser = cli.Parser(MODULE, description=_HELP, epilog=_EXAMPLES + catalogue)
    parser.add_argument("target", metavar="FILE_OR_NAME", help="a file, or a net of the catalogue")
    parser.add_argument(
        "--size", type=cli.size, metavar="HxW", help="input height and width, such as 334x500"
    )
    parser.add_argument(
        "--phase", choices=["TRAIN", "TEST"], help="whose layers of a prototxt (default: TEST)"
    )
    parser.add_argument("--classes", type=int, metavar="N", help="classes of a net of the catalogue")
    parser.add_argument("--width", type=int, metavar="W", help="channels of its first convolution")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    return parser


@cli.guarded(MODULE)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = _parser().parse_args(arguments)
    described = describe(options.target, options.size, options.phase, options.classes, options.width)
    print(json.dumps(described, indent=2) if options.json else render(described))
    return 0


if __name__ == "__main__":
    sys.exit(main())
