"""Nets as ONNX files that compute what Caffe computes, for images of any size, checked before they are kept."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from onnx import TensorProto, ValueInfoProto

from fcnlite.errors import InputError
from fcnlite.export.onnx.check import Difference, check_structure, difference_in_runtime, make_samples
from fcnlite.export.onnx.file import EMBEDDED_MOST, writing
from fcnlite.export.onnx.model import build_model
from fcnlite.export.prediction import for_prediction
from fcnlite.net import Net

WORST = 1e-4  # largest difference, relative to the largest score, at which a file is kept


@dataclass
class Report:
    """Account of a written ONNX file.

    Attributes
    ----------
    inputs, outputs : dict of str to str
        Names with element type and shape; an axis of any size is named.
    difference : Difference or None
        Comparison of ONNX Runtime with fcnlite; None where it is not installed.
    sizes : list of tuple of int
        Shapes of the inputs compared.
    """

    inputs: dict[str, str]
    outputs: dict[str, str]
    difference: Difference | None
    sizes: list[tuple[int, ...]]

    @property
    def verdict(self) -> str:
        """The comparison in words."""
        if self.difference is None:
            return "checked by ONNX's checker; not run, since onnxruntime is not installed"
        sizes = " and ".join(" x ".join(map(str, size)) for size in dict.fromkeys(self.sizes))
        found = f"ONNX Runtime agrees on {sizes}: largest difference {self.difference.largest:.1e} of the largest score"
        pixels = self.difference.pixels
        return found if pixels is None else f"{found}, {pixels} pixel{'s' * (pixels != 1)} with another label"


def write_onnx(
    net: Net,
    path: str | os.PathLike[str],
    *,
    output: str | None = None,
    whole: bool = False,
    licence: str = "",
    force: bool = False,
    most: int = EMBEDDED_MOST,
) -> Report:
    """Write a net as an ONNX file.

    The file appears only after ONNX's checker and, where it is installed, ONNX Runtime have agreed to it: the latter
    runs it on images of two sizes and must give the net's own scores.

    Parameters
    ----------
    net : Net
        Losses and labels are left out.
    path : path
        Over 2 GB the weights go into a file beside it, `path` with ".data" behind it.
    output : str, optional
        The blob to give, the net's outputs by default.
    whole : bool
        From "image", H x W x 3 uint8 RGB, to "labels", H x W: with the mean, the channel order and the argmax inside.
    licence : str
        Kept in the metadata, beside classes, mean and the net's description.
    force : bool
        Keep a file whose scores differ by more than 1e-4 of the largest score.
    most : int
        Bytes of weights from which on they go into a file of their own.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        ONNX cannot express a layer, the net has no such output, or the file is wrong.
    """
    bare = for_prediction(net)
    if output is not None and output not in bare.blobs:
        raise InputError(f"the net has no blob '{output}'; its outputs are {', '.join(bare.outputs)}")
    chosen = output or (_scores(bare) if whole else None)
    model = build_model(bare, chosen, whole, licence)
    samples = make_samples(bare, [chosen] if chosen else list(bare.outputs), whole)
    with writing(path, model, most) as written:
        check_structure(written)
        try:
            difference = difference_in_runtime(written, samples)
        except ImportError:
            difference = None
        if difference and not difference.largest <= WORST and not force:
            raise InputError(
                f"{os.fspath(path)}: not kept, since in ONNX Runtime its scores differ by {difference.largest:.1e} "
                f"of the largest score at {difference.where}; --force keeps it all the same"
            )
    shapes = [each.shape for sample in samples for each in list(sample.feeds.values())[:1]]
    return Report(
        _described(model.proto.graph.input), _described(model.proto.graph.output), difference, shapes
    )


def _scores(net: Net) -> str:
    """The blob with the scores: the net's only output, or "score"."""
    if len(net.outputs) == 1:
        return net.outputs[0]
    if "score" in net.outputs:
        return "score"
    raise InputError(f"the net has the outputs {', '.join(net.outputs)}; say which are the scores")


def _described(values: Iterable[ValueInfoProto]) -> dict[str, str]:
    """Element type and shape of some values by name."""
    told = {}
    for value in values:
        tensor = value.type.tensor_type
        dims = " x ".join(dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)
        told[value.name] = f"{TensorProto.DataType.Name(tensor.elem_type).lower()} {dims}"
    return told
