"""A net in text: a line of text, and a table of its layers for terminals and notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fcnlite.proto import TRAIN
from fcnlite.tables import headed

if TYPE_CHECKING:
    from fcnlite.net.core import Net

_HEADER = ("layer", "type", "top", "shape", "parameters")


@dataclass(frozen=True)
class Summary:
    """A table of a net's layers; prints as text, and shows as a table in a notebook.

    Attributes
    ----------
    title : str
        The net in a line.
    rows : sequence of tuple of str
        Of each layer its name, type, tops, their shapes, and the number of its parameters.
    """

    title: str
    rows: Sequence[tuple[str, ...]]

    def __str__(self) -> str:
        return "\n".join([self.title, "", *headed(_HEADER, self.rows, left=4)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        cells = "".join(f"<tr>{_cells('td', row)}</tr>" for row in self.rows)
        head = f"<thead><tr>{_cells('th', _HEADER)}</tr></thead>"
        return f"<p>{html.escape(self.title)}</p><table>{head}<tbody>{cells}</tbody></table>"


def summary(net: Net) -> Summary:
    """The table of a net's layers, with their present shapes; Split layers, which Caffe puts in, are left out."""
    return Summary(one_line(net), list(_rows(net)))


def one_line(net: Net) -> str:
    """A net's class, name, phase, inputs and outputs with their shapes, and size."""
    given, made = (", ".join(_blob(net, name) for name in names) for names in (net.inputs, net.outputs))
    phase = "TRAIN" if net.phase == TRAIN else "TEST"
    count = sum({id(blob): blob.count for blobs in net.params.values() for blob in blobs}.values())
    name = f"'{net.name}', " if net.name else ""
    flow = f"{given or 'its own data'} -> {made or 'nothing'}"
    return f"{type(net).__name__}({name}{phase}: {flow}; {_amount(count)} parameters)"


def _rows(net: Net) -> Iterator[tuple[str, ...]]:
    for node in net.nodes:
        layer = node.layer
        if layer.type == "Split":
            continue
        own = sum(blob.count for blob in net.params.get(layer.name, ()))
        tops = ", ".join(top.name for top in node.tops)
        shapes = ", ".join(_shape(top.shape) for top in node.tops)
        yield layer.name, layer.type, tops, shapes, f"{own:,}" if own else ""


def _blob(net: Net, name: str) -> str:
    return f"{name} {_shape(net.blobs[name].shape)}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "1"


def _amount(count: int) -> str:
    return f"{count / 1e6:.2f} million" if count >= 1_000_000 else f"{count:,}"


def _cells(kind: str, texts: Sequence[str]) -> str:
    return "".join(f"<{kind}>{html.escape(text)}</{kind}>" for text in texts)
