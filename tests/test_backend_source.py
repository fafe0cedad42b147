"""The kernels' parameter lists as read from the source, and the checks a launch makes with them."""

import numpy as np
import pytest

from fcnlite import device
from fcnlite.backend.source import parse_signatures, signature, signatures
from fcnlite.resources import kernels_folder


def test_every_kernel_of_the_folder_is_found():
    text = "".join(path.read_text() for path in kernels_folder().glob("*.cu"))
    assert text.count("\nKERNEL ") == len(signatures())
    assert all(s.parameters[0].name == "width" for s in signatures().values())


def test_parameters_are_read():
    (kernel,) = parse_signatures(
        "KERNEL f(ROWS, int width, const real* in,\n   unsigned short* w, real k) {"
    ).values()
    assert [(p.name, p.ctype, p.pointer) for p in kernel.parameters] == [
        ("width", "int", False),
        ("in", "real", True),
        ("w", "unsigned short", True),
        ("k", "real", False),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("KERNEL f(ROWS, int width, double k) {", "parameter k: type 'double'"),
        ("KERNEL f(ROWS, real k) {", "must be `int width`"),
        ("KERNEL f(ROWS, int width, const real *const in) {", "cannot read the parameter"),
    ],
)
def test_a_parameter_no_launch_can_pass_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_signatures(text)


def test_unknown_kernel_names_the_known():
    with pytest.raises(KeyError, match="relu_forward"):
        signature("relu_fwd")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 0.0, "x"), "3 arguments given, 4 taken"),
        ((4.0, 0.0, "x", "y"), "parameter width: 4.0 is not a 32-bit integer"),
        ((2**31, 0.0, "x", "y"), "parameter width"),
        ((4, "0", "x", "y"), "parameter slope: '0' is not a number"),
        ((4, 0.0, [1.0], "y"), "parameter in: list given"),
        ((4, 0.0, "x64", "y"), "parameter in: dtype float64 given, float32 taken"),
        ((4, 0.0, "x", "ys"), "parameter out: the array is not contiguous"),
    ],
)
def test_a_wrong_argument_names_kernel_and_parameter(arguments, message):
    arrays = {
        "x": np.zeros((2, 4), np.float32),
        "y": np.zeros((2, 4), np.float32),
        "x64": np.zeros((2, 4)),
        "ys": np.zeros((4, 8), np.float32)[::2, ::2],
    }
    given = [arrays.get(a, a) if isinstance(a, str) else a for a in arguments]
    with pytest.raises((TypeError, ValueError), match=f"kernel relu_forward.*{message}"):
        device.use("cpu").launch("relu_forward", 2, *given)
