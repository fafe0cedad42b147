"""`fcnlite inspect`: any of Caffe's files, or a net of the catalogue, as tables or JSON."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from fcnlite import models
from fcnlite.commands.options import Parser, add_stage_option, guarded, image_size
from fcnlite.describe import by, describe
from fcnlite.layers.python import allow_python_layers
from fcnlite.tables import headed

_HELP = """\
Show what is in a file of Caffe's, or what a net of the catalogue is made of:

  .prototxt                 a net: every layer at a given input size; or a solver: its settings
  .caffemodel, .h5          weights: the net they belong to, if the file says or it is one of the catalogue's,
                            with the shapes that are in the file; otherwise names and shapes
  .solverstate, .solverstate.h5   where a training run stands
  .binaryproto, .npy        an array, such as a mean: its shape, range and means
  an LMDB, or its data.mdb  the records: how many, their keys, shapes, formats and labels
  .h5 of data               its data sets, as HDF5Data reads them: shapes, ranges, and which classes its labels have
  a list of data            of .h5 files, of images with labels, of windows: how many, and which files are missing
  fcn8s, vgg16, ...         a net of the catalogue (--classes and --width change it)

A net whose layers fetch their data is shown at the size of what they fetch first: of an LMDB, of .h5 files, of
listed images, of the original experiments' data sets. Where that is not there, --size tells it.

columns of a net (in 80 columns, or the terminal's, sizes are shortened and weights,
pad and stride left out as needed; COLUMNS=200 makes room, --json has all):
  output        size of the layer's first output, channels x height x width
  weights       shape of its weights (a bias comes beside them); in brackets if they do not learn
  parameters    how many numbers it has; in brackets, too, where the column of weights is left out
  multiply-adds of one forward pass
  field         side of the receptive field: the input pixels that one output value sees
  stride        input pixels between neighbouring outputs
  pad           input pixels by which the first output's field lies outside the image
"""

_SHOWN = 8  # channels whose means are printed
_EXAMPLES = """\
examples:
  fcnlite inspect fcn8s --size 500x334
  fcnlite inspect voc-fcn8s/train.prototxt --size 500x500 --phase TRAIN
  fcnlite inspect fcn8s-heavy-pascal.caffemodel --json | jq .totals
  fcnlite inspect snapshot/train_iter_4000.solverstate
  fcnlite inspect examples/imagenet/ilsvrc12_train_lmdb

nets of the catalogue:
"""


def render(described: Mapping[str, Any]) -> str:
    """Return the description as text, tables first to last line."""
    writers = {
        "net": _render_net,
        "weights": _render_weights,
        "solver": _render_solver,
        "solver state": _render_state,
        "array": _render_array,
        "database": _render_database,
        "rows": _render_rows,
        "list": _render_list,
    }
    return "\n".join(writers[described["kind"]](described))


def _render_net(described: Mapping[str, Any]) -> list[str]:
    total = described["totals"]
    inputs = ", ".join(f"{name} {by(shape)}" for name, shape in described["inputs"].items())
    lines = [f"{described['name']}: {inputs}", "", *_net_table(described["layers"]), ""]
    fixed = f", and {total['fixed_parameters']:,} fixed" if total["fixed_parameters"] else ""
    lines += [
        f"{total['parameters']:,} learned parameters{fixed} ({_bytes(total['parameter_bytes'])})",
        f"{total['conv_layers']} layers of weights deep, receptive field {total['receptive_field']},"
        f" stride {total['max_stride']} (ahead of upsampling)",
        f"{_units(total['multiply_adds'])} multiply-adds forward; blobs {_bytes(total['blob_bytes'])} in all,"
        f" {_bytes(total['peak_blob_bytes'])} at once",
        "(as float32, and where each blob is freed after its last use)",
    ]
    if "weights" in described:
        differences = [f"differs: {difference}" for difference in described["differences"]]
        lines += differences or [f"the weights in {described['weights']} fit this net"]
    return lines


_HEADER = ("layer", "type", "output", "weights", "parameters", "multiply-adds", "field", "stride", "pad")
_SHORT = {"parameters": "params", "multiply-adds": "macs"}
_SPARED = ("", "weights", "pad", "stride")  # columns that go, one after another, where a table is too wide


def _net_table(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The layers as a table that fits the terminal's width, if leaving out spaces, digits and columns can make it."""
    width = shutil.get_terminal_size().columns
    lines = headed(_HEADER, [_row(layer) for layer in layers], left=4)
    rows = [_short_row(layer) for layer in layers]
    header, left_out = list(_HEADER), ""
    for column in _SPARED:
        if max(map(len, lines)) <= width:
            break
        if column:
            at = header.index(column)
            header, rows = header[:at] + header[at + 1 :], [row[:at] + row[at + 1 :] for row in rows]
            left_out += f", {column}" if left_out else column
        lines = headed(
            [_SHORT.get(word, word) for word in header], rows, left=4 if "weights" in header else 3
        )
    return [*lines, "", f"left out for lack of width: {left_out} (--json has all)"] if left_out else lines


