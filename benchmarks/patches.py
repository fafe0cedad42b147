"""One pass over an image against the classifier on each of its patches (paper, section 3.1).

    python -m benchmarks.patches [--net caffenet] [--width 96] [--size 500] [--batch 10] [--runs 3] [--device cpu]

On a 500 x 500 image the convolutionalised AlexNet scores a 10 x 10 grid of 227 x 227 patches, 32 pixels apart. The
paper gives 22 ms for that pass on its GPU and 1.2 ms for a patch alone, in batches; backward, 37 ms and 2.4 ms. The
weights are random: the arithmetic is the same, whatever they are. --width 16 makes it a matter of a second.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fcnlite import convolutionalise, device, models, surgery
from fcnlite.commands.options import Parser, add_device_options, at_least, guarded, use_device
from fcnlite.dense import ending_at
from fcnlite.geometry import measure
from fcnlite.net import Net

PROGRAM = "python -m benchmarks.patches"
SCORES = {"caffenet": "fc8", "alexnet": "fc8", "vgg16": "fc8"}


@guarded(PROGRAM)
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both ways and print their ratio."""
    args = _parser().parse_args(arguments)
    use_device(args.device, args.threads)
    classifier, convolutional = nets(args.net, args.width)
    image = np.random.default_rng(1).integers(-110, 146, (1, 3, args.size, args.size)).astype(np.float32)
    patches = cut(image, classifier, convolutional)
    count, side = len(patches), patches.shape[-1]
    batches = [patches[i : i + args.batch] for i in range(0, count, args.batch)]
    width = classifier.params[next(iter(classifier.params))][0].shape[0]
    print(
        f"{args.net} of width {width} on {device.current().name}, {args.size} x {args.size} image, {args.runs} runs"
    )
    for what, both in (("forward", _forwards), ("backward", _backwards)):
        whole = _seconds(both(convolutional, [image]), args.runs)
        single = _seconds(both(classifier, batches), args.runs)
        print(f"  {what:8}  {1000 * whole:9.1f} ms  one pass of the convolutional net")
        print(
            f"  {'':8}  {1000 * single:9.1f} ms  {count} patches of {side} x {side}, in batches of {args.batch}"
        )
        print(f"  {'':8}  {single / whole:9.1f} times faster in one pass")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROGRAM, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--net", default="caffenet", choices=SCORES, help="classifier (default: %(default)s)")
    parser.add_argument("--width", type=at_least(1), help="channels of conv1 (default: the published net's)")
    parser.add_argument(
        "--size", type=at_least(1), default=500, help="side of the image (default: %(default)s)"
    )
    parser.add_argument(
        "--batch", type=at_least(1), default=10, help="patches in a batch (default: %(default)s)"
    )
    parser.add_argument("--runs", type=at_least(1), default=3, help="timed runs (default: %(default)s)")
    add_device_options(parser)
    return parser


def nets(name: str, width: int | None) -> tuple[Net, Net]:
    """A classifier and its convolutional form, with the same random weights."""
    param = models.build(name, width=width, deploy=True)
    classifier = Net(ending_at(param, SCORES[name]))
    rng = np.random.default_rng(0)
    for blobs in classifier.params.values():
        deviation = np.float32(np.sqrt(2 / np.prod(blobs[0].shape[1:])))
        blobs[0].data[...] = device.current().asarray(
            rng.standard_normal(blobs[0].shape, np.float32) * deviation
        )
    convolutional = Net(ending_at(convolutionalise.convolutionalise(param), SCORES[name]))
    surgery.transplant(convolutional, classifier)
    return classifier, convolutional


def cut(image: np.ndarray, classifier: Net, convolutional: Net) -> np.ndarray:
    """The patches that the convolutional net scores in the image; what lies beyond the image is zero."""
    scores = measure(convolutional.param, (image.shape[2], image.shape[3]))[-1]
    assert scores.field is not None
    rows, columns = scores.shapes[0][2:]
    step, side = int(scores.field.stride[0]), classifier.blobs["data"].shape[2]
    whole = np.zeros((3, (rows - 1) * step + side, (columns - 1) * step + side), np.float32)
    height, width = (min(a, b) for a, b in zip(whole.shape[1:], image.shape[2:]))
    whole[:, :height, :width] = image[0, :, :height, :width]
    corners = [(y * step, x * step) for y in range(rows) for x in range(columns)]
    return np.stack([whole[:, y : y + side, x : x + side] for y, x in corners])


def _forwards(net: Net, batches: Sequence[np.ndarray]) -> Callable[[], None]:
    def run() -> None:
        for batch in batches:
            net.infer(net.outputs[0], data=batch)
        device.current().synchronize()

    return run


def _backwards(net: Net, batches: Sequence[np.ndarray]) -> Callable[[], None]:
    # Backward alone, from one batch's activations: the arithmetic is the same for each.
    scores = net.forward(data=batches[0])[net.outputs[0]]
    diffs: dict[str, Any] = {net.outputs[0]: device.current().asarray(np.ones(scores.shape, np.float32))}

    def run() -> None:
        for _ in batches:
            net.clear_param_diffs()
            net.backward(**diffs)
        device.current().synchronize()

    return run


def _seconds(run: Callable[[], Any], runs: int) -> float:
    """Median time of some runs, after one to warm up."""
    run()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
