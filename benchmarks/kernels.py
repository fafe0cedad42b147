"""NVRTC's result for every kernel, without a GPU: registers, stack, instructions by kind."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks import nvrtc
from fcnlite.backend.source import source
from fcnlite.commands.options import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one table for each compute capability and precision asked for."""
    parser = Parser("benchmarks.kernels", description=f"{__doc__} `pip install fcnlite[nvrtc]` brings it.")
    known = nvrtc.architectures()
    parser.add_argument(
        "--arch", type=int, nargs="+", choices=known, default=known, help="compute capabilities times ten"
    )
    parser.add_argument("--double", action="store_true", help="compile with double instead of float")
    chosen = parser.parse_args(arguments)
    real = "double" if chosen.double else "float"

    print(f"NVRTC {nvrtc.version()}, real = {real}")
    for arch in chosen.arch:
        kernels = nvrtc.examine(source(), nvrtc.options(real, arch))
        print(f"\nsm_{arch}")
        print(
            f"{'kernel':28}{'registers':>10}{'stack':>7}{'local':>7}{'double':>8}{'shared':>8}{'instructions':>14}"
        )
        for kernel in kernels.values():
            print(
                f"{kernel.name:28}{kernel.registers:10}{kernel.stack:7}{kernel.local:7}{kernel.double:8}"
                f"{kernel.shared:8}{kernel.instructions:14}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