def _short_row(layer: Mapping[str, Any]) -> list[str]:
    """A row in fewer characters; the number of parameters stands in brackets where they do not learn."""
    name, kind, output, weights, count, *others = (cell.replace(" x ", "x") for cell in _row(layer))
    count = _units(layer["parameter_count"]) if count else ""
    return [
        name,
        kind,
        output,
        weights,
        f"({count})" if weights.startswith("(") and count else count,
        *others,
    ]


def _row(layer: Mapping[str, Any]) -> list[str]:
    in_place = layer["tops"] and layer["tops"][:1] == layer["bottoms"][:1]
    shape = layer["shapes"][0] if layer["shapes"] else []
    weights = layer["parameters"][0] if layer["parameters"] else None
    shown = "" if weights is None else by(weights["shape"])
    return [
        layer["name"],
        layer["type"],
        "in place" if in_place else by(shape[1:] if len(shape) > 1 else shape) or "one number",
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
            ", ".join(by(parameter["shape"]) for parameter in layer["parameters"]),
            f"{layer['parameter_count']:,}",
        ]
        for layer in described["layers"]
    ]
    total = described["totals"]
    return [
        f"{described['name']}: weights alone ({described['problem']})",
        "",
        *headed(["layer", "shapes", "parameters"], rows, left=2),
        "",
        f"{total['parameters']:,} parameters ({_bytes(total['parameter_bytes'])} as float32)",
    ]


def _render_solver(described: Mapping[str, Any]) -> list[str]:
    rows = [
        [name, ", ".join(v) if isinstance(v, list) else str(v)] for name, v in described["settings"].items()
    ]
    return [f"{described['name']}: solver", "", *headed(["setting", "value"], rows, left=2)]


def _render_state(described: Mapping[str, Any]) -> list[str]:
    history = described["history"]
    return [
        f"{described['name']}: solver state after {described['iter']:,} iterations",
        f"step of the learning rate: {described['current_step']}",
        f"weights: {described['learned_net'] or 'not named'}",
        f"history: {len(history)} arrays, {described['totals']['history_values']:,} values",
        *[f"  {i}: {by(shape)}" for i, shape in enumerate(history)],
    ]


def _render_array(described: Mapping[str, Any]) -> list[str]:
    lines = [f"{described['name']}: an array {by(described['shape'])}, {described['values']:,} values"]
    if described["values"]:
        lines.append(f"from {described['least']:g} to {described['most']:g}")
        means = ", ".join(f"{mean:.6g}" for mean in described["means"][:_SHOWN])
        more = ", .." if described["means"][_SHOWN:] else ""
        lines.append(f"means of the last two axes: {means}{more}")
    return lines


def _render_database(described: Mapping[str, Any]) -> list[str]:
    count, seen = described["records"], described["looked_at"]
    lines = [f"{described['name']}: an LMDB of {count:,} records ({_bytes(described['bytes'])})"]
    if count:
        lines.append(f"keys from {described['first_key']} to {described['last_key']}")
    if seen < count:
        lines.append(f"of the first {seen:,} records:")
    for shape in described["shapes"][:_SHOWN]:
        lines.append(f"  {by(shape['shape'])}: {shape['count']:,} records")
    if more := described["shapes"][_SHOWN:]:
        lines.append(f"  and {len(more):,} other shapes: {sum(shape['count'] for shape in more):,} records")
    if described["formats"]:
        lines.append("kept as " + ", ".join(f"{kind} ({n:,})" for kind, n in described["formats"].items()))
    return [*lines, *_labels(described["labels"])]


