"""Full-size FCN-8s here and in other frameworks on the CPU: seconds an image or a training step, peak memory.

    python -m benchmarks.fcn8s [--train] [--peers] [--layers] [--size 500x334] [--runs 5] [--rounds 2]

Each side runs in processes of its own, in turn, so that neither disturbs the other and all meet the same machine.
The weights are random, but for bilinear upsampling. A side is measured where it is installed: PyTorch
by this interpreter or by the one that --torch-python names; with --peers also ONNX Runtime, OpenVINO and MNN, which get
the net as the ONNX file that `fcnlite.export` writes. --layers prints where the time goes here, by convolution.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fcnlite.commands.options import image_size
from fcnlite.surgery import bilinear_weights

_SAMPLE = 9973  # every so many scores are compared


def main() -> int:
    """Measure all sides in turn and print the table."""
    args = _parser().parse_args()
    if args.worker:
        print(json.dumps(_WORKERS[args.worker](args)))
        return 0
    if args.layers:
        return _print_layers(args)
    sides = ["fcnlite", "fast", "torch", *(_PEERS if args.peers and not args.train else ())]
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in sides if _installed(side, args)}
    with tempfile.TemporaryDirectory() as folder:
        args.model = Path(folder) / "net.onnx"
        if results.keys() & _PEERS.keys():
            _spawn("export", args)
        for _ in range(args.rounds):
            for side, rounds in results.items():
                rounds.append(_spawn(side, args))
    what = "training step, momentum included" if args.train else "inference"
    print(
        f"{args.net}, {what}, one image of {args.size[0]} x {args.size[1]}, {args.runs} runs in {args.rounds} rounds"
    )
    for side in sides:
        _print_side(side, results)
    return 0


def _print_side(side: str, results: dict[str, list[dict[str, Any]]]) -> None:
    """A line of the table: times, their ratio to fcnlite's, memory, and how far the scores are from fcnlite's."""
    name = "fcnlite --fast" if side == "fast" else side
    if side not in results:
        print(f"  {name:14}  not installed")
        return
    rounds, ours = results[side], results["fcnlite"]
    seconds = [s for r in rounds for s in r["seconds"]]
    median, least = statistics.median(seconds), min(seconds)
    line = f"  {name:14}  {median:6.2f} s median  {least:6.2f} s best  {max(r['peak_mb'] for r in rounds):6.0f} MB peak"
    line += f"  {_median(ours) / median:5.2f} fcnlite's median over it"
    if "scores" in rounds[0] and side != "fcnlite":
        expected, got = (np.array(r[0]["scores"]) for r in (ours, rounds))
        line += f"  scores {np.abs(got - expected).max() / np.abs(expected).max():.0e} off"
    print(f"{line}  {rounds[0]['version']}")


def _print_layers(args: argparse.Namespace) -> int:
    """Seconds and GFLOP/s by convolution, for an image, against what large products reach in this run."""
    from fcnlite import device

    device.use("cpu", fast=args.fast)
    net, image = _net(args), example(args.size)[0]
    net.infer(data=image)
    net.spent.clear()
    for _ in range(args.runs):
        net.infer(data=image)
    blas, own = _rate(np.matmul), _rate(device.current().gemm)
    print(f"{'layer':16}{'seconds':>9}{'GFLOP':>8}{'GFLOP/s':>9}   ", end="")
    print(f"a large product alone: NumPy's BLAS {blas:.0f} GFLOP/s, fcnlite {own:.0f}")
    for name, (seconds, operations) in net.spent.items():
        if operations:
            print(
                f"{name:16}{seconds / args.runs:9.4f}{operations / args.runs:8.2f}{operations / seconds:9.0f}"
            )
    others = sum(seconds for seconds, operations in net.spent.values() if not operations)
    print(f"{'all others':16}{others / args.runs:9.4f}")
    total = sum(operations for _, operations in net.spent.values()) / args.runs
    print(f"{'in all':16}{sum(seconds for seconds, _ in net.spent.values()) / args.runs:9.4f}{total:8.2f}")
    return 0


def _rate(multiply: Callable[[np.ndarray, np.ndarray, np.ndarray], object]) -> float:
    """GFLOP/s of a product of two 2000 x 2000 matrices, the best of five."""
    a, b, out = (np.ones((2000, 2000), np.float32) for _ in range(3))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        multiply(a, b, out)
        seconds.append(time.perf_counter() - start)
    return 2 * 2000**3 / min(seconds) / 1e9


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fcn8s", description=__doc__.split("\n")[0])
    parser.add_argument("--train", action="store_true", help="time a training step instead of inference")
    parser.add_argument("--peers", action="store_true", help="also measure ONNX Runtime, OpenVINO and MNN")
    parser.add_argument("--layers", action="store_true", help="print seconds and GFLOP/s of each convolution")
    parser.add_argument("--fast", action="store_true", help="with --layers: by Winograd's algorithm")
    parser.add_argument("--net", default="fcn8s", help="net of the catalogue (default: %(default)s)")
    parser.add_argument("--width", type=int, default=64, help=argparse.SUPPRESS)
    parser.add_argument(
        "--size",
        type=image_size,
        default="500x334",
        metavar="HxW",
        help="of the image (default: %(default)s)",
    )
    parser.add_argument("--runs", type=int, default=5, help="timed runs a round (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=2, help="rounds of all sides in turn (default: %(default)s)"
    )
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that can import torch")
    parser.add_argument("--worker", choices=sorted(_WORKERS), help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    return parser


def _installed(side: str, args: argparse.Namespace) -> bool:
    """True if the library of a side can be imported."""
    if side in ("fcnlite", "fast"):
        return True
    python, module = _python(side, args), {"torch": "torch", **_PEERS}[side]
    return (
        subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
    )


def _python(side: str, args: argparse.Namespace) -> str:
    return args.torch_python if side == "torch" else sys.executable


def _spawn(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one side in its own process."""
    size = "x".join(map(str, args.size))
    command = [
        _python(side, args),
        "-m",
        "benchmarks.fcn8s",
        "--worker",
        side,
        "--net",
        args.net,
        "--size",
        size,
    ]
    command += ["--runs", str(args.runs), "--width", str(args.width), "--model", str(args.model)]
    command += ["--train"] if args.train else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _net(args: argparse.Namespace) -> Any:
    """The net with random weights, which notes what its layers take."""
    from fcnlite import models
    from fcnlite.net import Net

    class Watched(Net):
        """A net that adds up each layer's seconds and, of convolutions, GFLOP, in `spent`."""

        def __init__(self, *given: Any, **options: Any):
            super().__init__(*given, **options)
            self.spent: dict[str, tuple[float, float]] = {}

        def forward_node(self, node: Any) -> None:
            start = time.perf_counter()
            super().forward_node(node)
            seconds, operations = self.spent.get(node.layer.name, (0.0, 0.0))
            if node.layer.type == "Convolution":
                operations += 2e-9 * node.layer.blobs[0].count * node.tops[0].count / node.tops[0].channels
            self.spent[node.layer.name] = seconds + time.perf_counter() - start, operations

    options = {} if args.width == 64 else {"width": args.width, "fc": 4 * args.width}
    net = Watched(
        models.build(args.net, deploy=not args.train, **options), phase="TRAIN" if args.train else "TEST"
    )
    fill(net)
    return net


