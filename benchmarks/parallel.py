"""Scaling of training over processes: measured here with one and two, and predicted for many by a model.

    python -m benchmarks.parallel                      measure, check the model, print the table
    python -m benchmarks.parallel --no-measure --plot docs/parallel.png

The model has four parameters: the time of a pass, layer by layer; the bytes of each parameter; a network's latency;
its bandwidth. A sum over N processes takes the shorter of a ring, 2 (N - 1) (latency + bytes / N / bandwidth), and a
double tree, 2 log2(N) latency + 2 bytes / bandwidth. Each parameter's sum begins when the last pass has computed its
gradient, after those before it. On GPUs it runs beside what is left of the pass; on a CPU, whose cores it needs, after.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.roofline import GPUS, Gpu, count, counting
from fcnlite import device, models
from fcnlite.commands.options import Parser, guarded
from fcnlite.net import Net
from fcnlite.parallel import World, world
from fcnlite.solver import SGDSolver

PROGRAM = "python -m benchmarks.parallel"
SIZE = (500, 500)
RANKS = (4, 8, 16, 32, 64, 128, 256)
NET, WIDTH, HERE = "fcn8s", 16, (96, 128)  # what is measured here: sums that matter beside short passes
REPEATS = 5
PASSES = 8  # of the update for which sums in order are measured
KEPT_APART = tuple(
    1 << power for power in range(10, 25, 2)
)  # bytes of a parameter's gradients, all passes together


@dataclass(frozen=True)
class Network:
    """A network between processes."""

    name: str
    latency: float  # seconds a message
    bandwidth: float  # bytes a second and direction

    def sum_seconds(self, ranks: int, size: float) -> float:
        """The time in which all processes have the sum of an array."""
        if ranks == 1:
            return 0.0
        ring = 2 * (ranks - 1) * (self.latency + size / ranks / self.bandwidth)
        tree = 2 * math.ceil(math.log2(ranks)) * self.latency + 2 * size / self.bandwidth
        return min(ring, tree)


# Latencies of a message between two GPUs or hosts, and the vendors' bandwidths of one direction.
NETWORKS = (
    Network("10 GbE", 20e-6, 1.25e9),
    Network("100 GbE", 5e-6, 12.5e9),
    Network("NVLink", 3e-6, 450e9),
)


@dataclass(frozen=True)
class Pass:
    """One pass over an image.

    Attributes
    ----------
    seconds : float
        Forward and backward.
    steps : list of (seconds, bytes)
        Each layer's time backward, in that order, and the bytes of the parameters whose gradients it completes.
    update : float
        Seconds of the update behind the passes.
    """

    seconds: float
    steps: list[tuple[float, int]]
    update: float

    @property
    def bytes(self) -> int:
        """All parameters' bytes."""
        return sum(size for _, size in self.steps)


def update_seconds(
    cost: Pass, ranks: int, iter_size: int, network: Network, beside: bool = True, shrink: float = 1.0
) -> float:
    """The time of an update.

    Parameters
    ----------
    cost : Pass
    ranks, iter_size : int
    network : Network
    beside : bool
        Sums run beside the computation; otherwise after it.
    shrink : float
        What gradients are made smaller by before they are sent: 0.5 for 16 bits.
    """
    passes = iter_size / ranks * cost.seconds
    if not beside:
        sums = sum(network.sum_seconds(ranks, size * shrink) for _, size in cost.steps if size)
        return passes + sums + cost.update
    now = busy = 0.0
    for seconds, size in cost.steps:
        now += seconds
        if size:
            busy = max(busy, now) + network.sum_seconds(ranks, size * shrink)
    return passes + max(0.0, busy - now) + cost.update


def efficiency(cost: Pass, ranks: int, iter_size: int, network: Network, **how: Any) -> float:
    """Share of the processes' time that one process would need for the same update."""
    alone = iter_size * cost.seconds + cost.update
    return alone / ranks / update_seconds(cost, ranks, iter_size, network, **how)


@cache
def on_paper(net: str, gpu: Gpu) -> Pass:
    """A pass of a net on a GPU at its least time (`benchmarks.roofline`)."""
    work, _ = count(net, SIZE, train=True)
    with counting():
        params = Net(models.build(net), phase="TRAIN").params
    sizes = {layer: sum(4 * blob.count for blob in blobs) for layer, blobs in params.items()}
    backward: dict[str, float] = {}
    seconds = update = 0.0
    for item in work:
        taken = gpu.seconds(item)
        if item.phase == "update":
            update += taken
            continue
        seconds += taken
        if item.phase == "backward":
            backward[item.layer] = backward.get(item.layer, 0.0) + taken
    return Pass(seconds, [(taken, sizes.get(layer, 0)) for layer, taken in backward.items()], update)


