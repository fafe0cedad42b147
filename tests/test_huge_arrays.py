"""Every kernel on the last rows of arrays of more than 2^31 elements, whose places no 32-bit index reaches.

A launch of tests/kernel_cases.py is repeated, planes after planes, until its arrays are that large, and only the last
planes are computed. The arrays are mapped lazily: memory is taken by the pages that a kernel touches, no more.
"""

from __future__ import annotations

import mmap
from functools import cache
from typing import Any

import kernel_cases
import numpy as np
import pytest
from cuda_semantics import Launch, Library, bits, typed
from kernel_cases import Case

from fcnlite.backend.host import HostBackend
from fcnlite.backend.source import signatures, source

REAL = np.dtype(np.float32)
FAR = 2**31
# Arrays that hold the same for all planes, by kernel ("" stands for all) and parameter.
SHARED = {
    "": "taps_h taps_w geometry gain gain_sums class_weight normaliser row column slope bias begin_y end_y low_y high_y"
    " part_y begin_x end_x low_x high_x part_x",
    "centred_squares": "mean",
    "contrastive_loss_backward": "weight",
    "crop_backward": "out_diff",
    "deconvolve_planes": "weight",
    "euclidean_loss_backward": "weight",
    "gather_backward": "index out_diff",
    "gather_forward": "in",
    "hinge_backward": "weight",
    "l2_normalise_backward": "scale",
    "l2_normalise_forward": "scale",
    "lattice_blur": "before after",
    "lattice_slice": "point weight factor",
    "lattice_splat": "begin source weight",
    "logistic_loss_backward": "weight",
    "normalise_backward": "mean std mean_g mean_gy",
    "normalise_forward": "mean std",
    "normalise_products": "mean std",
    "roi_pool_forward": "in",
    "scale_forward": "factor",
    "sigmoid_loss_backward": "weight",
    "softmax_loss_backward": "weight",
    "infogain_loss_backward": "weight",
}
# Kernels whose rows end where a number or a table says, so that they cannot be repeated.
BOUNDED = {"permute", "roi_pool_backward"}

library = cache(lambda: Library(source(), "float"))
host = cache(lambda: HostBackend(REAL, threads=1))


def shared(case: Case) -> set[str]:
    """The arrays of a case that do not grow with its planes."""
    every = {"winograd_out": ""}.get(case.kernel, SHARED[""])  # whose bias has a number for each row of tiles
    return {*every.split(), *SHARED.get(case.kernel, "").split()}


