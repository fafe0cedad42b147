"""Everything to be learnt on a machine with a GPU, in one command: is it right, how fast is it, what holds it up.

    python -m benchmarks.gpu [--out gpu.json]

Runs every reference check on the GPU (kernels against the CPU; layers, nets and training runs against what Caffe
computed), times FCN-8s inference and an FCN-32s training step with events, against PyTorch where it is installed,
sets each kernel's bandwidth against the device's copy rate, tries other strip heights and block shapes, and writes
all of it to one JSON file. Needs a checkout (the references lie in tests/), CuPy and a driver; nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks import fcn8s, roofline
from fcnlite import device, models, set_random_seed
from fcnlite.backend import cuda
from fcnlite.backend.host import HostBackend
from fcnlite.backend.source import signature, signatures
from fcnlite.commands.options import Parser, guarded, image_size, in_one_line
from fcnlite.errors import InputError
from fcnlite.io import write_text
from fcnlite.net import Net
from fcnlite.solver import SGDSolver

PROGRAM = "python -m benchmarks.gpu"
TESTS = Path(__file__).parents[1] / "tests"
BOUNDS = {"kernels": 1e-5, "layers.h5": 1e-5, "nets.h5": 5e-5, "solvers.h5": 5e-5, "full.h5": 1e-4}
STRIPS = (8, 16, 32, 64, 128, 256)  # MB
WARPS = (16, 32, 64, 128, 256)


@guarded(PROGRAM)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts, print them, write the file; status 1 if a check failed."""
    args = _parser().parse_args(arguments)
    backend: Any = device.use(args.device)
    if not isinstance(backend, cuda.CudaBackend):
        raise InputError("no GPU was chosen; --device takes cuda or cuda:N")
    parts: dict[str, Callable[[], Any]] = {
        "device": lambda: _describe_device(backend),
        "checks": lambda: _checks(backend, args),
        "inference": lambda: _time_both(args, train=False),
        "training": lambda: _time_both(args, train=True),
        "kernels": lambda: _kernels(backend, args),
        "strips": lambda: _strips(backend, args),
        "blocks": lambda: _blocks(args),
    }
    report: dict[str, Any] = {}
    for name, part in parts.items():
        if name == "device" or not args.parts or name in args.parts:
            print(f"\n== {name}")
            report[name] = _guarded(part)
    write_text(args.out, json.dumps(report, indent=1) + "\n")
    print(f"\n{args.out} holds all of this")
    failed = [name for name, part in report.items() if isinstance(part, dict) and part.get("failed")]
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROGRAM, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--out", type=Path, default="gpu.json", help="the file to write (default: %(default)s)"
    )
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N (default: %(default)s)")
    parser.add_argument(
        "--size",
        type=image_size,
        default="500x500",
        metavar="HxW",
        help="of the image (default: %(default)s)",
    )
    parser.add_argument("--width", type=int, default=64, help="channels of conv1_1 (default: %(default)s)")
    parser.add_argument("--fc", type=int, help="channels of fc6 and fc7 (default: 64 times as many)")
    parser.add_argument("--runs", type=int, default=20, help="timed runs (default: %(default)s)")
    parser.add_argument("--cases", default="", help="only reference cases whose name holds this")
    parser.add_argument(
        "--parts", nargs="+", help="only these: checks, inference, training, kernels, strips, blocks"
    )
    return parser


def _guarded(part: Callable[[], Any]) -> Any:
    """A part's result; what goes wrong in it is told and does not keep the others from running."""
    try:
        return part()
    except Exception as error:
        traceback.print_exc()
        return {"failed": [f"{type(error).__name__}: {error}"]}


def _describe_device(backend: Any) -> dict[str, Any]:
    runtime = backend.xp.cuda.runtime
    properties = runtime.getDeviceProperties(backend.xp.cuda.Device().id)
    found = {
        "name": properties["name"].decode(),
        "multiprocessors": int(properties["multiProcessorCount"]),
        "memory": int(properties["totalGlobalMem"]),
        "compute_capability": backend.xp.cuda.Device().compute_capability,
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "cupy": backend.xp.__version__,
        "numpy": np.__version__,
    }
    for key, value in found.items():
        print(f"{key:20}{value}")
    return found


# Is it right?