def _fcnlite(args: argparse.Namespace, fast: bool = False) -> dict[str, Any]:
    from fcnlite import device
    from fcnlite.solver import SGDSolver

    device.use("cpu", fast=fast)
    image, label = example(args.size)
    net, version = _net(args), f"NumPy {np.__version__}"
    if not args.train:
        return _timed(lambda: net.infer(data=image), args.runs, version)
    solver = SGDSolver(
        "base_lr: 1e-14\nlr_policy: 'fixed'\nmomentum: 0.99\nweight_decay: 0.0005\n",
        net=net,
        source=iter(lambda: {"data": image, "label": label}, None),
    )
    return _timed(solver.step, args.runs, version)


def _fast(args: argparse.Namespace) -> dict[str, Any]:
    return _fcnlite(args, fast=True)


def _export(args: argparse.Namespace) -> dict[str, Any]:
    """Write the ONNX file, and MNN's from it where that is installed; not timed."""
    from importlib.util import find_spec

    from fcnlite import device
    from fcnlite.export import write_onnx

    device.use("cpu")
    net = _net(args)
    net.blobs["data"].reshape(1, 3, *args.size)
    net.reshape()
    write_onnx(net, args.model, output="score", force=True)
    if find_spec("MNN"):
        made = str(args.model.with_suffix(".mnn"))
        # Not the tool mnnconvert, which installs packages and reports its use.
        convert = "import sys, MNN, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
        command = [
            sys.executable,
            "-c",
            convert,
            "-f",
            "ONNX",
            "--modelFile",
            str(args.model),
            "--MNNModel",
            made,
        ]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return {}


