"""README.md: its commands can be given, its snippets run, its extras are all, and a package index finds pictures."""

from __future__ import annotations

import email
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import NARROW, draw, ends
from PIL import Image

from fcnlite import models
from fcnlite.commands.predict import main as predict
from fcnlite.commands.report import main as report
from fcnlite.commands.train import main as train
from fcnlite.convolutionalise import fresh
from fcnlite.io import write_weights
from fcnlite.proto import to_text

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
START = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", README + START, re.MULTILINE | re.DOTALL)
LINES = re.findall(r"^    ((?:fcnlite|python) .*)$", README + START, re.MULTILINE)
COMMANDS = sorted({line.split("   ")[0].strip() for line in LINES})
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_given(command: str) -> None:
    _, name, *arguments = shlex.split(command, comments=True)
    module = importlib.import_module(f"fcnlite.commands.{name}")
    parser = module.parser if hasattr(module, "parser") else module._parser
    parser().parse_intermixed_args(arguments)


def test_the_first_commands_work_on_what_the_demo_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [command for command in COMMANDS if "runs/shapes-fcn8s" in command]
    assert [command.split()[1] for command in first] == ["predict", "report"]
    monkeypatch.chdir(tmp_path)
    drawn = draw(tmp_path / "drawn")
    run = Path("runs/shapes-fcn8s")
    given = ["voc", "--net", "fcn8s", "--data", drawn, "--out", run, *NARROW, "--iterations", 1, "--lr", 0.01]
    assert ends(train, given) == 0
    (run / "data").symlink_to(drawn)
    for command in first:
        _, name, *arguments = shlex.split(command.replace("00020?", "00000?"), comments=True)
        assert {"predict": predict, "report": report}[name](arguments) == 0, command
    assert Path("runs/shapes-fcn8s/report.html").is_file() and list(Path("segmented").glob("000001*"))


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.split("\n")[0])
def test_every_snippet_runs_and_names_nothing_unknown(snippet: str, tmp_path: Path) -> None:
    net = models.build("fcn8s", classes=21, width=2, fc=4, deploy=True)
    (tmp_path / "weights-here").mkdir()
    write_weights(tmp_path / "weights-here" / "fcn8s.h5", fresh(net), net=net, deploy=to_text(net))
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "photo.jpg")
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, timeout=200,
        env={**os.environ, "FCNLITE_DEVICE": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]


def test_the_table_of_extras_has_all_of_them() -> None:
    declared = (
        (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1]
    )
    extras = re.findall(r"^([\w-]+) = \[", declared.split("\n[")[0], re.MULTILINE)
    table = README.split("| extra |")[1].split("\n\n")[0]
    named = [name for row in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(extras)


def long_description(address: str, folder: Path) -> str:
    """The description in the metadata that a build of the package has."""
    code = f"from hatchling.build import prepare_metadata_for_build_wheel as make; make({str(folder)!r})"
    environment = {**os.environ, "FCNLITE_REPOSITORY": address}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True)
    (path,) = folder.glob("*.dist-info/METADATA")
    found = email.message_from_string(path.read_text(encoding="utf-8"))
    assert found["Description-Content-Type"] == "text/markdown"
    text = found.get_payload()
    assert isinstance(text, str)
    return text


def test_the_packages_description_has_absolute_links(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the extra 'test' is not installed")
    home = "https://example.org/owner/fcnlite"
    links = LINK.findall(long_description(home, tmp_path))
    assert len(links) == len(LINK.findall(README)) > 15
    assert all(target.startswith(("https://", "#")) for _, target in links)
    pictures = [target for mark, target in links if mark]
    assert pictures and all(target.startswith(f"{home}/raw/HEAD/docs/") for target in pictures)
    own = [target.removeprefix(f"{home}/") for _, target in links if target.startswith(home)]
    assert not [path for path in own if not (ROOT / path.split("/", 2)[2].partition("#")[0]).exists()]


def test_in_the_repository_links_are_relative() -> None:
    targets = [target for _, target in LINK.findall(README)]
    assert not [
        t for t in targets if not t.startswith("https://") and not (ROOT / t.partition("#")[0]).exists()
    ]
