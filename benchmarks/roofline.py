"""Costs of FCNs on a GPU, on paper: arithmetic, memory traffic and launches, layer by layer.

They give a floor of the time on GPUs of record.

    python -m benchmarks.roofline [--net fcn32s fcn16s fcn8s] [--size 500x500] [--gpu A100] [--layers]

fcnlite's own code runs, on a backend that counts instead of computing, so that what is counted is what a GPU would be
asked to do. Traffic is that of the kernels as written: an array a kernel goes through twice counts twice, but no
cache line is counted twice for being shared by neighbours. The floor of a launch is the larger of its arithmetic over
the peak rate and its traffic over the memory's bandwidth.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcnlite import device, models
from fcnlite.backend import Backend
from fcnlite.backend.source import signature
from fcnlite.commands.options import Parser, guarded, image_size
from fcnlite.net import Net
from fcnlite.solver import SGDSolver


@dataclass(frozen=True)
class Gpu:
    """Peak rates from the vendor's data sheet: single precision without tensor cores, and memory."""

    name: str
    teraflops: float
    gigabytes: float  # a second

    def seconds(self, work: Work) -> float:
        """The least time for one launch."""
        return max(2 * work.products / (self.teraflops * 1e12), work.bytes / (self.gigabytes * 1e9))


GPUS = (
    Gpu("K40", 4.29, 288),
    Gpu("V100", 15.7, 900),
    Gpu("A100", 19.5, 1555),
    Gpu("H100", 66.9, 3350),
    Gpu("RTX4090", 82.6, 1008),
)
PROGRAM = "python -m benchmarks.roofline"
PAPER = 0.175  # seconds an image for FCN-8s on a K40 (about; CVPR 2015, Table 3)


@dataclass(frozen=True)
class Work:
    """One launch: which layer asked for it, on which pass, what ran, multiply-adds and bytes."""

    layer: str
    phase: str
    kernel: str
    products: int
    bytes: int