# Measured here


class _Clock:
    """Runs a net's layers and notes how long each takes backward."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self.steps: list[tuple[str, float]] = []

    def forward(self, node: Any) -> None:
        self._net.forward_node(node)

    def backward(self, node: Any) -> None:
        begun = time.perf_counter()
        node.backward()
        self.steps.append((node.layer.name, time.perf_counter() - begun))


def measure() -> None:
    """In each process that `mpiexec` started, pinned to a core of its own: print what is measured as JSON."""
    here = world()
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[here.rank]})
    device.use("cpu", threads=1)
    net = Net(models.build(NET, width=WIDTH), phase="TRAIN")
    inputs: dict[str, Any] = {
        "data": np.zeros((1, 3, *HERE), np.float32),
        "label": np.zeros((1, 1, *HERE), np.float32),
    }
    solver = SGDSolver(
        "base_lr: 1e-12\nlr_policy: 'fixed'\niter_size: 2\n",
        net=net,
        source=iter(lambda: inputs, None),
        world=here,
    )
    passes = _least(lambda: net.forward_backward(**inputs), here)
    clock = _Clock(net)
    net.forward_backward(runner=clock, **inputs)
    updates = _least(solver.apply_update, here)
    sizes = {layer: sum(4 * blob.count for blob in blobs) for layer, blobs in net.params.items()}
    steps = [(seconds, sizes.get(layer, 0)) for layer, seconds in clock.steps]
    small, large = np.zeros(1, np.float32), np.zeros(1 << 23, np.float32)
    found = {
        "pass": passes,
        "steps": steps,
        "update": updates,
        "iteration": _least(solver.step, here),
        "small": _least(lambda: here.sum(small), here),
        "large": _least(lambda: here.sum(large), here),
        "bytes": large.nbytes,
        "in order": [in_order_seconds(size, here) for size in KEPT_APART] if here.size > 1 else [],
    }
    if here.leads:
        print(json.dumps(found))


def in_order_seconds(size: int, here: World) -> tuple[float, float]:
    """The times of a parameter's sum, and of exchanging and adding `size` bytes of its gradients by pass."""
    gradients = np.zeros((PASSES, size // (4 * PASSES)), np.float32)

    def in_order() -> None:
        total = np.zeros_like(gradients[0])
        for gradient in here.sum(gradients):
            total += gradient

    return _least(lambda: here.sum(gradients[0]), here), _least(in_order, here)


def _least(step: Any, here: Any) -> float:
    """The least seconds of a step, begun by all processes at once; the slowest process counts."""
    best = math.inf
    for _ in range(REPEATS):
        here.any(False)
        begun = time.perf_counter()
        step()
        taken = time.perf_counter() - begun
        best = min(best, max(here.gather(taken)))
    return best


def run(ranks: int) -> dict[str, Any]:
    """Measure with so many processes."""
    launcher = shutil.which(
        "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    if launcher is None:
        raise FileNotFoundError("mpiexec is not installed: pip install 'fcnlite[mpi]'")
    words = [launcher, "-n", str(ranks), sys.executable, "-m", "benchmarks.parallel", "--in-each"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def check_here() -> None:
    """Measure one and two processes, and compare the model with them."""
    one, two = run(1), run(2)
    latency = two["small"] / 2
    network = Network("this machine", latency, two["bytes"] / (two["large"] - two["small"]))
    cost = Pass(two["pass"], [tuple(step) for step in two["steps"]], two["update"])
    predicted = update_seconds(cost, 2, 2, network, beside=False)
    print(
        f"{NET} of width {WIDTH}, image {HERE[0]} x {HERE[1]}, iter_size 2, {cost.bytes / 1e6:.1f} MB of parameters"
    )
    print(f"{'':28}{'1 process':>12}{'2 processes':>14}")
    for name, key in (("a pass", "pass"), ("the update alone", "update"), ("an iteration", "iteration")):
        print(f"{name:28}{1e3 * one[key]:9.1f} ms{1e3 * two[key]:11.1f} ms")
    print(f"a sum: latency {1e6 * latency:.0f} us, {network.bandwidth / 1e9:.1f} GB/s")
    print(f"a parameter's gradients of {PASSES} passes: one sum / all exchanged, and added in order")
    for size, (summed, in_order) in zip(KEPT_APART, two["in order"]):
        print(f"{size / 1024:9.0f} KiB{1e6 * summed:12.0f} us{1e6 * in_order:12.0f} us")
    ratio = one["iteration"] / two["iteration"]
    print(f"two processes are {ratio:.2f} times as fast as one: efficiency {ratio / 2:.0%}")
    off = predicted / two["iteration"] - 1
    print(f"the model predicts {1e3 * predicted:.1f} ms an iteration of two processes: {off:+.0%}")


# On paper


def by_helps(cost: Pass, network: Network, iter_size: int) -> Iterator[tuple[str, list[float], str]]:
    """Names, efficiencies by number of GPUs, and line styles: without and with what helps."""
    for more, shrink, style in ((1, 1.0, "-"), (1, 0.5, ":"), (4, 1.0, "--"), (4, 0.5, "-.")):
        name = network.name + ", 16 bits" * (shrink < 1) + f", iter_size {more * iter_size}" * (more > 1)
        yield (
            name,
            [efficiency(cost, n, max(n, more * iter_size), network, shrink=shrink) for n in RANKS],
            style,
        )


def table(net: str, gpu: Gpu, iter_size: int) -> str:
    """Efficiency by network and number of GPUs; iter_size is at least the number of GPUs."""
    cost = on_paper(net, gpu)
    lines = [
        f"{net} at {SIZE[0]} x {SIZE[1]} on {gpu.name}, {1e3 * cost.seconds:.1f} ms a pass at least, "
        f"{cost.bytes / 1e6:.0f} MB of gradients; efficiency",
        f"{'GPUs':36}" + "".join(f"{ranks:>7}" for ranks in RANKS),
    ]
    for network in NETWORKS:
        for name, shares, _ in by_helps(cost, network, iter_size):
            lines.append(f"{name:36}" + "".join(f"{share:7.0%}" for share in shares))
    return "\n".join(lines)


def reach(net: str, gpu: Gpu, network: Network, iter_size: int, goal: float = 0.9) -> str:
    """Up to how many GPUs an efficiency is kept, and which iter_size keeps it on 64."""
    cost = on_paper(net, gpu)

    def enough(shrink: float) -> int:
        sizes = range(64, 64 * 10000, 64)
        return next(k for k in sizes if efficiency(cost, 64, k, network, shrink=shrink) >= goal)

    kept = [n for n in (1, 2, *RANKS) if efficiency(cost, n, max(n, iter_size), network) >= goal]
    return (
        f"{network.name}, iter_size {iter_size}: {goal:.0%} up to {max(kept)} GPUs; "
        f"on 64 from iter_size {enough(1.0)} on, with 16 bits from {enough(0.5)} on"
    )


def plot(path: Path, net: str, gpus: Sequence[Gpu], iter_size: int) -> None:
    """Draw efficiency over the number of GPUs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(gpus) + 2, 3.4), layout="constrained")
    for axes, gpu in zip(figure.subplots(1, len(gpus), sharey=True, squeeze=False)[0], gpus):
        cost = on_paper(net, gpu)
        for network, colour in zip(NETWORKS, ("tab:red", "tab:blue", "tab:green")):
            for name, shares, style in by_helps(cost, network, iter_size):
                axes.plot(RANKS, shares, style, color=colour, label=name)
        axes.set(xscale="log", xticks=RANKS, xticklabels=RANKS, ylim=(0, 1.02), xlabel="GPUs", title=gpu.name)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("efficiency")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    figure.savefig(path, dpi=110)


@guarded(PROGRAM, together=True)
def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is asked for."""
    parser = Parser(PROGRAM, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--net", default="fcn8s", help="of the catalogue, for the table (default: %(default)s)"
    )
    parser.add_argument("--gpu", nargs="+", default=["A100", "H100"], choices=[g.name for g in GPUS])
    parser.add_argument(
        "--iter-size", type=int, default=64, metavar="N", help="images an update (default: %(default)s)"
    )
    parser.add_argument("--no-measure", action="store_true", help="print the table alone")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the efficiencies, too")
    parser.add_argument("--in-each", action="store_true", help="what the processes that this starts are told")
    options = parser.parse_args(arguments)
    if options.in_each:
        measure()
        return 0
    if not options.no_measure:
        check_here()
    gpus = [gpu for gpu in GPUS if gpu.name in options.gpu]
    for gpu in gpus:
        print(f"\n{table(options.net, gpu, options.iter_size)}")
        print(reach(options.net, gpu, NETWORKS[1], options.iter_size))
    if options.plot:
        plot(options.plot, options.net, gpus, options.iter_size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