def _onnxruntime(args: argparse.Namespace) -> dict[str, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(args.model), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: example(args.size)[0]}
    return _timed(lambda: session.run(None, feed)[0], args.runs, f"onnxruntime {onnxruntime.__version__}")


def _openvino(args: argparse.Namespace) -> dict[str, Any]:
    import openvino

    image = example(args.size)[0]
    model = openvino.Core().read_model(args.model)
    model.reshape({model.input(0): image.shape})
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", hints)
    return _timed(lambda: compiled([image])[0], args.runs, f"openvino {openvino.__version__.split('-')[0]}")


def _mnn(args: argparse.Namespace) -> dict[str, Any]:
    import os

    import MNN

    image = example(args.size)[0]
    runtime = MNN.nn.create_runtime_manager(
        ({"precision": "high", "numThread": len(os.sched_getaffinity(0))},)
    )
    model = MNN.nn.load_module_from_file(
        str(args.model.with_suffix(".mnn")), [], [], runtime_manager=runtime, shape_mutable=False
    )

    def run() -> np.ndarray:
        given = MNN.expr.placeholder(image.shape, MNN.expr.NCHW)
        given.write(image)
        return np.array(MNN.expr.convert(model.forward([given])[0], MNN.expr.NCHW).read())

    return _timed(run, args.runs, f"MNN {MNN.version()}")


