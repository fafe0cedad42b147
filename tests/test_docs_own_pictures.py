"""docs/own-pictures.md: its commands can be given, and those that look at pictures run as typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import own_pictures as own
import pytest
from commands import ends

from fcnlite.__main__ import main
from fcnlite.commands import data, evaluate, predict, train

PAGE = (Path(__file__).parents[1] / "docs" / "own-pictures.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()
]
PARSERS = {
    "train": train.parser,
    "data": data.parser,
    "evaluate": evaluate.parser,
    "predict": predict.parser,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_given(command: str) -> None:
    program, name, *words = shlex.split(command)
    assert program == "fcnlite"
    PARSERS[name]().parse_intermixed_args(words)


def test_the_data_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own.draw(tmp_path / "my-pictures")
    own.draw(tmp_path, mask=own.colours, images="photos")
    Path("colors.csv").write_text("name,r,g,b\nbackground,0,0,0\ncat,255,0,0\ndog,0,0,255\n")
    commands = [shlex.split(line)[1:] for line in COMMANDS if line.startswith("fcnlite data")]
    assert len(commands) == 3 and all(ends(main, words) == 0 for words in commands)


def test_every_option_the_page_names_exists() -> None:
    known = {option for made in PARSERS.values() for option in made()._option_string_actions}
    named = set(re.findall(r"`(--[a-z-]+)", PAGE))
    assert named <= known, named - known