def period(case: Case, name: str, size: int) -> int:
    """Elements from one repetition of an array to the next: more than it has where rows lie apart."""
    given = {p.name: a for p, a in case.pairs()}
    if case.kernel == "bias_forward":
        return given["channel_stride"] * (case.rows // given["channel_rows"])
    if case.kernel == "copy_run":
        return given[f"{name}_stretch"] * (case.rows // given["run_rows"])
    if case.kernel == "crop_forward" and name == "in":
        images = case.rows // given["out_c"] // given["out_h"]
        return images * given["in_c"] * given["in_h"] * given["in_w"]
    if (case.kernel, name) in (
        ("winograd_tiles", "out"),
        ("winograd_weights", "out"),
        ("winograd_out", "in"),
    ):
        return case.rows * given["width"]
    if (case.kernel, name) == ("winograd_weights", "weight"):
        return case.rows * given["row_step"]
    if name == "label" and case.kernel in ("hinge_margins", "logistic_loss_backward"):
        return case.rows
    return size


class Mapped:
    """An array of which the last elements are `tail`, behind `offset` elements that are mapped but not there.

    Ahead of it lies as much again as an index that has turned negative can reach.
    """

    def __init__(self, tail: np.ndarray, offset: int):
        guard, size = FAR * tail.itemsize, tail.itemsize
        whole = guard + (offset + tail.size) * size
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
        self.map = mmap.mmap(-1, whole + mmap.PAGESIZE, flags)
        every = np.frombuffer(self.map, np.uint8, whole).view(tail.dtype)
        self.tail = every[every.size - tail.size :]
        self.tail[...] = tail
        self.address = every.ctypes.data + guard


def repeated(case: Case, kept: set[str]) -> int:
    """How often to repeat a case so that its large arrays pass 2^31 elements, if the rows allow it."""
    sizes = [a.size for p, a in case.pairs() if isinstance(a, np.ndarray) and p.name not in kept]
    large = [size for size in sizes if 16 * size >= max(sizes)]
    return max(1, min(-(-FAR // min(large)) + 1, (2**31 - 1) // case.rows - 1))


def moved(case: Case, times: int) -> tuple[Any, ...]:
    """Fresh arguments, of which those that count images or items do so from the last repetition on."""
    given, before = {p.name: a for p, a in case.pairs()}, case.rows * (times - 1)
    values = list(case.filled(0xFF))
    for i, (p, _) in enumerate(case.pairs()):
        if (case.kernel, p.name) == ("crop_backward", "off_n"):
            values[i] += before // given["in_c"] // given["in_h"]
        if (case.kernel, p.name) == ("gather_backward", "index"):
            values[i] += before // given["inner_rows"]
    return tuple(values)


def widest(kernel: str) -> Case:
    return max(kernel_cases.cases(kernel, REAL), key=lambda case: case.arguments[0] / case.rows)


@pytest.mark.parametrize("kernel", sorted(signatures().keys() - BOUNDED))
def test_the_last_rows_of_huge_arrays(kernel: str) -> None:
    case = widest(kernel)
    kept = shared(case)
    times = repeated(case, kept)
    expected, given = case.filled(0xFF), moved(case, times)
    host().launch(kernel, case.rows, *expected)
    mapped: dict[int, Mapped] = {}
    values = typed(kernel, case.rows, given, REAL)
    values[:2] = [np.int32(case.rows * (times - 1)), np.int32(case.rows * times)]
    for i, (parameter, a) in enumerate(zip((p for p, _ in case.pairs()), given), 2):
        if a is None:
            values[i] = np.uint64(0)
        elif isinstance(a, np.ndarray):
            offset = 0 if parameter.name in kept else period(case, parameter.name, a.size) * (times - 1)
            mapped[i] = Mapped(a, offset)
            values[i] = np.uint64(mapped[i].address)
    launch = Launch((case.rows,), (8, 1))
    library().run(kernel, launch, [value.tobytes() for value in values])
    for i, array in mapped.items():
        name = case.pairs()[i - 2][0].name
        if kernel_cases.is_constant(kernel, name):
            continue
        same = bits(array.tail) == bits(expected[i - 2])
        assert same.all(), (
            f"{case}: {name} differs at {np.flatnonzero(~same)[:3]} behind {times - 1} repetitions"
        )


def test_an_index_of_32_bits_shows() -> None:
    rows = source().split("#line", 2)[1]
    body = "const real* a = in + r / 2 * 2 * width + r % 2 * width; real* b = out + (size_t)r * width;"
    text = (
        f"#line{rows}\nKERNEL tried(ROWS, int width, const real* in, real* out) {{ FOR_ROWS(r) {{ {body}"
        " FOR_LANES(i, width) b[i] = a[i]; } }"
    )
    wrong = Library(text, "float")
    tail, rows_before, width = np.arange(600, dtype=np.float32), 2**31 // 300 // 2 * 2 + 2, 300
    there, back = (Mapped(array, rows_before * width) for array in (tail, np.zeros_like(tail)))
    values = [np.int32(rows_before), np.int32(rows_before + 2), np.int32(width)]
    addresses = [np.uint64(there.address), np.uint64(back.address)]
    wrong.run("tried", Launch((2,), (8, 1)), [value.tobytes() for value in (*values, *addresses)])
    assert (back.tail != tail).any()
