"""pycaffe's `caffe.draw`: pictures of nets.

They are drawn by Graphviz's program `dot`, which must be installed for other forms than text.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fcnlite.errors import InputError
from fcnlite.io import atomic_path
from fcnlite.proto import NetState, filter_net, upgrade

_COLOURS = {
    "Convolution": "#FF5050",
    "Deconvolution": "#FF5050",
    "Pooling": "#FF9900",
    "InnerProduct": "#CC33FF",
}
_TEXT = ("raw", "dot", "gv")


def net_to_dot(
    caffe_net: Any,
    rankdir: str = "LR",
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> str:
    """A net as text in Graphviz's language: a box a layer, an octagon a blob.

    Parameters
    ----------
    caffe_net : NetParameter
    rankdir : str
        LR, TB or BT: which way it runs.
    label_edges : bool
        Write outputs of convolutions and inner products at their arrows.
    phase : int, optional
        TRAIN or TEST, to leave out the other's layers.
    display_lrm : bool
        Write the learning rate's multipliers into the layers that have weights.
    """
    net = upgrade(caffe_net)
    if phase is not None:
        net = filter_net(net, NetState(phase=phase))
    lines = [f"digraph {_quoted(net.name or 'Net')} {{", f"rankdir={rankdir};"]
    for blob in dict.fromkeys(name for layer in net.layer for name in [*layer.bottom, *layer.top]):
        lines.append(
            f'{_quoted("blob " + blob)} [label={_quoted(blob)}, shape=octagon, fillcolor="#E0E0E0", style=filled];'
        )
    for layer in net.layer:
        lines += _layer(layer, rankdir, label_edges, display_lrm)
    return "\n".join([*lines, "}\n"])


def draw_net(
    caffe_net: Any, rankdir: str, ext: str = "png", phase: int | None = None, display_lrm: bool = False
) -> bytes:
    """A picture of a net in a format of Graphviz's (png, svg, pdf, ...), or its text (raw); see `net_to_dot`.

    Raises
    ------
    InputError
        If Graphviz is not installed, or does not know the format.
    """
    text = net_to_dot(caffe_net, rankdir, phase=phase, display_lrm=display_lrm).encode()
    if ext in _TEXT:
        return text
    program = shutil.which("dot")
    if program is None:
        raise InputError(
            f"drawing a net as {ext} needs Graphviz's program dot, which is not installed; raw gives text"
        )
    done = subprocess.run([program, f"-T{ext}"], input=text, capture_output=True, check=False)
    if done.returncode:
        raise InputError(
            f"Graphviz cannot draw this net as {ext}: {done.stderr.decode(errors='replace').strip()}"
        )
    return done.stdout


def draw_net_to_file(
    caffe_net: Any,
    filename: str | os.PathLike[str],
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Draw a net into a file, in the format that its suffix names; see `net_to_dot`."""
    picture = draw_net(caffe_net, rankdir, Path(filename).suffix.removeprefix("."), phase, display_lrm)
    with atomic_path(filename) as temporary:
        Path(temporary).write_bytes(picture)


def _layer(layer: Any, rankdir: str, label_edges: bool, display_lrm: bool) -> Iterator[str]:
    node = _quoted("layer " + layer.name)
    words = [layer.name, f"({_kind(layer)})", *_window(layer), *(_rates(layer) if display_lrm else ())]
    in_place = list(layer.bottom) == list(layer.top) and len(layer.top) == 1
    colour = "#90EE90" if in_place else _COLOURS.get(layer.type, "#6495ED")
    separator = " " if rankdir in ("TB", "BT") else "\\n"
    label = separator.join(map(_escaped, words))
    yield f'{node} [label="{label}", shape=box, fillcolor="{colour}", style=filled];'
    for blob in layer.bottom:
        yield f"{_quoted('blob ' + blob)} -> {node};"
    outputs = _outputs(layer)
    for blob in layer.top:
        label = f" [label={outputs}]" if label_edges and outputs else ""
        yield f"{node} -> {_quoted('blob ' + blob)}{label};"


def _kind(layer: Any) -> str:
    if layer.type != "Pooling":
        return layer.type
    method = layer.pooling_param.DESCRIPTOR.fields_by_name["pool"].enum_type
    return f"Pooling {method.values_by_number[layer.pooling_param.pool].name}"


def _window(layer: Any) -> list[str]:
    """Kernel, stride and pad of the layers that have such."""
    if layer.type == "Pooling":
        p = layer.pooling_param
        values: tuple[Any, ...] = (p.kernel_size, p.stride, p.pad)
    elif layer.type in ("Convolution", "Deconvolution"):
        p = layer.convolution_param
        values = ((*p.kernel_size, 1)[0], (*p.stride, 1)[0], (*p.pad, 0)[0])
    else:
        return []
    return [f"{name}: {value}" for name, value in zip(("kernel size", "stride", "pad"), values)]


def _rates(layer: Any) -> list[str]:
    """The learning rate's multipliers of the layers that have weights."""
    if layer.type not in ("Convolution", "Deconvolution", "InnerProduct"):
        return []
    return [f"lr mult: {', '.join(f'{spec.lr_mult:g}' for spec in layer.param) or '1'}"]


def _outputs(layer: Any) -> int:
    if layer.type in ("Convolution", "Deconvolution"):
        return layer.convolution_param.num_output
    return layer.inner_product_param.num_output if layer.type == "InnerProduct" else 0


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
