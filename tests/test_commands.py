"""`fcnlite COMMAND`: help, version, near misses, exit statuses, closed pipes and Ctrl-C, for every command alike."""

from __future__ import annotations

import ast
import importlib
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ends, python

import fcnlite
from fcnlite.__main__ import main
from fcnlite.commands import COMMANDS

ROOT = Path(__file__).parents[1]


def test_without_a_word_or_with_help_it_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["-h"], ["--help"]):
        assert ends(main, words) == 0
        told = capsys.readouterr().out
        assert all(f"  fcnlite {name} " in told and about in told for name, about in COMMANDS.items())


def test_the_list_is_the_folder() -> None:
    files = {path.stem for path in (ROOT / "fcnlite" / "commands").glob("*.py")}
    assert files == {*COMMANDS, "__init__", "options", "paper"}


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("-V", "--version"):
        assert ends(main, [option]) == 0
        assert capsys.readouterr().out == f"fcnlite {fcnlite.__version__}\n"


@pytest.mark.parametrize(
    "word, told",
    [
        ("trian", "unknown command 'trian'; did you mean 'train'?"),
        ("Predict", "unknown command 'Predict'; did you mean 'predict'?"),
        ("xyzzy", "unknown command 'xyzzy' (fcnlite --help"),
        ("--verson", "unknown option '--verson'; did you mean '--version'?"),
        ("", "unknown command ''"),
    ],
)
def test_a_misspelt_command_gets_the_nearest(
    word: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(main, [word, "shapes"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fcnlite: error: {told}") and error.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(main, [name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: fcnlite {name} ")


@pytest.mark.parametrize(
    "words, near",
    [
        (["train", "shapes", "--iteration", "5"], "--iterations"),
        (["evaluate", "voc", "--weight=x.h5", "--weights", "y.h5"], "--weights"),
        (["predict", "a.jpg", "--weights", "w.h5", "--out", "o", "--devcie", "cpu"], "--device"),
        (["predict", "a.jpg", "--weigths", "w.h5", "--out", "o"], "--weights"),  # a required one
        (["table", "voc", "--papr", "cvpr"], "--paper"),
        (["table", "voc", "--Paper", "cvpr"], "--paper"),
        (["solve", "s.prototxt", "--weight", "w.h5"], "--weights"),
        (["inspect", "fcn8s", "--sise", "3x3"], "--size"),
        (["convert", "a", "b", "--prototext", "c"], "--prototxt"),
        (["download", "--lst"], "--list"),
        (["hha", "a", "b", "--camra"], "--camera"),
    ],
)
def test_a_misspelt_option_gets_the_nearest(
    words: list[str], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(main, words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fcnlite {words[0]}: error: ") and error.count("\n") == 1
    assert f"did you mean {near}?" in error


def test_train_hands_no_prototxt_to_another_parser(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(main, ["train", "solver.prototxt"]) == 2
    assert "use: fcnlite solve solver.prototxt" in capsys.readouterr().err
    assert ends(main, ["train", "shapes", "--init", "x.prototxt", "--bad", "1"]) == 2
    assert capsys.readouterr().err.startswith("fcnlite train: error: unrecognized arguments: --bad")


def test_the_console_script_is_declared() -> None:
    assert 'fcnlite = "fcnlite.__main__:main"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("command", [["fcnlite"], ["fcnlite.train"], ["fcnlite", "train"]])
def test_doors_to_train(command: list[str]) -> None:
    words = python("-m", *command, *([] if command == ["fcnlite"] else ["--help"]))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("fcnlite" if command == ["fcnlite"] else "usage: fcnlite train ")


@pytest.mark.parametrize("words", [["--help"], ["inspect", "fcn8s"], ["train", "--help"]])
def test_a_closed_pipe_is_no_traceback(words: list[str]) -> None:
    with subprocess.Popen(
        python("-m", "fcnlite", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == ""
        assert run.wait() in (128 + signal.SIGPIPE, 0)  # 0: argparse passes over a closed pipe


def test_standard_output_may_be_closed() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m fcnlite --version >&-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_in_a_script_is_one_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import signal; signal.raise_signal(signal.SIGINT)")
    done = subprocess.run(python("-m", "fcnlite.caffe", script), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "\nfcnlite caffe: interrupted\n")
    script.write_text("raise OSError('its own')")
    done = subprocess.run(
        python("-m", "fcnlite", "caffe", script), capture_output=True, text=True, check=False
    )
    assert (
        done.returncode == 1 and "Traceback" in done.stderr
    )  # the script's error, not one of the command line


def test_starting_loads_neither_numpy_nor_the_commands() -> None:
    code = "import sys, fcnlite.__main__ as m; m.main(['--version']); print(*sys.modules)"
    done = subprocess.run(python("-c", code), capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not {"numpy", "tqdm", "PIL", "fcnlite.commands.train", "fcnlite.device"} & set(loaded)


def _distributions() -> set[str]:
    """Names of everything that pyproject.toml declares, extras included."""
    text = (ROOT / "pyproject.toml").read_text()
    declared = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)
    extras = re.search(r"^\[project\.optional-dependencies\]\n(.*?)^\[project", text, re.M | re.S)
    assert declared and extras
    return {
        name.lower() for name in re.findall(r'"([A-Za-z][\w-]*)(?:\[.*?\])?[>=<";]', declared[1] + extras[1])
    }


# Where the name of the distribution is another than that of the module.
DISTRIBUTION = {
    "PIL": "pillow",
    "google": "protobuf",
    "cupy": "cupy-cuda12x",
    "cupy_backends": "cupy-cuda12x",
    "cuda": "cuda-bindings",
    "elftools": "pyelftools",
}


@pytest.mark.parametrize("folder", ["fcnlite", "benchmarks"])
def test_every_import_is_declared(folder: str) -> None:
    imported = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").split(".")[0])
    foreign = imported - sys.stdlib_module_names - {"fcnlite", "benchmarks"}
    declared = _distributions()
    assert {"numpy", "pillow", "lmdb", "ruff"} <= declared
    missing = {name for name in foreign if DISTRIBUTION.get(name, name).lower() not in declared}
    assert not missing


def test_nothing_declared_goes_unused() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    declared = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)
    assert declared
    modules = {distribution: module for module, distribution in DISTRIBUTION.items()}
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "fcnlite").rglob("*.py"))
    for name in re.findall(r'"([\w-]+)[>=<]', declared[1]):
        module = modules.get(name, name)
        assert re.search(rf"^\s*(import|from) {module}\b", sources, re.M), name


def test_every_command_module_has_a_main() -> None:
    for name in COMMANDS:
        assert callable(importlib.import_module(f"fcnlite.commands.{name}").main)
