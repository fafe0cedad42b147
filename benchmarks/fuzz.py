"""Feed every reader of files with damaged ones, in processes of their own, and count the failures.

Run `python -m benchmarks.fuzz` (a short pass), `--minutes N` for a long one, `--readers mat png` for some; `--keep DIR`
keeps each input that a reader failed on. A good file of each kind is damaged in one to eight places: bits turned,
bytes set, pieces cut out, doubled, moved or zeroed, numbers made large, the end cut off. A reader may read it or tell
its fault in an `InputError`. Counted as failures: a process that dies, another exception, five seconds of computing,
a gigabyte of memory more than before. The same seed damages the same places.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from PIL import Image

from fcnlite import Net
from fcnlite.data.files import read_image, read_label, read_list
from fcnlite.data.mat import read_matrix
from fcnlite.data.voc import read_classes
from fcnlite.describe import describe
from fcnlite.errors import InputError
from fcnlite.io import SolverSnapshot, read_json, read_state, read_weights, write_state, write_weights
from fcnlite.io.archive import unpack
from fcnlite.io.caffemodel import read_definition
from fcnlite.io.hdf5 import create_hdf5
from fcnlite.net import load
from fcnlite.proto import Datum, read_net, read_solver
from fcnlite.training.plan import Plan, plan_from

SECONDS, MEMORY = 5, 1 << 30  # that one input may take
NET = """
name: "n"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 decay_mult: 0.5 }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }  # a comment
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "score" type: "Deconvolution" bottom: "pool" top: "score"
  convolution_param { num_output: 2 kernel_size: 4 stride: 2 bias_term: false } }
