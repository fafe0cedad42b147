"""Describes any of Caffe's files, or a net of the catalogue, as values that JSON can carry.

Of a net: its layers with their shapes, parameters, multiply-adds, memory, receptive fields and strides.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from fcnlite import models
from fcnlite.coord_map import misplaced_crops
from fcnlite.data.files import PICTURE_SUFFIXES, read_text
from fcnlite.describe.data import (
    describe_array,
    describe_database,
    describe_list,
    describe_rows,
    is_npy,
)
from fcnlite.errors import InputError, warn
from fcnlite.geometry import LayerGeometry, measure, properties
from fcnlite.io import iter_weights, read_definition, read_deploy, read_state
from fcnlite.io.hdf5 import is_hdf5
from fcnlite.io.kinds import ARRAY, ROWS, STATE, kind_of
from fcnlite.io.lmdb import is_leveldb, is_lmdb
from fcnlite.proto import (
    TEST,
    TRAIN,
    NetParameter,
    NetState,
    filter_net,
    parse_net,
    read_net,
    read_solver,
    upgrade,
)
from fcnlite.proto.filter import in_stages
from fcnlite.proto.schema import is_repeated
from fcnlite.receptive_field import Field

Shapes = dict[str, list[tuple[int, ...]]]
_SOLVERS_OWN = re.compile(  # fields that a solver has and a net has not
    r"^\s*(base_lr|lr_policy|max_iter|test_iter|snapshot_prefix|solver_mode|((train|test)_)?net(_param)?)\s*[:{]",
    re.M,
)


def describe(
    target: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    phase: str | None = None,
    classes: int | None = None,
    width: int | None = None,
    stages: Sequence[str] = (),
) -> dict[str, Any]:
    """Describe a file or a net of the catalogue.

    Parameters
    ----------
    target : path or str
        A prototxt, `.caffemodel`, HDF5 file, solver state, mean, database or list, or the name of a net.
    size : (int, int), optional
        Height and width of the input, in place of the net's own. Without it, layers that bring data look into their
        files.
    phase : str, optional
        TRAIN or TEST: whose layers of a prototxt (TEST if not given).
    classes, width : int, optional
        Of a net of the catalogue.
    stages : sequence of str
        For the include and exclude rules of a prototxt's layers.

    Returns
    -------
    dict
        JSON-ready. `kind` is "net", "weights", "solver", "solver state", "array" (a binaryproto or NumPy file),
        "database", "rows" (HDF5Data's) or "list"; nets have `layers` and `totals`.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file or net, or it cannot be read.
    """
    path = Path(target)
    if not path.exists():
        return _describe_model(os.fspath(target), size, classes, width)
    if classes is not None or width is not None:
        raise InputError(f"--classes and --width change nets of the catalogue; {path} is a file")
    if path.is_dir() and not (is_lmdb(path) or is_leveldb(path)):
        raise InputError(f"{path}: this is a folder; name a file in it, or a net of the catalogue")
    if path.is_dir() or is_lmdb(path):
        return describe_database(path)
    kind = kind_of(path)
    if kind == STATE or path.suffix.lower() == ".solverstate":
        return _describe_state(path)
    if kind == ROWS:
        return describe_rows(path)
    if kind == ARRAY or is_npy(path):
        return describe_array(path)
    if path.suffix.lower() in (*PICTURE_SUFFIXES, ".mat"):
        kind = "a MATLAB file" if path.suffix.lower() == ".mat" else "a picture"
        raise InputError(f"{path}: {kind} is none of the files of Caffe's; see fcnlite inspect --help")
    if is_hdf5(path) or not _is_text(path):
        return _describe_weights(path, size, phase)
    listed = describe_list(path)
    if listed is not None:
        return listed
    if _SOLVERS_OWN.search(read_text(path)):
        return _describe_solver(path)
    return _describe_net(in_stages(read_net(path), stages), os.fspath(path), size, phase, path.parent)


def _describe_model(
    name: str, size: tuple[int, int] | None, classes: int | None, width: int | None
) -> dict[str, Any]:
    if os.sep in name or Path(name).suffix:
        raise FileNotFoundError(f"{name}: there is no such file")
    net = models.build(name, classes=classes, width=width, size=size, deploy=True)
    return _describe_net(net, name, size, None)


def _describe_net(
    net: NetParameter,
    source: str,
    size: tuple[int, int] | None,
    phase: str | None,
    folder: Path | None = None,
) -> dict[str, Any]:
    try:
        measured = measure(net, size, TRAIN if phase == "TRAIN" else TEST, folder=folder)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    if not measured:
        raise InputError(f"{source}: there is no layer in it for phase {phase or 'TEST'}")
    for crop in misplaced_crops(
        filter_net(upgrade(net), NetState(phase=TRAIN if phase == "TRAIN" else TEST, stage=net.state.stage))
    ):
        warn(f"{source}: {crop}")
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
        return _describe_net(net, source, size, phase, Path(source).parent)
    except InputError:
        if phase is not None:
            raise
        return _describe_net(net, source, size, "TRAIN", Path(source).parent)


def _differences(described: Mapping[str, Any], shapes: Shapes) -> list[str]:
    """Where the parameters in a file are not those of its net; the 1s of old shapes aside."""
    wanted = {
        layer["name"]: [tuple(p["shape"]) for p in layer["parameters"]] for layer in described["layers"]
    }
    found = []
    for name in dict.fromkeys([*wanted, *shapes]):
        ours, theirs = wanted.get(name, []), shapes.get(name, [])
        if [math.prod(shape) for shape in ours] != [math.prod(shape) for shape in theirs]:
            told = " and ".join(by(shape) for shape in theirs) or "nothing"
            expected = " and ".join(by(shape) for shape in ours) or "nothing"
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


def _is_text(path: Path) -> bool:
    """True if a file begins like text; binary messages have control characters among their first bytes."""
    with path.open("rb") as file:
        begin = file.read(4096)
    return not re.search(rb"[\x00-\x08\x0e-\x1f]", begin)


def by(shape: Sequence[int]) -> str:
    """A shape as people write it: `64 x 3 x 3`."""
    return " x ".join(map(str, shape))
