"""Dense scores two ways: the net at every shift of the image, and the rarefied net once (paper, section 3.2).

    python -m benchmarks.dense [--net caffenet] [--width 4] [--size 227] [--output conv5] [--device cpu]

Prints what each takes and how far they are apart where no padding inside the net is in sight. The weights are random.
A classifier is made convolutional first; --output ends the net early, or ahead of its upsampling (score_fr).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fcnlite import convolutionalise, dense, device, models
from fcnlite.commands.options import Parser, add_device_options, at_least, guarded, use_device
from fcnlite.errors import InputError
from fcnlite.geometry import measure
from fcnlite.net import Net

PROGRAM = "python -m benchmarks.dense"


@guarded(PROGRAM)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run both forms and compare."""
    args = _parser().parse_args(arguments)
    use_device(args.device, args.threads)
    param = convolutionalise.convolutionalise(models.build(args.net, width=args.width, deploy=True))
    net = Net(dense.ending_at(param, args.output))
    rng = np.random.default_rng(0)
    for blobs in net.params.values():
        for blob in blobs:
            values = rng.standard_normal(blob.shape, np.float32) / np.sqrt(blob.count / blob.shape[0])
            blob.data[...] = device.current().asarray(values)
    image = rng.integers(-110, 146, (1, 3, args.size, args.size)).astype(np.float32)
    last = measure(net.param, (args.size, args.size))[-1]
    assert last.field is not None
    rows, columns = (int(step) for step in last.field.stride)
    stitched, whole = _timed(lambda: dense.shift_and_stitch(net, image))
    rare, once = _timed(lambda: dense.a_trous(net, image))
    exact = (..., *dense.exact_region(net.param, image.shape[2:]))
    height, width = rare[exact].shape[2:]
    if not height * width:
        raise InputError(
            f"every score of a {args.size} x {args.size} image sees padding; give a larger --size"
        )
    difference = np.abs(stitched[exact] - rare[exact]).max() / np.ptp(stitched[exact])
    print(
        f"{args.net} of width {args.width} to {args.output}, {args.size} x {args.size} image, {device.current().name}"
    )
    print(f"  the net itself    {last.shapes[0][2]} x {last.shapes[0][3]} scores, {rows} pixels apart")
    print(
        f"  shift-and-stitch  {rare.shape[2]} x {rare.shape[3]} scores in {rows * columns} passes, {whole:.2f} s"
    )
    print(f"  a trous           {rare.shape[2]} x {rare.shape[3]} scores in 1 pass, {once:.2f} s")
    print(f"  largest difference over {height} x {width} of them: {difference:.1e} of their range")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROGRAM, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--net", default="caffenet", help="net of the catalogue (default: %(default)s)")
    parser.add_argument(
        "--width", type=at_least(1), default=4, help="channels of conv1 (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=at_least(1), default=227, help="side of the image (default: %(default)s)"
    )
    parser.add_argument("--output", default="conv5", help="the blob wanted (default: %(default)s)")
    add_device_options(parser)
    return parser


def _timed(run: Callable[[], Any]) -> tuple[np.ndarray, float]:
    """Return a function's result and the seconds it took."""
    start = time.perf_counter()
    result = device.current().tonumpy(run())
    return result, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