class Counter(Backend):
    """A backend that computes nothing and remembers what it was asked for.

    Its arrays are NumPy's, of which no page is ever touched: whole nets cost hardly any memory.
    """

    name = "paper"
    xp = np
    strip_bytes = whole_bytes = 64 << 20  # as CudaBackend
    strip_depth = 1 << 30
    checks_data = False
    ahead = 1
    fast = False

    def __init__(self, dtype: Any = np.float32):
        self.dtype = np.dtype(dtype)
        self.work: list[Work] = []
        self.where = ("", "")

    def select(self) -> None:
        pass

    def empty(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return np.empty(shape, dtype or self.dtype)

    def zeros(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return np.zeros(shape, dtype or self.dtype)

    def asarray(self, array: Any, dtype: Any = None) -> np.ndarray:
        return np.ascontiguousarray(array, dtype or self.dtype)

    def tonumpy(self, array: np.ndarray) -> np.ndarray:
        return array

    def later(self, scalar: np.ndarray) -> np.ndarray:
        return scalar

    def held_bytes(self) -> int:
        return 0

    def workspace(self, count: int) -> np.ndarray:
        return np.empty(count, self.dtype)

    def launch(self, name: str, rows: int, *arguments: Any) -> None:
        """Count a kernel's traffic."""
        kernel = signature(name)
        kernel.check(rows, arguments, self.dtype, np.ndarray)
        given = {p.name: a for p, a in zip(kernel.parameters, arguments)}
        given["rows"] = rows
        self._note(name, 0, traffic(name, given))

    def parallel(self, count: int, task: Callable[[int], None]) -> None:
        for i in range(count):
            task(i)

    def gemm(self, a: Any, b: Any, out: Any, accumulate: bool = False) -> None:
        """Count a matrix product: its operands once, its result once or, added to, twice."""
        elements = a.size + b.size + out.size * (2 if accumulate else 1)
        self._note("gemm", a.shape[0] * a.shape[1] * b.shape[1], elements * self.dtype.itemsize)

    def row_sums(self, matrix: Any, out: Any, accumulate: bool = False) -> None:
        self._note("row_sums", matrix.size, matrix.nbytes)

    def total(self, array: Any) -> np.ndarray:
        self._note("total", 0, array.nbytes)
        return np.ones(1, self.dtype)

    def channel_blocks(self, channels: int, window: int) -> int:
        return 1

    def synchronize(self) -> None:
        pass

    def _note(self, kernel: str, products: int, traffic: int) -> None:
        self.work.append(Work(*self.where, kernel, products, traffic))


def traffic(name: str, given: dict[str, Any]) -> int:
    """Count the bytes that a kernel reads and writes, by its arguments' names and `rows`.

    Unless `_TRAFFIC` says otherwise, it is one element a lane of each array. Arrays are known by their `itemsize`.
    """
    lanes = given["rows"] * given["width"]
    arrays = {key: a for key, a in given.items() if hasattr(a, "itemsize") and hasattr(a, "shape")}
    if name in _TRAFFIC:
        elements = _TRAFFIC[name](given, lanes)
    else:
        elements = {key: min(a.size, lanes) for key, a in arrays.items()}
    return sum(int(count) * arrays[key].itemsize for key, count in elements.items() if key in arrays)


# Elements for which each array is read and written, by kernel.


def _columns(g: dict[str, Any], lanes: int) -> dict[str, float]:
    """Columns in full, the image once: neighbouring windows meet in the cache."""
    area = g["kernel_h"] * g["kernel_w"]
    return {"col": lanes, "image": min(g["image"].size, lanes / area * g["stride_h"] * g["stride_w"])}


def _col2im(g: dict[str, Any], lanes: int) -> dict[str, float]:
    channels = g["image"].shape[0]
    image = channels * g["image_rows"] * g["in_w"]
    again = channels * max(0, g["fresh_y"] - g["image_y"]) * g["in_w"]
    return {"col": g["col"].size, "image": image + again}


_TRAFFIC: dict[str, Callable[[dict[str, Any], int], dict[str, float]]] = {
    "im2col": _columns,
    "col2im": _col2im,
    "deconvolve_planes": lambda g, n: {"in": g["in"].size, "out": g["out"].size},
    "bias_forward": lambda g, n: {"out": 2 * n},
    "pick_lines": lambda g, n: {"in": g["in"].size, "out": n},
    "sum_lines": lambda g, n: {"in": g["in"].size, "out": n},
    "winograd_out": lambda g, n: {"in": 36 * n, "out": 16 * n},
    "winograd_tiles": lambda g, n: {"in": 16 * n, "out": 36 * n},
    "winograd_weights": lambda g, n: {"weight": 9 * n, "out": 36 * n},
    "add_scaled": lambda g, n: {"in": n, "out": 2 * n},
    "sgd_update": lambda g, n: {"diff": 2 * n, "history": 2 * n, "weight": 2 * n},
    "max_pool_forward": lambda g, n: {"in": g["in"].size, "out": n, "winner": n},
    "max_pool_backward": lambda g, n: {
        "out_diff": g["out_diff"].size,
        "winner": g["out_diff"].size,
        "in_diff": g["in_diff"].size,
    },
    "crop_forward": lambda g, n: {"in": n, "out": n},
    "crop_backward": lambda g, n: {"out_diff": g["out_diff"].size, "in_diff": n},
    "argmax_forward": lambda g, n: {"in": g["in"].size, "out": n},
    "softmax_forward": lambda g, n: {"in": 3 * g["in"].size, "out": g["out"].size},
    "softmax_loss_forward": lambda g, n: {"in": 2 * g["in"].size, "label": n, "loss": n, "valid": n},
    "softmax_loss_backward": lambda g, n: {"in": 3 * g["in"].size, "label": n, "in_diff": g["in"].size},
}


# Nets


@contextmanager
def counting(fast: bool = False) -> Iterator[Counter]:
    """A Counter as the current device."""
    counter = Counter()
    counter.fast = fast
    with device.using(counter):
        yield counter


def count(
    name: str, size: tuple[int, int], train: bool, *, fast: bool = False, **options: Any
) -> tuple[list[Work], float]:
    """Count the work that one image costs.

    Parameters
    ----------
    name : str
        A net of the catalogue.
    size : (height, width)
    train : bool
        A whole iteration with its update, instead of inference.
    fast : bool
        Convolve by Winograd's algorithm.
    **options
        As for `fcnlite.models.build`.

    Returns
    -------
    list of Work, float
        In order, and the seconds that fcnlite's own Python took to ask for it all.
    """
    with counting(fast) as counter:
        net = Net(models.build(name, deploy=not train, **options), phase="TRAIN" if train else "TEST")
        image = np.zeros((1, net.blobs["data"].shape[1], *size), np.float32)
        inputs = {"data": image, **({"label": np.zeros((1, 1, *size), np.float32)} if train else {})}
        solver = SGDSolver("base_lr: 1\nlr_policy: 'fixed'\n", net=net, source=iter(lambda: inputs, None))
        for layer in net.layers:
            for phase in ("forward", "backward"):
                setattr(layer, phase, _noting(counter, (layer.name, phase), getattr(layer, phase)))
        best = float("inf")
        for _ in range(3):
            counter.work, counter.where = [], ("update", "update")
            start = time.perf_counter()
            solver.step() if train else net.infer(data=image)
            best = min(best, time.perf_counter() - start)
        return counter.work, best


def _noting(counter: Counter, where: tuple[str, str], step: Callable[..., None]) -> Callable[..., None]:
    def call(*arguments: Any) -> None:
        before, counter.where = counter.where, where
        step(*arguments)
        counter.where = before

    return call


# Tables


@guarded(PROGRAM)
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables asked for."""
    parser = Parser(PROGRAM, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--net", nargs="+", default=["fcn32s", "fcn16s", "fcn8s"], help="nets of the catalogue"
    )
    parser.add_argument(
        "--size",
        type=image_size,
        default="500x500",
        metavar="HxW",
        help="of the image (default: %(default)s)",
    )
    parser.add_argument("--gpu", nargs="+", choices=[g.name for g in GPUS], help="of these only")
    parser.add_argument("--fast", action="store_true", help="convolve by Winograd's algorithm")
    parser.add_argument("--layers", action="store_true", help="a line a layer, too")
    chosen = parser.parse_args(arguments)
    gpus = [gpu for gpu in GPUS if not chosen.gpu or gpu.name in chosen.gpu]
    for net in chosen.net:
        for train in (False, True):
            work, python = count(net, chosen.size, train, fast=chosen.fast)
            title = f"{net}, {chosen.size[0]} x {chosen.size[1]}, {'a training iteration' if train else 'inference'}"
            _print_table(title, work, gpus, chosen.layers)
            print(
                f"fcnlite's own Python asks for this in {python * 1e3:.0f} ms on this machine, launches not included"
            )
            if net == "fcn8s" and not train:
                print(f"The paper's figure for FCN-8s: {PAPER * 1e3:.0f} ms on a K40")
    return 0


def _print_table(title: str, work: list[Work], gpus: Sequence[Gpu], layers: bool) -> None:
    print(f"\n{title}: least milliseconds")
    print(f"{'':34}{'launches':>9}{'G mult-add':>12}{'MB':>9}" + "".join(f"{gpu.name:>9}" for gpu in gpus))
    if layers:
        for key, part in _grouped(work, lambda w: f"{w.layer} {w.phase}").items():
            _print_line(key, part, gpus)
        print()
    for key, part in _grouped(work, lambda w: f"{w.phase}: {w.kernel}").items():
        _print_line(key, part, gpus)
    _print_line("all", work, gpus)


def _print_line(name: str, work: list[Work], gpus: Sequence[Gpu]) -> None:
    products, traffic = sum(w.products for w in work), sum(w.bytes for w in work)
    times = "".join(f"{1e3 * sum(map(gpu.seconds, work)):9.2f}" for gpu in gpus)
    print(f"{name:34}{len(work):9}{products / 1e9:12.2f}{traffic / 1e6:9.0f}{times}")


def _grouped(work: list[Work], key: Callable[[Work], str]) -> dict[str, list[Work]]:
    groups: dict[str, list[Work]] = defaultdict(list)
    for item in work:
        groups[key(item)].append(item)
    return groups


if __name__ == "__main__":
    sys.exit(main())