def _torch(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    options = {} if args.width == 64 else {"width": args.width, "fc": 4 * args.width}
    return _timed(
        torch_step(args.net, args.size, args.train, **options), args.runs, f"torch {torch.__version__}"
    )


def torch_step(
    net: str, size: tuple[int, int], train: bool, device: str = "cpu", **options: Any
) -> Callable[[], Any]:
    """Make a function that runs a net of the catalogue in PyTorch once: forward, or a training step."""
    import torch

    from fcnlite import models

    torch.set_grad_enabled(train)
    image, label = (torch.from_numpy(a).to(device) for a in example(size))
    layers = list(models.build(net, deploy=not train, **options).layer)
    rng = np.random.default_rng(0)
    params: dict[str, list[Any]] = {}

    def run() -> Any:
        blobs = {"data": image, "label": label}
        for layer in layers:
            if layer.type == "Input":
                continue
            below = [blobs[name] for name in layer.bottom]
            if layer.type in ("Convolution", "Deconvolution") and layer.name not in params:
                params[layer.name] = _torch_params(rng, layer, below[0].shape[1], train, device)
            blobs[layer.top[0]] = _torch_layer(layer, below, params.get(layer.name, ()), train)
        return blobs[layers[-1].top[0]]

    if not train:
        return run
    run()  # which makes the parameters
    learned = [p for ps in params.values() for p in ps if p.requires_grad]
    optimiser = torch.optim.SGD(learned, lr=1e-14, momentum=0.99, weight_decay=0.0005)

    def step() -> None:
        optimiser.zero_grad(set_to_none=False)
        run().backward()
        optimiser.step()

    return step


def _torch_params(rng: np.random.Generator, layer: Any, channels: int, train: bool, device: str) -> list[Any]:
    import torch

    p = layer.convolution_param
    kernel = p.kernel_size[0]
    first, second = (channels, p.num_output) if layer.type == "Deconvolution" else (p.num_output, channels)
    weight = np.empty((first, second, kernel, kernel), np.float32)
    for part, values in zip(weight, _slices(rng, weight.shape, layer.type)):
        part[...] = values
    learns = train and layer.type == "Convolution"
    tensors = [torch.from_numpy(weight).to(device).requires_grad_(learns)]
    if p.bias_term:
        tensors.append(torch.zeros(p.num_output, device=device, requires_grad=learns))
    return tensors


def _torch_layer(layer: Any, below: list[Any], params: Any, train: bool) -> Any:
    import torch.nn.functional as F

    if layer.type == "Convolution":
        p = layer.convolution_param
        return F.conv2d(
            below[0], *params, stride=p.stride[0] if p.stride else 1, padding=p.pad[0] if p.pad else 0
        )
    if layer.type == "Deconvolution":
        return F.conv_transpose2d(below[0], *params, stride=layer.convolution_param.stride[0])
    if layer.type == "ReLU":
        return F.relu(below[0], inplace=True)
    if layer.type == "Pooling":
        return F.max_pool2d(
            below[0], layer.pooling_param.kernel_size, layer.pooling_param.stride, ceil_mode=True
        )
    if layer.type == "Dropout":
        return F.dropout(below[0], layer.dropout_param.dropout_ratio, training=train)
    if layer.type == "Crop":
        first = layer.crop_param.offset[0]
        height, width = below[1].shape[2:]
        return below[0][:, :, first : first + height, first : first + width].contiguous()
    if layer.type == "Eltwise":
        return below[0] + below[1]
    if layer.type == "SoftmaxWithLoss":
        return F.cross_entropy(below[0], below[1][:, 0].long(), ignore_index=255, reduction="sum")
    raise ValueError(f"layer type {layer.type} is not in this benchmark")


def example(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A random image less its mean, (1, 3, H, W) float32, and labels, (1, 1, H, W) float32."""
    height, width = size
    rng = np.random.default_rng(1)
    image = rng.integers(-110, 146, (1, 3, height, width)).astype(np.float32)
    return image, rng.integers(0, 21, (1, 1, height, width)).astype(np.float32)


def fill(net: Any) -> None:
    """Give a net random weights on its device, but for bilinear upsampling; biases keep what their fillers gave."""
    from fcnlite import device

    rng = np.random.default_rng(0)
    for name, blobs in net.params.items():
        weight = blobs[0].data
        for part, values in zip(weight, _slices(rng, weight.shape, net.layer(name).type)):
            part[...] = device.current().asarray(values)


def _slices(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> Iterator[np.ndarray]:
    """Weights along the first axis, float32: a Deconvolution's bilinear, as FCNs have them, all others He-scaled.

    A slice at a time, so that the measured peak is the net's own.
    """
    if kind == "Deconvolution":
        yield from bilinear_weights(shape)
        return
    deviation = np.float32(np.sqrt(2 / np.prod(shape[1:])))
    for _ in range(shape[0]):
        yield rng.standard_normal(shape[1:], np.float32) * deviation


def _timed(run: Any, runs: int, version: str) -> dict[str, Any]:
    out = run()  # warm up
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    # Of this program alone: getrusage would also count what the parent held when it forked.
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    result = {"seconds": seconds, "peak_mb": peak, "version": version}
    if out is not None:  # scores, not a training step
        result["scores"] = np.asarray(out, np.float64).reshape(-1)[::_SAMPLE].tolist()
    return result


def _median(rounds: list[dict[str, Any]]) -> float:
    return statistics.median(s for r in rounds for s in r["seconds"])


_PEERS = {"onnxruntime": "onnxruntime", "openvino": "openvino", "mnn": "MNN"}  # modules by side
_WORKERS = {
    "export": _export,
    "fast": _fast,
    "fcnlite": _fcnlite,
    "mnn": _mnn,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "torch": _torch,
}

if __name__ == "__main__":
    sys.exit(main())
