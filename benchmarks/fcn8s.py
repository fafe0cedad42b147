"""Full-size FCN-8s here and in PyTorch on the CPU: seconds an image, seconds a training step, peak memory.

    python -m benchmarks.fcn8s [--train] [--size 500x334] [--runs 5] [--rounds 2]

Each side runs in processes of its own, in turn, so that neither disturbs the other and both meet the same machine.
The weights are random: the arithmetic is the same, whatever they are. PyTorch is measured where it can be imported,
by this interpreter or by the one that --torch-python names.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fcnlite.commands.options import image_size


def main() -> int:
    """Measure both sides in turn and print the table."""
    args = _parser().parse_args()
    if args.worker:
        print(json.dumps(_WORKERS[args.worker](args)))
        return 0
    results: dict[str, list[dict[str, Any]]] = {"fcnlite": [], "torch": []}
    for _ in range(args.rounds):
        for side in results:
            result = _spawn(side, args)
            if result is not None:
                results[side].append(result)
    what = "training step, momentum included" if args.train else "inference"
    print(
        f"{args.net}, {what}, one image of {args.size[0]} x {args.size[1]}, {args.runs} runs in {args.rounds} rounds"
    )
    for side, rounds in results.items():
        if not rounds:
            print(f"  {side:8}  not installed")
            continue
        seconds = [s for r in rounds for s in r["seconds"]]
        median, least = statistics.median(seconds), min(seconds)
        peak = max(r["peak_mb"] for r in rounds)
        print(
            f"  {side:8}  {median:6.2f} s median  {least:6.2f} s best  {peak:6.0f} MB peak  {rounds[0]['version']}"
        )
    if results["torch"]:
        ratio = _median(results["fcnlite"]) / _median(results["torch"])
        print(f"  fcnlite takes {ratio:.2f} of PyTorch's time")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fcn8s", description=__doc__.split("\n")[0])
    parser.add_argument("--train", action="store_true", help="time a training step instead of inference")
    parser.add_argument("--net", default="fcn8s", help="net of the catalogue (default: %(default)s)")
    parser.add_argument(
        "--size",
        type=image_size,
        default="500x334",
        metavar="HxW",
        help="of the image (default: %(default)s)",
    )
    parser.add_argument("--runs", type=int, default=5, help="timed runs a round (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=2, help="rounds of both sides in turn (default: %(default)s)"
    )
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that can import torch")
    parser.add_argument("--worker", choices=sorted(_WORKERS), help=argparse.SUPPRESS)
    return parser


def _spawn(side: str, args: argparse.Namespace) -> dict[str, Any] | None:
    """Run one side in its own process; None where it is not installed."""
    python = args.torch_python if side == "torch" else sys.executable
    if (
        side == "torch"
        and subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode
    ):
        return None
    size = "x".join(map(str, args.size))
    command = [python, "-m", "benchmarks.fcn8s", "--worker", side, "--net", args.net, "--size", size]
    command += ["--runs", str(args.runs), *(["--train"] if args.train else [])]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def _fcnlite(args: argparse.Namespace) -> dict[str, Any]:
    from fcnlite import device, models
    from fcnlite.net import Net
    from fcnlite.solver import SGDSolver

    device.use("cpu")
    image, label = example(args.size)
    net = Net(models.build(args.net, deploy=not args.train), phase="TRAIN" if args.train else "TEST")
    rng = np.random.default_rng(0)
    for blobs in net.params.values():
        draw(rng, blobs[0].data)
    if not args.train:
        return _timed(lambda: net.infer(data=image), args.runs, f"NumPy {np.__version__}")
    solver = SGDSolver(
        "base_lr: 1e-14\nlr_policy: 'fixed'\nmomentum: 0.99\nweight_decay: 0.0005\n",
        net=net,
        source=iter(lambda: {"data": image, "label": label}, None),
    )
    return _timed(solver.step, args.runs, f"NumPy {np.__version__}")


def _torch(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    return _timed(torch_step(args.net, args.size, args.train), args.runs, f"torch {torch.__version__}")


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
    draw(rng, weight)
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


def draw(rng: np.random.Generator, weight: np.ndarray) -> None:
    """He-scaled weights in place, a slice at a time so that the measured peak is the net's own."""
    deviation = np.float32(np.sqrt(2 / np.prod(weight.shape[1:])))
    for part in weight:
        part[...] = rng.standard_normal(part.shape, np.float32) * deviation


def _timed(run: Any, runs: int, version: str) -> dict[str, Any]:
    run()  # warm up
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    # Of this program alone: getrusage would also count what the parent held when it forked.
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    return {"seconds": seconds, "peak_mb": peak, "version": version}


def _median(rounds: list[dict[str, Any]]) -> float:
    return statistics.median(s for r in rounds for s in r["seconds"])


_WORKERS = {"fcnlite": _fcnlite, "torch": _torch}

if __name__ == "__main__":
    sys.exit(main())