def _labels(labels: Mapping[str, Any] | None) -> list[str]:
    if labels is None:
        return []
    return [
        f"labels from {labels['least']:g} to {labels['most']:g}, {labels['different']:,} different"
        if labels["different"] > 1
        else f"all labels are {labels['least']:g}"
    ]


def _render_rows(described: Mapping[str, Any]) -> list[str]:
    rows = [
        [told["name"], by(told["shape"]), told["dtype"], *_values(told)] for told in described["data_sets"]
    ]
    lines = [f"{described['name']}: rows of data (HDF5)", ""]
    lines += headed(["data set", "shape", "type", "values"], rows, left=4)
    if described["groups"]:
        lines += ["", f"and groups, which HDF5Data does not read: {', '.join(described['groups'])}"]
    return lines


def _values(told: Mapping[str, Any]) -> list[str]:
    """The cell that tells a data set's values."""
    values = told["values"]
    if values is None:
        return [""]
    if values["different"] is not None:
        text = _runs(values["different"])
    elif values["least"] is None:
        text = "none finite"
    else:
        text = f"{values['least']:g} to {values['most']:g}"
    text += ", not-a-numbers among them" if values["not_a_number"] else ""
    some = told["shape"] and told["looked_at"] < told["shape"][0]
    return [f"{text} (first {told['looked_at']:,} rows)" if some else text]


def _runs(numbers: Sequence[int]) -> str:
    """Whole numbers as people write them, `0 to 20, 255`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [f"{first} to {last}" if last > first else f"{first}" for first, last in runs]
    return (
        ", ".join(shown)
        if len(shown) <= _SHOWN
        else f"{numbers[0]} to {numbers[-1]}, {len(numbers)} different"
    )


def _render_list(described: Mapping[str, Any]) -> list[str]:
    held = f"{described['files']:,} {described['of']}"
    if described["of"] == "windows":
        held = f"{described['windows']:,} windows in {described['files']:,} images"
    if described["of"] == "names":
        return [f"{described['name']}: a list of {held}, {described['first']} to {described['last']}"]
    lines = [f"{described['name']}: a list of {held}"]
    labels = described.get("labels")
    if isinstance(labels, str):
        lines.append({"none": "without labels", "images": "with label images"}.get(labels, f"with {labels}"))
    else:
        lines += _labels(labels)
    if described["missing"]:
        lines.append(
            f"{described['missing']:,} of the first {described['looked_for']:,} files are not found from the working"
            f" folder or the list's, such as {described['first_missing']} (a layer's root_folder comes before names)"
        )
    first = described["first"]
    if first and first.get("kind") == "rows":
        return [*lines, "", *_render_rows(first)]
    return (
        [*lines, f"first: {first['name']}, {first['height']} x {first['width']}, {first['mode']}"]
        if first
        else lines
    )


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


def _parser() -> argparse.ArgumentParser:
    catalogue = "\n".join(f"  {name:<24}{model.summary}" for name, model in models.CATALOGUE.items())
    parser = Parser("fcnlite inspect", description=_HELP, epilog=_EXAMPLES + catalogue)
    parser.add_argument("target", metavar="FILE_OR_NAME", help="a file, or a net of the catalogue")
    parser.add_argument(
        "--size", type=image_size, metavar="HxW", help="input height and width, such as 334x500"
    )
    parser.add_argument(
        "--phase", choices=["TRAIN", "TEST"], help="whose layers of a prototxt (default: TEST)"
    )
    add_stage_option(parser)
    parser.add_argument("--classes", type=int, metavar="N", help="classes of a net of the catalogue")
    parser.add_argument("--width", type=int, metavar="W", help="channels of its first convolution")
    parser.add_argument(
        "--allow-python-layers",
        action="store_true",
        help="run the code of Python layers that a net names, from its folder or sys.path",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    return parser


@guarded("fcnlite inspect")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = _parser().parse_args(arguments)
    if options.allow_python_layers:
        from fcnlite import caffe

        caffe.install()
        allow_python_layers()
    described = describe(
        options.target, options.size, options.phase, options.classes, options.width, options.stage
    )
    print(json.dumps(described, indent=2) if options.json else render(described))
    return 0