"""
SOLVER = (
    f'net_param {{ {NET} }} base_lr: 1e-3 lr_policy: "step" stepsize: 10 gamma: .1 max_iter: 9 momentum: 0.9'
)


def _arrays() -> dict[str, list[np.ndarray]]:
    draw = np.random.RandomState(0).rand
    return {"conv": [draw(4, 3, 3, 3), draw(4)], "pool": [], "score": [draw(4, 2, 4, 4).astype(np.float32)]}


def _picture(format: str, label: bool = False) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        pixels = np.random.RandomState(0).randint(0, 3 if label else 256, (24, 20, 3)).astype(np.uint8)
        image = Image.fromarray(pixels[:, :, 0] if label else pixels)
        image.save(path, format=format)

    return make


def _mat(path: Path) -> None:
    label = np.random.RandomState(0).randint(0, 9, (12, 10)).astype(np.uint8)
    scipy.io.savemat(path, {"S": label, "names": ["a", "b"]}, do_compression=True)


def _mat_struct(path: Path) -> None:
    label = np.random.RandomState(0).randint(0, 9, (12, 10)).astype(np.uint8)
    scipy.io.savemat(path, {"GTcls": {"Segmentation": label, "Boundaries": np.zeros((3, 3))}})


def _hdf5(path: Path) -> None:
    write_weights(
        path, _arrays(), deploy=NET, notes={"classes": {"score": ["a", "b"]}, "mean_bgr": [1.0, 2.0, 3.0]}
    )


def _plain_hdf5(path: Path) -> None:
    """As h5py makes it, compressed, with texts in a heap."""
    with h5py.File(path, "w") as file:
        for layer, arrays in _arrays().items():
            group = file.create_group(f"data/{layer}")
            for i, array in enumerate(arrays):
                group.create_dataset(str(i), data=array, compression="gzip")


def _rows(path: Path) -> None:
    with create_hdf5(path) as file:
        file.create_dataset("data", data=np.zeros((4, 3), np.float32))


def _database(path: Path) -> None:
    """Records of pictures, encoded and not, in a tree of two levels."""
    import lmdb

    buffer = io.BytesIO()
    pixels = np.random.RandomState(0).randint(0, 256, (24, 20, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    plain = Datum(channels=3, height=24, width=20, data=pixels.transpose(2, 0, 1).tobytes(), label=1)
    encoded = Datum(encoded=True, data=buffer.getvalue(), label=2)
    with lmdb.open(os.fspath(path), subdir=False, map_size=1 << 20, lock=False) as environment:
        with environment.begin(write=True) as transaction:
            for number in range(12):
                record = encoded if number % 3 else plain
                transaction.put(b"%08d" % number, record.SerializeToString())


def _read_database(path: Path) -> None:
    layer = (
        'layer { name: "d" type: "Data" top: "data" data_param { source: "%s" batch_size: 1 backend: LMDB } }'
    )
    net = Net(layer % path, phase="TEST")
    for _ in range(13):
        net.forward()


def _state(path: Path) -> None:
    history = [array for arrays in _arrays().values() for array in arrays]
    write_state(path, SolverSnapshot(7, 1, "w.h5", history, np.arange(625, dtype=np.uint32)))


def _zip(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("a/b.txt", "a/c.txt"):
            file.writestr(name, "text " * 20)


def _tar(path: Path) -> None:
    import tarfile

    with tarfile.open(path, "w:gz") as file:
        for name in ("a/b.txt", "a/c.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 100
            file.addfile(entry, io.BytesIO(b"x" * 100))


def _settings(path: Path) -> None:
    plan = plan_from({"data_set": "shapes"}, Path("run"))
    path.write_text(json.dumps({"plan": plan.to_json()}))


def _read_settings(path: Path) -> object:
    return Plan.from_json(read_json(path, {"plan": dict[str, Any]})["plan"], path)


def _read_rows(path: Path) -> object:
    source = path.with_suffix(".txt")
    source.write_text(f"{path}\n")
    layer = 'layer { name: "d" type: "HDF5Data" top: "data" hdf5_data_param { source: "%s" batch_size: 2 } }'
    return Net(layer % source, phase="TEST").forward()


def _both(*readers: Callable[[Path], object]) -> Callable[[Path], object]:
    """Read with several readers; an `InputError` of one does not spare the next."""

    def read(path: Path) -> None:
        errors = []
        for reader in readers:
            try:
                reader(path)
            except InputError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    return read


def _unpack(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        unpack(path, Path(folder))


def _text(content: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_text(content)

    return make


# Name: suffix, maker of a good file, reader.
READERS: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], object]]] = {
    "caffemodel": (
        ".caffemodel",
        lambda path: write_weights(path, _arrays(), net=read_net(NET)),
        _both(read_weights, read_definition),
    ),
    "hdf5": (".h5", _hdf5, read_weights),
    "hdf5-gzip": (".h5", _plain_hdf5, read_weights),
    "net": (".h5", _hdf5, load),
    "inspect": (".h5", _hdf5, lambda path: str(describe(os.fspath(path)))),
    "solverstate": (".solverstate", _state, read_state),
    "solverstate-hdf5": (".solverstate.h5", _state, read_state),
    "hdf5data": (".h5", _rows, _both(_read_rows, describe)),
    "lmdb": (".mdb", _database, _both(_read_database, describe)),
    "npy": (".npy", lambda path: np.save(path, np.arange(12.0).reshape(3, 4)), describe),
    "prototxt": (".prototxt", _text(NET), lambda path: Net(read_net(path), phase="TEST")),
    "solver": (".prototxt", _text(SOLVER), read_solver),
    "mat": (".mat", _mat, lambda path: read_matrix(path, "S")),
    "mat-struct": (".mat", _mat_struct, lambda path: read_matrix(path, "GTcls", "Segmentation")),
    "jpeg": (".jpg", _picture("JPEG"), read_image),
    "png": (".png", _picture("PNG"), read_image),
    "gif": (".gif", _picture("GIF"), read_image),
    "tiff": (".tif", _picture("TIFF"), read_image),
    "webp": (".webp", _picture("WEBP"), read_image),
    "bmp": (".bmp", _picture("BMP"), read_image),
    "ppm": (".ppm", _picture("PPM"), read_image),
    "label": (".png", _picture("PNG", label=True), lambda path: read_label(path, 3)),
    "list": (".txt", _text("2007_000032\n2007_000039\n"), read_list),
    "classes": (".txt", _text("background\ncat\ndog\n"), read_classes),
    "settings": (".json", _settings, _read_settings),
    "zip": (".zip", _zip, _unpack),
    "tar": (".tar.gz", _tar, _unpack),
}


def damaged(good: bytes, draw: random.Random) -> bytes:
    """A copy of a file, damaged in one to eight places."""
    data = bytearray(good)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        if not data:
            break
        at, length = draw.randrange(len(data)), draw.choice((1, 2, 4, 8, 16, 64))
        kind = draw.randrange(9)
        if kind == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at] = draw.randrange(256)
        elif kind == 2:
            data[at : at + length] = bytes(len(data[at : at + length]))
        elif kind == 3:
            data[at : at + length] = b"\xff" * len(data[at : at + length])
        elif kind == 4:
            del data[at : at + length]
        elif kind == 5:
            data[at:at] = data[at : at + length]
        elif kind == 6:
            to = draw.randrange(len(data))
            data[to : to + length] = data[at : at + length]
        elif kind == 7:
            number = draw.choice((0x7FFFFFFF, 0xFFFFFFFF, 1 << 31, 1 << 16, 255, 0))
            data[at : at + 4] = number.to_bytes(4, draw.choice(("little", "big")))
        elif draw.random() < 0.2:
            del data[at:]
    return bytes(data)


def work(name: str, seed: int, first: int, count: int) -> None:
    """Read damaged files one after the other; a line on standard output before each, and after each failure."""
    import resource

    suffix, make, read = READERS[name]
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        make(path)
        good = path.read_bytes()
        read(path)  # a good file must be read
        at_first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(first, first + count):
            print(f"at {number}", flush=True)
            path.write_bytes(damaged(good, random.Random(f"{seed} {name} {number}")))
            try:
                read(path)
            except InputError:
                pass
            except Exception as error:  # the failure that is looked for
                print(
                    f"traceback {number} {type(error).__name__}: {' '.join(str(error).split())[:150]}",
                    flush=True,
                )
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - at_first
            if used * 1024 > MEMORY:
                print(f"memory {number} {used >> 10} MB", flush=True)
                os._exit(0)
    print("done", flush=True)


def good_file(name: str) -> bytes:
    """The bytes that are damaged for a reader."""
    suffix, make, _ = READERS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        make(path)
        return path.read_bytes()


class Watch:
    """Runs workers and counts what they fail on.

    Parameters
    ----------
    seed : int
    keep : Path, optional
        Folder for the inputs that failed.
    """

    def __init__(self, seed: int, keep: Path | None = None) -> None:
        self.seed, self.keep = seed, keep
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def feed(self, name: str, first: int, count: int) -> None:
        """Read `count` damaged files of a kind, with as many processes as it takes."""
        end = first + count
        while first < end:
            command = self.worker(name, first, end - first)
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                first = self._watch(name, process, first, end)
        self.counts[name] += count

    def worker(self, name: str, first: int, count: int) -> list[str]:
        """The command that reads `count` damaged files, as `work` does."""
        return [
            sys.executable,
            "-m",
            "benchmarks.fuzz",
            "--worker",
            name,
            *map(str, (self.seed, first, count)),
        ]

    def _watch(self, name: str, process: subprocess.Popen[bytes], first: int, end: int) -> int:
        """Follow a worker to its end; returns the number of the next input to read."""
        assert process.stdout is not None
        at, begun, rest = first - 1, _seconds(process.pid), b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(timeout=1):
                    part = os.read(process.stdout.fileno(), 1 << 16)
                    if not part:
                        break
                    *lines, rest = (rest + part).split(b"\n")
                    for line in map(bytes.decode, lines):
                        if line == "done":
                            process.wait()
                            return end
                        kind, number, *_ = line.split()
                        at, begun = int(number), _seconds(process.pid)
                        if kind != "at":
                            self._fail(name, kind, at, line)
                elif at >= first and _seconds(process.pid) - begun > SECONDS:
                    process.send_signal(signal.SIGKILL)
                    self._fail(name, "hang", at, f"hang {at}")
                    process.wait()
                    return at + 1
        if at < first:
            raise SystemExit(f"{name}: the reader fails on a good file")
        if (status := process.wait()) != 0:
            self._fail(name, "crash", at, f"crash {at} status {status}")
        return at + 1

    def _fail(self, name: str, kind: str, number: int, line: str) -> None:
        self.counts[kind] += 1
        self.failures.append(f"{name}: {line}")
        print(f"{name}: {line}", file=sys.stderr)
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
            data = damaged(good_file(name), random.Random(f"{self.seed} {name} {number}"))
            (self.keep / f"{name}-{kind}-{number}{READERS[name][0]}").write_bytes(data)


def _seconds(number: int) -> float:
    """The seconds that a process has computed."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fuzzer and print the counts; returns 1 if a reader failed."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--worker"]:
        work(words[1], *map(int, words[2:]))
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS), metavar="NAME")
    parser.add_argument(
        "--count", type=int, default=200, metavar="N", help="inputs of each kind (default: 200)"
    )
    parser.add_argument("--minutes", type=float, default=0, help="go on with further inputs for so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the inputs that failed here")
    given = parser.parse_args(words)
    watch, begun, first = Watch(given.seed, given.keep), time.monotonic(), 0
    while first == 0 or time.monotonic() - begun < 60 * given.minutes:
        for name in given.readers:
            watch.feed(name, first, given.count)
        first += given.count
    failed = {kind: watch.counts[kind] for kind in ("crash", "hang", "traceback", "memory")}
    print(f"{sum(watch.counts[name] for name in given.readers):,} inputs for {len(given.readers)} readers")
    names = {"crash": "crashes", "hang": "hangs", "traceback": "tracebacks", "memory": "over 1 GB"}
    print(", ".join(f"{names[kind]}: {count}" for kind, count in failed.items()))
    return int(bool(watch.failures))


if __name__ == "__main__":
    sys.exit(main())
