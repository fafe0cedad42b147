"""Is a model on disk right? By ONNX's own checker, and by what ONNX Runtime computes beside what we compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, helper

from fcnlite import device
from fcnlite.data.dataset import preprocess
from fcnlite.data.notes import Notes
from fcnlite.errors import InputError
from fcnlite.export.onnx.file import Written
from fcnlite.export.onnx.model import Sizes, reshaped
from fcnlite.io.wire import PIECE
from fcnlite.net import Net, argmax_channels
from fcnlite.net.segmenter import check_size

_SIZES = ((75, 101), (110, 83), (64, 96), (128, 96), (160, 224), (256, 320))


@dataclass
class Sample:
    """Inputs of a model and what the net makes of them.

    Attributes
    ----------
    feeds : dict of str to array
        By the model's input names.
    expected : dict of str to array
        Outputs of the net by name, and "labels" of a whole model.
    """

    feeds: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]


def make_samples(net: Net, outputs: list[str], whole: bool, count: int = 2) -> list[Sample]:
    """Pictures of two sizes, where the net takes any, and what the net makes of them.

    They are small, so that a check takes a moment.
    """
    if not net.inputs:
        return [_sample(net, outputs, (), np.random.default_rng(0), whole)]
    first = net.blobs[net.inputs[0]].shape
    sizes: list[tuple[int, ...]] = [first[2:]] * count
    if len(first) == 4 and any(isinstance(n, str) for n in Sizes(net).dims(net.inputs[0])[2:]):
        takes = [size for size in _SIZES if _takes(net, size)][:count]
        sizes = [*takes] or sizes
    draw = np.random.default_rng(0)
    return [_sample(net, outputs, size, draw, whole) for size in sizes]


def _shapes(net: Net, size: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Input shapes for one image of another size, for those inputs that are as large as the first."""
    first = net.blobs[net.inputs[0]].shape if net.inputs else ()
    shapes = {name: net.blobs[name].shape for name in net.inputs}
    return {name: (*s[:2], *size) if s[2:] == first[2:] and len(s) == 4 else s for name, s in shapes.items()}


def _takes(net: Net, size: tuple[int, ...]) -> bool:
    with reshaped(net, _shapes(net, size)) as fits:
        return fits


def _sample(net: Net, outputs: list[str], size: tuple[int, ...], draw: Any, whole: bool) -> Sample:
    notes: Any = getattr(net, "notes", None) or Notes()
    feeds, inputs = {}, {}
    for name, shape in _shapes(net, size).items():
        if len(shape) == 4 and shape[1] == 3:
            image = _picture(draw, *shape[2:])
            batch = np.stack([preprocess(image, notes.mean_bgr, notes.scale)] * shape[0])
            feeds["image" if whole else name] = image if whole else batch
            inputs[name] = batch
        else:
            inputs[name] = feeds[name] = draw.random(shape, np.float32)
    before = {name: net.blobs[name].shape for name in net.inputs}
    expected = {name: np.array(device.current().tonumpy(net.infer(name, **inputs))) for name in outputs}
    if whole:
        expected["labels"] = argmax_channels(device.current().asarray(expected[outputs[0]]))[0]
        check_size(outputs[0], expected["labels"], size)
    net.drop_blobs()
    with reshaped(net, before):
        pass
    return Sample(feeds, expected)


def _picture(draw: Any, height: int, width: int) -> np.ndarray:
    """Coarse coloured blocks under noise, uint8."""
    blocks = draw.integers(0, 200, (-(-height // 16), -(-width // 16), 3))
    coarse = np.kron(blocks, np.ones((16, 16, 1), int))[:height, :width]
    return (coarse + draw.integers(0, 56, (height, width, 3))).astype(np.uint8)


@dataclass
class Difference:
    """The distance of a runtime's outputs from ours.

    Attributes
    ----------
    largest : float
        Largest difference of a score, relative to the largest score.
    pixels : int
        Pixels whose label differs; None if no label map was compared.
    where : str
        The output and place of the largest difference.
    """

    largest: float = 0.0
    pixels: int | None = None
    where: str = ""


def check_structure(written: Written) -> None:
    """Let ONNX's own checker look at the model, shapes included.

    Raises
    ------
    InputError
        It refuses it.
    """
    with _saved(written) as path:
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise InputError(f"the ONNX checker refuses the model: {' '.join(str(error).split())}") from error


def difference_in_runtime(written: Written, samples: list[Sample]) -> Difference:
    """Run the model in ONNX Runtime and compare.

    Weights are compared byte by byte with those on disk; the runtime then gets them as inputs, from where the net has
    them, since it would make a second copy of what it reads itself.
    """
    import onnxruntime

    _compare_weights(written)
    proto = ModelProto()
    proto.CopyFrom(written.model.proto)
    proto.graph.output.extend(written.model.extra)
    weights = {name: np.ascontiguousarray(array) for name, array in written.model.tensors.items()}
    for name, array in weights.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    difference = Difference()
    for sample in samples:
        found = dict(zip(names, session.run(names, sample.feeds | weights)))
        compare(sample.expected, found, difference)
    return difference


def _compare_weights(written: Written) -> None:
    """Raise unless the arrays on disk are those of the model."""
    with open(written.data, "rb") as file:
        for name, array in written.model.tensors.items():
            offset, length = written.places[name]
            file.seek(offset)
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            for start in range(0, length, PIECE):
                if file.read(min(PIECE, length - start)) != flat[start : start + PIECE].tobytes():
                    raise InputError(f"the disk gives back other numbers than were written for '{name}'")


def compare(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], total: Difference) -> None:
    """Add what some outputs differ by to a total."""
    for name, ours in expected.items():
        theirs = found[name]
        if ours.shape != theirs.shape:
            raise InputError(f"output '{name}' has shape {theirs.shape} there, {ours.shape} here")
        if name == "labels":
            total.pixels = (total.pixels or 0) + int((ours != theirs).sum())
            continue
        alike = (ours == theirs) | (
            np.isnan(ours) & np.isnan(theirs)
        )  # infinities and NaN where we have them
        with np.errstate(invalid="ignore"):
            apart = np.where(alike, 0.0, np.abs(ours.astype(np.float64) - theirs))
        scale = float(np.abs(ours).max(initial=0, where=np.isfinite(ours))) or 1.0
        worst = float(apart.max(initial=0)) / scale
        if not worst <= total.largest:  # NaN too
            place = np.unravel_index(int(np.argmax(apart)), ours.shape)
            total.largest, total.where = worst, f"{name}{[int(i) for i in place]}"


class _saved:
    """The skeleton of a model in a file beside its arrays, for the length of a block."""

    def __init__(self, written: Written):
        self.written = written
        self.path: Path = written.data.with_name(written.data.name + ".onnx")

    def __enter__(self) -> Path:
        self.path.write_bytes(self.written.skeleton().SerializeToString())
        return self.path

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
