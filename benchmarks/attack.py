"""Attack training runs: kills at random moments, two runs in one folder, disks that are full at any size.

Run `python -m benchmarks.attack` (`--kills 100 --pairs 10 --disks 20 --seed 1`); it prints counts and ends with
status 1 if a promise was broken: after a kill the same command, or `--resume`, ends with the bits of the run that was
not killed; of two runs started at once in one folder one goes through, whole; after a full disk the last snapshot is
whole and the run goes on.

Each run is a process that begins in the very first line of the command, so that a kill may come at any moment of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcnlite import convolutionalise, models
from fcnlite.commands import solve, train
from fcnlite.data import shapes
from fcnlite.io import read_state, read_weights, write_weights
from fcnlite.training.run_folder import damage

SOLVER = """
net_param {{
  layer {{ name: "d" type: "DummyData" top: "x" top: "y" dummy_data_param {{ shape {{ dim: 1 dim: 3 dim: 60 dim: 60 }}
    shape {{ dim: 1 dim: 4 dim: 60 dim: 60 }} data_filler {{ type: "constant" value: 1 }}
    data_filler {{ type: "constant" value: 2 }} }} }}
  layer {{ name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {{ num_output: 8 kernel_size: 3 pad: 1
    weight_filler {{ type: "xavier" }} }} }}
  layer {{ name: "drop" type: "Dropout" bottom: "c" top: "c" }}
  layer {{ name: "s" type: "Convolution" bottom: "c" top: "s" convolution_param {{ num_output: 4 kernel_size: 1
    weight_filler {{ type: "xavier" }} }} }}
  layer {{ name: "loss" type: "EuclideanLoss" bottom: "s" bottom: "y" top: "loss" }}
}}
lr_policy: "fixed" base_lr: 1e-6 momentum: 0.9 snapshot_format: HDF5 random_seed: 3 max_iter: 60 snapshot: 10
snapshot_prefix: "{prefix}"
"""
Words = Sequence[object]


@dataclass
class Target:
    """A kind of run to attack.

    Attributes
    ----------
    name : str
    main : callable
        The command.
    begin : callable
        The words that start a run in a folder.
    go_on : callable
        The words that go on with whatever a folder holds.
    result : callable
        All that a finished run leaves but for times and paths.
    """

    name: str
    main: Callable[[Sequence[str]], int]
    begin: Callable[[Path], Words]
    go_on: Callable[[Path], Words]
    result: Callable[[Path], Any]


def targets(folder: Path) -> list[Target]:
    """A run of `fcnlite train`, a chain of two nets whose second starts from the best snapshot, and a solver file."""
    data = shapes.write(folder / "data", train=3, val=1, seed=7)
    usual = ["voc", "--data", data, "--net"]
    small = ["--iterations", 4, "--snapshot", 2, "--device", "cpu", "--threads", 1]
    classifier = folder / "vgg16.h5"
    random_state = np.random.RandomState(0)
    fresh = convolutionalise.fresh(models.vgg16(classes=10, width=1, fc=4))
    write_weights(
        classifier, {k: [0.2 * random_state.randn(*a.shape) for a in arrays] for k, arrays in fresh.items()}
    )
    chain = [
        "fcn16s",
        "--init",
        classifier,
        "--recipe",
        "cvpr15",
        "--iter-size",
        1,
        "--stage-weights",
        "best",
    ]

    def resume(out: Path, started: str, begin: Words) -> Words:
        return ["voc", "--resume", out, "--device", "cpu"] if (out / started).is_file() else begin

    def run(out: Path) -> Words:
        return [*usual, "fcn8s", "--width", 1, "--fc", 4, *small, "--out", out]

    def stages(out: Path) -> Words:
        return [*usual, *chain, *small, "--out", out]

    def solver_file(out: Path) -> Words:
        out.mkdir(exist_ok=True)
        (out / "solver.prototxt").write_text(SOLVER.format(prefix=out / "s"))
        return [out / "solver.prototxt", "--device", "cpu", "--threads", 1]

    def resumed_solver(out: Path) -> Words:
        states = sorted(
            out.glob("s_iter_*.solverstate.h5"), key=lambda path: int(path.name.split("_")[2].split(".")[0])
        )
        return [*solver_file(out), *(["--resume", states[-1]] if states else [])]

    return [
        Target("train", train.main, run, lambda out: resume(out, "settings.json", run(out)), _run_result),
        Target(
            "chain", train.main, stages, lambda out: resume(out, "chain.json", stages(out)), _chain_result
        ),
        Target("solve", solve.main, solver_file, resumed_solver, _solver_result),
    ]


def _run_result(out: Path) -> Any:
    losses = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    scores = {path.name: json.loads(path.read_text()) for path in sorted(out.glob("validation/*.json"))}
    for score in scores.values():
        score.pop("seconds_per_image")
    weights = _bits(read_weights(next(out.glob("fcn*.h5"))))
    return weights, [(r["iteration"], r["loss"], r["images"]) for r in losses], scores


def _chain_result(out: Path) -> Any:
    return [_run_result(stage) for stage in sorted(out.glob("?-fcn*"))], _bits(
        read_weights(out / "fcn16s.h5")
    )


def _solver_result(out: Path) -> Any:
    state = read_state(out / "s_iter_60.solverstate.h5")
    return _bits(read_weights(out / "s_iter_60.caffemodel.h5")), [array.tobytes() for array in state.history]


def _bits(weights: dict[str, list[np.ndarray]]) -> dict[str, list[bytes]]:
    return {layer: [array.tobytes() for array in arrays] for layer, arrays in weights.items()}


def start(target: Target, words: Words, log: Path, file_bytes: int | None = None) -> int:
    """Start a command in a process of its own; returns its number."""
    number = os.fork()
    if number:
        return number
    status = 70
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(told, 1)
        os.dup2(told, 2)
        if file_bytes is not None:
            import resource

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        status = target.main([str(word) for word in words])
    except BaseException as error:  # the parent reads it in the log
        print(f"Traceback: {error!r}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        os._exit(status)


def end(number: int) -> int:
    """Wait for a process; returns its exit status, negative for a signal."""
    _, status = os.waitpid(number, 0)
    return os.waitstatus_to_exitcode(status)


class Attack:
    """Attacks on the targets, in folders below one.

    Parameters
    ----------
    folder : Path
    seed : int
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.targets = targets(folder)
        self.whole: dict[str, tuple[Any, float]] = {}
        for target in self.targets:
            begun, out = time.monotonic(), folder / f"{target.name}-whole"
            if end(start(target, target.begin(out), folder / "log")):
                raise SystemExit((folder / "log").read_text())
            self.whole[target.name] = target.result(out), time.monotonic() - begun

    def check(self, kind: str, target: Target, out: Path) -> None:
        """Count a finished run as good if it is what the one that nothing disturbed is."""
        try:
            good = target.result(out) == self.whole[target.name][0]
        except (OSError, ValueError, StopIteration, KeyError) as error:
            print(f"{target.name}: {error}", file=sys.stderr)
            good = False
        self.counts[f"{kind} {'good' if good else 'BAD'}"] += 1
        if good:
            shutil.rmtree(out)
        else:
            print(f"{kind}: {out} differs; {(self.folder / 'log').read_text()[-300:]}", file=sys.stderr)

    def kill(self, number: int) -> None:
        """Kill a run at a random moment, once or twice, and go on with it."""
        target = self.targets[number % len(self.targets)]
        out, words = self.folder / f"killed-{number}", None
        for _ in range(self.random.choice((1, 1, 2))):
            process = start(target, words or target.begin(out), self.folder / "log")
            time.sleep(self.random.random() * 0.8 * self.whole[target.name][1])
            os.kill(process, signal.SIGKILL)
            self.counts["kills"] += end(process) == -signal.SIGKILL
            words = target.go_on(out)
        if (out / self.final(target)).exists():
            self.counts["runs that ended before they were killed"] += 1
        elif end(start(target, words or (), self.folder / "log")):
            print((self.folder / "log").read_text(), file=sys.stderr)
        self.check("killed:", target, out)

    def final(self, target: Target) -> str:
        """The last file that a run writes."""
        return {"train": "fcn8s.h5", "chain": "fcn16s.h5", "solve": "s_iter_60.solverstate.h5"}[target.name]

    def pair(self, number: int) -> None:
        """Start two runs at once in one folder."""
        target = self.targets[number % len(self.targets)]
        out = self.folder / f"pair-{number}"
        words = target.begin(out)
        both = [start(target, words, self.folder / f"log-{i}") for i in range(2)]
        statuses = sorted(map(end, both))
        if statuses != [0, 2]:
            told = [(self.folder / f"log-{i}").read_text()[-300:] for i in range(2)]
            print(f"a pair ended with {statuses}: {told}", file=sys.stderr)
            self.counts["pairs: BAD"] += 1
            return
        self.check("pairs:", target, out)

    def fill(self, number: int) -> None:
        """Let no file grow beyond a random size, then go on with room."""
        target = self.targets[number % len(self.targets)]
        out, log = self.folder / f"full-{number}", self.folder / "log"
        size = int(10 ** self.random.uniform(2, 6))
        status = end(start(target, target.begin(out), log, size))
        told = log.read_text(errors="replace")
        if status not in (0, 2) or "Traceback" in told:
            self.counts["full disks: BAD"] += 1
            print(f"a disk with room for {size} bytes: status {status}, {told[-500:]}", file=sys.stderr)
            return
        torn = [fault for state in out.rglob("*.solverstate.h5") if (fault := damage(state))]
        if torn:
            self.counts["full disks: BAD"] += 1
            print(f"a disk with room for {size} bytes: {torn}", file=sys.stderr)
            return
        if not (out / self.final(target)).exists() and end(start(target, target.go_on(out), log)):
            print(log.read_text(), file=sys.stderr)
        self.check("full disks:", target, out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the attacks and print the counts; returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attack", description=__doc__)
    parser.add_argument("--kills", type=int, default=30, metavar="N", help="runs to kill (default: 30)")
    parser.add_argument("--pairs", type=int, default=3, metavar="N", help="pairs of runs (default: 3)")
    parser.add_argument("--disks", type=int, default=6, metavar="N", help="full disks (default: 6)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        attack = Attack(Path(folder), given.seed)
        for number in range(given.kills):
            attack.kill(number)
        for number in range(given.pairs):
            attack.pair(number)
        for number in range(given.disks):
            attack.fill(number)
    for kind, count in sorted(attack.counts.items()):
        print(f"{kind:<42}{count:>6}")
    return int(any("BAD" in kind for kind in attack.counts))


if __name__ == "__main__":
    sys.exit(main())