def _checks(backend: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The worst relative error of each check, and those beyond their bound."""
    sys.path.insert(0, str(TESTS))
    cases = import_module("cases")
    errors: dict[str, dict[str, float]] = {
        "kernels": {name: _kernel_error(backend, name) for name in signatures()}
    }
    for file, check in (("layers.h5", _net_error), ("nets.h5", _net_error), ("solvers.h5", _solver_error)):
        with h5py.File(cases.REFERENCE / file) as reference:
            found = [case for case in reference if args.cases in case]
            errors[file] = {case: check(cases, case, reference[case]) for case in found}
    errors["full.h5"] = {} if args.cases else _full_errors(cases)
    failed = []
    for part, found_errors in errors.items():
        wrong = [name for name, error in found_errors.items() if not error <= BOUNDS[part]]
        worst = max(found_errors, key=lambda name: found_errors[name], default=None)
        said = f"worst {found_errors[worst]:.1e} at {worst}" if worst else "nothing to check"
        print(
            f"{part:12}{len(found_errors):4} checked, {said}"
            + (f"; FAILED: {', '.join(wrong)}" if wrong else "")
        )
        failed += [f"{part}: {name}" for name in wrong]
    same = sum(error == 0 for error in errors["kernels"].values())
    print(f"{same} of {len(errors['kernels'])} kernels give the CPU's bits")
    return {"errors": errors, "failed": failed}


def _kernel_error(backend: Any, name: str) -> float:
    """The worst error of a kernel against the CPU over the launches of the tests; 0 is equality."""
    host, worst = _host(), 0.0
    for case in import_module("kernel_cases").cases(name, backend.dtype):
        expected, given = case.filled(0xFF), case.filled(0xFF)
        host.launch(name, case.rows, *expected)
        there = [backend.asarray(a, a.dtype) if isinstance(a, np.ndarray) else a for a in given]
        backend.launch(name, case.rows, *there)
        for mine, theirs in zip(there, expected):
            if isinstance(theirs, np.ndarray):
                worst = max(worst, _error(backend.tonumpy(mine), theirs))
    return worst


def _error(got: np.ndarray, expected: np.ndarray) -> float:
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    if not np.array_equal(np.isfinite(got), np.isfinite(expected)):
        return float("inf")
    finite = np.isfinite(expected)
    difference, scale = np.abs(got - expected)[finite], np.abs(expected[finite])
    return float(difference.max() / (scale.max() or 1)) if difference.size else 0.0


@cache
def _host() -> HostBackend:
    return HostBackend(np.dtype(np.float32))


def _net_error(cases: Any, case: str, group: Any) -> float:
    net = cases.build(case, group)
    cases.run(case, net)
    return max(cases.compare(net, group, float("inf")).values())


def _solver_error(cases: Any, case: str, group: Any) -> float:
    """The worst error of losses and final parameters after a whole training run."""
    set_random_seed(int(group.attrs["random_seed"]))
    net = Net(group.attrs["net"], phase="TRAIN")
    cases.fill_params(case, net)
    scale, classes = np.float32(group.attrs["input_scale"]), int(group.attrs["classes"])

    def batches() -> Any:
        t = 0
        while True:
            data = cases.rule.image(case, "data", net.blobs["data"].shape, t) * scale
            yield {
                "data": data,
                "label": cases.rule.label(case, "label", net.blobs["label"].shape, classes, t),
            }
            t += 1

    solver = SGDSolver(group.attrs["solver"], net=net, source=batches())
    worst = 0.0
    for expected in group["loss"]:
        solver.step()
        worst = max(worst, abs(float(net.blobs["loss"].data) / float(expected) - 1))
    for p in net.learnable_params:
        expected = group["params"][p.layer][str(p.index)][()]
        worst = max(worst, cases.relative_error(p.blob.data, expected))
    return worst


def _full_errors(cases: Any) -> dict[str, float]:
    """Full-size scores of a photograph, where the photographs are at hand."""
    errors, image = {}, "2007_000129"
    try:
        data, label = import_module("photos").load(image)
    except (ImportError, OSError) as error:
        print(f"full.h5     not checked: {in_one_line(error)} (set FCNLITE_VOC to a VOC folder)")
        return {}
    with h5py.File(cases.REFERENCE / "full.h5") as file:
        for name in ("fcn8s", "fcn16s", "fcn32s"):
            group = file[f"full-{name}"][image]
            net = Net(models.build(name), phase="TEST")
            cases.fill_params(f"full-{name}", net)
            score = net.infer("score", data=data, label=label)
            expected, scale = group["score_every_7th"][()], group.attrs["score_absmax"]
            errors[name] = cases.relative_error(score[:, :, ::7, ::7], expected, scale=scale)
    return errors


# How fast is it?


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Options of the nets' width."""
    return {"width": args.width, **({"fc": args.fc} if args.fc else {})}


def _make(args: argparse.Namespace, train: bool) -> tuple[Net, Callable[[], Any]]:
    """A net of `fcn8s.fill`, and what runs it once: FCN-8s forward, or an FCN-32s step with its update."""
    net = Net(
        models.build("fcn32s" if train else "fcn8s", deploy=not train, **_options(args)),
        "TRAIN" if train else "TEST",
    )
    fcn8s.fill(net)
    image, label = fcn8s.example(args.size)
    if not train:
        there = device.current().asarray(image)
        return net, lambda: net.infer(data=there)
    text = "base_lr: 1e-14\nlr_policy: 'fixed'\nmomentum: 0.99\nweight_decay: 0.0005\n"
    solver = SGDSolver(text, net=net, source=iter(lambda: {"data": image, "label": label}, None))
    return net, solver.step


def _time_both(args: argparse.Namespace, train: bool) -> dict[str, Any]:
    """Milliseconds here and in PyTorch, and the floor that arithmetic and traffic set on GPUs of record."""
    name = "fcn32s" if train else "fcn8s"
    backend: Any = device.current()
    _, run = _make(args, train)
    found: dict[str, Any] = {
        "net": name,
        "size": args.size,
        "fcnlite": _milliseconds(backend.xp, run, args.runs),
    }
    found["pool_bytes"] = backend.xp.get_default_memory_pool().total_bytes()
    found["same_bits_twice"] = _repeats(args) if train else None
    if found["same_bits_twice"] is False:
        found["failed"] = ["two equal training steps gave different bits"]
    backend.xp.get_default_memory_pool().free_all_blocks()
    work, _ = roofline.count(name, args.size, train, **_options(args))
    found["floors"] = {gpu.name: 1e3 * sum(map(gpu.seconds, work)) for gpu in roofline.GPUS}
    found["torch"] = _torch(args, train)
    what = f"{name}, {args.size[0]} x {args.size[1]}, {'a training step' if train else 'inference'}"
    print(f"{what}: {statistics.median(found['fcnlite']):.2f} ms, {found['pool_bytes'] / 2**20:.0f} MB held")
    if found["torch"]:
        theirs = statistics.median(found["torch"]["milliseconds"])
        ratio = statistics.median(found["fcnlite"]) / theirs
        print(
            f"PyTorch {found['torch']['version']}, no TF32: {theirs:.2f} ms; fcnlite takes {ratio:.2f} of that"
        )
    else:
        print("PyTorch with CUDA is not installed")
    print("floors: " + ", ".join(f"{name} {value:.1f} ms" for name, value in found["floors"].items()))
    return found


def _milliseconds(module: Any, run: Callable[[], Any], runs: int) -> list[float]:
    """Device time of each run by events; `module` is CuPy."""
    for _ in range(min(3, runs)):
        run()
    times = []
    for _ in range(runs):
        begin, end = module.cuda.Event(), module.cuda.Event()
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(float(module.cuda.get_elapsed_time(begin, end)))
    return times


def _repeats(args: argparse.Namespace) -> bool:
    """Tell whether two equal training steps end in the same bits."""
    ends = []
    for _ in range(2):
        set_random_seed(1)
        net, run = _make(args, train=True)
        run()
        ends.append([device.current().tonumpy(p.blob.data) for p in net.learnable_params])
    return all(np.array_equal(a, b) for a, b in zip(*ends))


def _torch(args: argparse.Namespace, train: bool) -> dict[str, Any] | None:
    """The same in PyTorch on the same device, in float32 proper; None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    step = fcn8s.torch_step("fcn32s" if train else "fcn8s", args.size, train, "cuda", **_options(args))
    times = _torch_milliseconds(torch, step, args.runs)
    torch.cuda.empty_cache()
    return {"version": torch.__version__, "milliseconds": times}


def _torch_milliseconds(torch: Any, run: Callable[[], Any], runs: int) -> list[float]:
    for _ in range(min(3, runs)):
        run()
    times = []
    for _ in range(runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(float(begin.elapsed_time(end)))
    return times


# What holds it up?


def _copy_rate(backend: Any, size: int = 256 << 20) -> float:
    """Bytes a second, read and written, of the device's own copy of one large array to another."""
    source, target = backend.zeros(size // 4), backend.zeros(size // 4)
    times = _milliseconds(backend.xp, lambda: target.__setitem__(..., source), 10)
    return 2 * source.nbytes / (min(times) / 1e3)


def _kernels(backend: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Time and bandwidth of every kernel and product in a training step and an inference."""
    rate = _copy_rate(backend, min(256 << 20, 4 << 20 if args.width < 64 else 256 << 20))
    print(f"the device copies {rate / 1e9:.0f} GB/s, read and written")
    totals: dict[str, dict[str, float]] = defaultdict(
        lambda: {"launches": 0, "ms": 0.0, "bytes": 0.0, "products": 0.0}
    )
    for train in (False, True):
        _, run = _make(args, train)
        run()
        with _Timed(backend) as timed:
            run()
        for kernel, work, milliseconds in timed.results():
            total = totals[kernel]
            total["launches"] += 1
            total["ms"] += milliseconds
            total["bytes"] += work.bytes
            total["products"] += work.products
    print(f"{'':26}{'launches':>9}{'ms':>9}{'GB/s':>8}{'of copy':>9}{'TFLOP/s':>9}")
    for kernel, total in sorted(totals.items(), key=lambda item: -item[1]["ms"]):
        seconds = max(total["ms"], 1e-9) / 1e3
        total["bandwidth"], total["of_copy"] = total["bytes"] / seconds, total["bytes"] / seconds / rate
        flops = 2e-12 * total["products"] / seconds
        print(
            f"{kernel:26}{total['launches']:9.0f}{total['ms']:9.2f}{total['bandwidth'] / 1e9:8.0f}"
            f"{total['of_copy']:9.0%}{flops:9.2f}"
        )
    return {"copy_rate": rate, "kernels": dict(totals)}


class _Timed:
    """While active, every launch, product and sum of the backend is timed by events and its traffic counted."""

    names = ("launch", "gemm", "row_sums")

    def __init__(self, backend: Any):
        self.backend = backend
        self._events: list[tuple[str, Any, Any, Any]] = []
        self._depth = 0

    def __enter__(self) -> _Timed:
        for name in self.names:
            setattr(self.backend, name, self._wrapped(name, getattr(self.backend, name)))
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            delattr(self.backend, name)

    def _wrapped(self, method: str, function: Callable[..., None]) -> Callable[..., None]:
        event = self.backend.xp.cuda.Event

        def call(*arguments: Any, **keywords: Any) -> None:
            self._depth += 1
            begin, end = event(), event()
            begin.record()
            function(*arguments, **keywords)
            end.record()
            self._depth -= 1
            if self._depth == 0:
                kernel = arguments[0] if method == "launch" else method
                self._events.append((kernel, self._work(method, arguments, keywords), begin, end))

        return call

    def _work(self, method: str, arguments: Sequence[Any], keywords: dict[str, Any]) -> roofline.Work:
        if method == "launch":
            name, rows, *values = arguments
            given = {p.name: value for p, value in zip(signature(name).parameters, values)}
            return roofline.Work("", "", name, 0, roofline.traffic(name, {**given, "rows": rows}))
        counter = roofline.Counter(self.backend.dtype)
        getattr(counter, method)(*arguments, **keywords)
        return counter.work[0]

    def results(self) -> list[tuple[str, roofline.Work, float]]:
        """(kernel, what it had to do, milliseconds) of every launch, in order."""
        self.backend.synchronize()
        elapsed = self.backend.xp.cuda.get_elapsed_time
        return [(kernel, work, float(elapsed(begin, end))) for kernel, work, begin, end in self._events]


def _strips(backend: Any, args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of an inference by the size of the columns' strips."""
    before, found = (backend.strip_bytes, backend.whole_bytes), {}
    for megabytes in STRIPS:
        backend.strip_bytes = backend.whole_bytes = megabytes << 20
        _, run = _make(args, train=False)
        found[str(megabytes)] = statistics.median(_milliseconds(backend.xp, run, args.runs))
        print(f"strips of {megabytes:4} MB: {found[str(megabytes)]:8.2f} ms")
    backend.strip_bytes, backend.whole_bytes = before
    return found


def _blocks(args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of an inference by how many threads share a row at least."""
    before, found = cuda.WARP, {}
    backend: Any = device.current()
    for lanes in WARPS:
        cuda.WARP = lanes
        _, run = _make(args, train=False)
        found[str(lanes)] = statistics.median(_milliseconds(backend.xp, run, args.runs))
        print(f"{lanes:4} threads a row: {found[str(lanes)]:8.2f} ms")
    cuda.WARP = before
    return found


if __name__ == "__main__":
    sys.exit(main())
