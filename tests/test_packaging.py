"""The distribution: an sdist, the wheel built from it, and that wheel in another environment and folder."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnlite import models
from fcnlite.convolutionalise import fresh
from fcnlite.io import write_weights
from fcnlite.proto import to_text

ROOT = Path(__file__).resolve().parent.parent


def run(command, folder, **environment):
    """The output of a command that must succeed, run without this checkout on Python's path."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    result = subprocess.run(
        [str(word) for word in command], cwd=folder, env=clean | environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """(sdist, wheel), the wheel built from what is in the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """The Python of a new environment that has the wheel, and its dependencies from the present one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--no-deps",
            "--no-index",
            distributions[1],
        ],
        folder,
    )
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path named in a .pth file is searched, its own .pth files are not: the checkout stays out of reach.
    (packages / "dependencies.pth").write_text(str(Path(np.__file__).parents[1]))
    return python


def test_the_wheel_holds_what_the_program_needs(distributions):
    names = zipfile.ZipFile(distributions[1]).namelist()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "fcnlite").rglob("*.py")}
    kernels = {f"fcnlite/kernels/{path.name}" for path in (ROOT / "kernels").iterdir()}
    assert modules | kernels | {"fcnlite/weights/catalogue.json", "fcnlite/py.typed"} <= set(names)
    assert not [name for name in names if not name.startswith("fcnlite")], "a wheel installs one package"
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_the_sdist_holds_what_the_tests_need(distributions):
    with tarfile.open(distributions[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"LICENSE", "Makefile", "README.md", "pyproject.toml", "kernels/rows.cuh"} <= names
    assert "tests/test_packaging.py" in names and "benchmarks/kernels.py" in names


def test_the_installed_package_stands_alone(installed, tmp_path):
    code = "import fcnlite.resources as r; print(r.__file__, r.kernels_folder(), r.weights_folder())"
    for path in run([installed, "-c", code], tmp_path).split():
        assert Path(path).is_relative_to(installed.parent.parent)


def test_the_installed_package_predicts(installed, tmp_path):
    net = models.build("fcn8s", classes=21, width=4, fc=8, deploy=True)
    write_weights(tmp_path / "narrow.h5", fresh(net), net=net, deploy=to_text(net))
    Image.new("RGB", (50, 40), (90, 120, 150)).save(tmp_path / "photo.png")
    options = ["--weights", "narrow.h5", "--out", "predicted"]
    cache = str(tmp_path / "cache")
    run([installed.parent / "fcnlite", "predict", "photo.png", *options], tmp_path, FCNLITE_CACHE=cache)
    labels = [Image.open(path) for path in (tmp_path / "predicted").glob("photo*.png")]
    assert any(label.mode == "P" and label.size == (50, 40) for label in labels)
