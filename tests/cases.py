"""Runs a reference case here as it was run in Caffe, and compares arrays by their worst relative error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import fcnlite.random
from fcnlite import device
from fcnlite.net import Net

REFERENCE = Path(__file__).parent / "reference"
sys.path.insert(0, str(REFERENCE))
import rule  # noqa: E402


def names(file: str) -> list[str]:
    """The cases of one reference file."""
    with h5py.File(REFERENCE / file) as f:
        return sorted(f)


def build(case: str, group: Any, force_backward: bool = True) -> Net:
    """The case's net with its parameters and inputs set by the rule."""
    fcnlite.random.set_random_seed(int(group.attrs.get("random_seed", 0)))
    force = force_backward and group.attrs.get("force_backward", True)
    text = ("force_backward: true\n" if force else "") + group.attrs["prototxt"]
    net = Net(text, phase=group.attrs["phase"])
    fill_params(case, net)
    scale = np.float32(group.attrs["input_scale"])
    for name in net.inputs:
        shape = net.blobs[name].shape
        if name.startswith("label"):
            values = rule.label(case, name, shape, int(group.attrs["classes"]))
        else:
            values = rule.image(case, name, shape) * scale
        net.blobs[name].data[...] = device.current().asarray(values)
    return net


def fill_params(case: str, net: Net) -> None:
    """Give every parameter the value that the rule has for its name and shape."""
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            if layer.startswith("scale_"):
                continue
            values = (
                rule.bilinear(blob.shape)
                if layer.startswith("up")
                else rule.weight(case, layer, i, blob.shape)
            )
            blob.data[...] = device.current().asarray(values)


def run(case: str, net: Net) -> None:
    """Forward, then backward from the gradients that the rule has for outputs that are no loss."""
    net.forward()
    losses = {layer.param.top[0] for layer in net.layers if layer.loss_weights}
    net.backward(
        **{name: rule.diff(case, name, net.blobs[name].shape) for name in net.outputs if name not in losses}
    )


def check(file: str, case: str, bound: float) -> None:
    """Run a case of a reference file, compare it and print the worst error."""
    with h5py.File(REFERENCE / file) as reference:
        group = reference[case]
        net = build(case, group)
        run(case, net)
        errors = compare(net, group, bound)
    worst = max(errors, key=lambda name: errors[name])
    print(f"{case}: worst in {worst}: {errors[worst]!r}")


class RelativeError(float):
    """Worst error of an array over the largest magnitude expected.

    Its repr, which a failing assert shows, tells the place.
    """

    place: str

    def __new__(cls, value: float, place: str = "nowhere") -> RelativeError:
        error = super().__new__(cls, value)
        error.place = place
        return error

    def __repr__(self) -> str:
        return f"{float(self):.2e} at {self.place}"


def relative_error(got: Any, expected: Any, scale: float | None = None) -> RelativeError:
    """Largest deviation over the largest magnitude expected (1 if that is 0), with its place.

    A NaN or an infinity in either array is an infinite error.
    """
    got, expected = np.asarray(device.current().tonumpy(got), np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape, f"shape {got.shape}, {expected.shape} expected"
    if got.size == 0:
        return RelativeError(0.0)
    with np.errstate(invalid="ignore"):
        deviation = np.array(np.abs(got - expected))
    deviation[~np.isfinite(deviation)] = np.inf
    worst = np.unravel_index(deviation.argmax(), deviation.shape)
    place = f"{tuple(map(int, worst))}: got {got[worst]:.9g}, expected {expected[worst]:.9g}"
    return RelativeError(deviation[worst] / (scale or np.abs(expected).max() or 1.0), place)


def loss_bound(bound: float) -> float:
    """The bound on a loss over a whole image.

    Caffe's CPU code adds up pixel after pixel. A GPU does not, and is nearer to the true sum, by 9e-4 at 334 x 500.
    """
    return bound if device.current().name == "cpu" else max(bound, 2e-3)


def compare(net: Net, group: Any, bound: float) -> dict[str, RelativeError]:
    """Compare everything the case stores; returns the errors, raises with those beyond the bound and their places."""
    errors = {}
    for kind, find in (
        ("blobs", lambda n: net.blobs[n].data),
        ("blob_diffs", lambda n: net.blobs[n].diff),
    ):
        for name in group.get(kind, ()):
            errors[f"{kind}/{name}"] = relative_error(find(name), group[kind][name][()])
    for kind, find_in in (("param_diffs", lambda b: b.diff), ("params_after", lambda b: b.data)):
        for layer, arrays in group.get(kind, {}).items():
            for i, expected in arrays.items():
                got = find_in(net.params[layer][int(i)])
                errors[f"{kind}/{layer}/{i}"] = relative_error(got, expected[()])
    wrong = {name: error for name, error in errors.items() if not error <= bound}
    assert not wrong, f"beyond {bound}: {wrong}"
    return errors


def check_sharing(net: str) -> None:
    """What each of three processes takes from a net's first layer is what one process takes in its turn."""
    nets = []
    for _ in range(4):
        fcnlite.random.set_random_seed(8)
        nets.append(Net(net, "TRAIN"))
    alone, *sharing = nets
    for rank, shared in enumerate(sharing):
        assert shared.layers[0].take_every(3, rank)
    for begin in (0, 9):
        for each in nets if begin else ():
            each.layers[0].seek(begin)
        for _ in range(2):
            for shared in sharing:
                shared.forward()
                alone.forward()
                for name, blob in alone.blobs.items():
                    expected = device.current().tonumpy(blob.data)
                    np.testing.assert_array_equal(device.current().tonumpy(shared.blobs[name].data), expected)
